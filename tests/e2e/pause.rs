//! A proxy stands still and goes on: within its grace nothing is lost, beyond it nothing more is relayed.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;

use crate::harness::proxy::text;
use crate::harness::{Fleet, Imap, Result, eventually};

async fn load_is(fleet: &Fleet, sessions: i64) -> Result {
    eventually(&format!("the load is {sessions}"), Duration::from_secs(25), async || {
        let load = fleet.redis.load().await?;
        ensure!(load.values().sum::<i64>() == sessions, "{load:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn i1_i3_a_proxy_paused_beyond_its_lease_is_revived_with_all_its_sessions() -> Result {
    let fleet = Fleet::plan().proxies(2).start().await?;
    let mut paused = Vec::new();
    for user in &fleet.users {
        paused.push(fleet.proxy().log_in(user).await?);
    }
    fleet.counts_agree().await?;
    fleet.proxy().signal(Signal::STOP)?;
    load_is(&fleet, 0).await?;
    // An orphan: off the load, but whoever comes by the other proxy still joins it.
    let mut joined = Vec::new();
    for (user, session) in fleet.users.iter().zip(&mut paused).take(5) {
        let mut imap = fleet.proxies[1].log_in(user).await?;
        let home = imap.backend().await?;
        let binding = fleet.redis.bindings().await?.remove(&user.name);
        ensure!(binding.is_some_and(|b| b.backend == home), "{} was taken to {home}", user.name);
        joined.push((imap, session.begin("NOOP").await?));
    }
    fleet.proxy().signal(Signal::CONT)?;
    load_is(&fleet, 15).await?;
    for ((_, tag), session) in joined.iter().zip(&mut paused) {
        session.answer(tag).await?.ok()?;
    }
    for session in &mut paused {
        session.command("NOOP").await?.ok()?;
    }
    fleet.counts_agree().await?;
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn i1_a_proxy_paused_beyond_its_grace_closes_its_sessions_before_it_relays_another_byte() -> Result {
    let times = "[fleet]\norphan_grace = \"6s\"";
    // Many, for what is tested is a race: of sockets that are readable against the heartbeat that finds the lease gone.
    let fleet = Fleet::plan().proxies(2).users(60).config(times).start().await?;
    let mut paused: Vec<Imap> = Vec::new();
    for user in &fleet.users {
        paused.push(fleet.proxy().log_in(user).await?);
    }
    fleet.counts_agree().await?;
    fleet.proxy().signal(Signal::STOP)?;
    eventually("the orphan is freed", Duration::from_secs(60), async || {
        ensure!(fleet.redis.sessions().await? == 0, "{:?}", fleet.redis.bindings().await?);
        Ok(())
    })
    .await?;
    // These bytes lie in the paused proxy's sockets when it goes on.
    for session in &mut paused {
        session.begin("CREATE Astray").await?;
    }
    fleet.proxy().signal(Signal::CONT)?;
    for session in &mut paused {
        let last = String::from_utf8_lossy(&session.lost().await?).into_owned();
        ensure!(last.is_empty() || last.starts_with("* BYE"), "relayed: {last:?}");
    }
    for user in &fleet.users {
        let ending = fleet.proxy().ending_of(&user.name).await?;
        ensure!(text(&ending, "ending") == "isolated", "{ending}");
    }
    fleet.empty().await?;
    // The backends' word for it: not a byte came after the logins.
    let witness = fleet.witness()?;
    ensure!(witness.visits.len() == 60);
    let astray: Vec<_> = witness.visits.iter().filter(|visit| visit.received != Some(0)).collect();
    ensure!(astray.is_empty(), "{} sessions were sent bytes, such as {:?}", astray.len(), astray.first());
    // And the proxy is of use again.
    fleet.proxy().log_in(&fleet.users[0]).await?;
    fleet.empty().await
}
