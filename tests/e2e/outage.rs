//! I6: Redis is gone or stands still; mail goes on where it can.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;

use crate::harness::{Fleet, Imap, Result, Status, User, eventually};

/// Much longer than anybody is kept waiting for a store that does not answer.
const LOGIN_WAIT: &str = "[store]\ntimeout = \"1s\"\n[fleet]\nlogin_wait = \"60s\"";

/// What must hold while the store cannot be asked.
async fn holds_without_a_store(fleet: &Fleet, live: &mut Imap, known: &User, strangers: &[User]) -> Result {
    live.command("NOOP").await?.ok()?;
    let mut joined = fleet.proxy().log_in(known).await?;
    ensure!(joined.backend().await? == live.backend().await?);
    joined.logout().await?;
    for stranger in strangers {
        let mut imap = Imap::connect(fleet.proxy().address()).await?;
        let begun = Instant::now();
        let answer = imap.try_login(stranger).await?;
        ensure!(answer.status == Status::No && answer.text.starts_with("[UNAVAILABLE]"), "{answer:?}");
        ensure!(begun.elapsed() < Duration::from_secs(25), "kept waiting for {:?}", begun.elapsed());
    }
    live.append("INBOX", "Subject: still here\r\n\r\nbody\r\n").await?;
    Ok(())
}

async fn recovers(fleet: &Fleet, user: &User) -> Result {
    eventually("logins are served again", Duration::from_secs(60), async || fleet.proxy().log_in(user).await.map(drop))
        .await?;
    fleet.counts_agree().await?;
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn i6_without_redis_sessions_go_on_known_users_log_in_and_others_are_told_to_come_later() -> Result {
    let mut fleet = Fleet::plan().config(LOGIN_WAIT).start().await?;
    let mut live = fleet.proxy().log_in(&fleet.users[0]).await?;
    fleet.redis.kill();
    holds_without_a_store(&fleet, &mut live, &fleet.users[0], &fleet.users[1..4]).await?;
    fleet.redis.launch().await?;
    recovers(&fleet, &fleet.users[1]).await?;
    live.command("NOOP").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn i6_while_redis_hangs_the_same_holds() -> Result {
    let fleet = Fleet::plan().config(LOGIN_WAIT).start().await?;
    let mut live = fleet.proxy().log_in(&fleet.users[0]).await?;
    fleet.redis.daemon()?.signal(Signal::STOP)?;
    let held = holds_without_a_store(&fleet, &mut live, &fleet.users[0], &fleet.users[1..3]).await;
    fleet.redis.daemon()?.signal(Signal::CONT)?;
    held?;
    recovers(&fleet, &fleet.users[1]).await?;
    live.command("NOOP").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn i6_a_proxy_started_without_redis_waits_for_it() -> Result {
    let mut fleet = Fleet::plan().start_without_proxies().await?;
    fleet.redis.kill();
    let since = fleet.proxies[0].spawn()?;
    let address = fleet.proxy().address();
    eventually("it says what it waits for", Duration::from_secs(60), async || {
        let lines = fleet.proxy().lines_since(since)?;
        let redis = fleet.redis.address.to_string();
        ensure!(lines.iter().any(|line| line.to_string().contains(&redis)), "{lines:?}");
        Ok(())
    })
    .await?;
    ensure!(Imap::dial(address).await.is_err(), "a listener is open that can serve nobody");
    fleet.redis.launch().await?;
    fleet.proxies[0].ready_since(since).await?;
    fleet.proxy().log_in(&fleet.users[0]).await?;
    Ok(())
}

#[tokio::test]
async fn i6_an_outage_shorter_than_the_grace_disconnects_nobody() -> Result {
    let mut fleet = Fleet::plan().proxies(2).config("[fleet]\nlease = \"1s\"").start().await?;
    let mut open = Vec::new();
    for (n, user) in fleet.users.iter().enumerate() {
        open.push(fleet.proxies[n % 2].log_in(user).await?);
    }
    fleet.counts_agree().await?;
    fleet.redis.kill();
    // Three leases long.
    tokio::time::sleep(Duration::from_secs(3)).await;
    fleet.redis.launch().await?;
    fleet.counts_agree().await?;
    for session in &mut open {
        session.command("NOOP").await?.ok()?;
    }
    fleet.witness()?.swears_one_home()
}
