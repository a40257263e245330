//! Cables are pulled out: between a proxy and the store, and between a proxy and a mail server.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::harness::apart::apart;
use crate::harness::proxy::text;
use crate::harness::{Fleet, Imap, Lan, Net, Result, Status, User, eventually};

/// Probes that find a dead server out in about two seconds.
const QUICK: &str = r#"
[store]
timeout = "1s"
[health]
interval = "300ms"
fast_interval = "150ms"
timeout = "1s"
[backend.mail1]
connect_timeout = "1s"
login_timeout = "2s"
retry_budget = "2s"
[backend.mail2]
connect_timeout = "1s"
login_timeout = "2s"
retry_budget = "2s"
"#;

/// One session of each user at that proxy, and where it went.
async fn all_log_in(fleet: &Fleet, proxy: usize) -> Result<(Vec<Imap>, Vec<String>)> {
    let (mut sessions, mut homes) = (Vec::new(), Vec::new());
    for user in &fleet.users {
        let mut session = fleet.proxies[proxy].log_in(user).await?;
        homes.push(session.backend().await?);
        sessions.push(session);
    }
    Ok((sessions, homes))
}

async fn load_is(fleet: &Fleet, sessions: i64) -> Result {
    eventually(&format!("the load is {sessions}"), Duration::from_secs(25), async || {
        let load = fleet.redis.load().await?;
        ensure!(load.values().sum::<i64>() == sessions, "{load:?}");
        Ok(())
    })
    .await
}

fn lan(fleet: &Fleet) -> Result<&Lan> {
    fleet.lan.as_ref().context("the plan had a network")
}

#[tokio::test]
async fn i1_i3_a_proxy_cut_off_from_the_store_serves_on_and_its_users_find_the_same_home_elsewhere() -> Result {
    apart!(i1_i3_a_proxy_cut_off_from_the_store_serves_on_and_its_users_find_the_same_home_elsewhere, async |lan| {
        let fleet = Fleet::plan().proxies(2).config("[store]\ntimeout = \"1s\"").lan(lan).start().await?;
        serves_on_without_the_store(&fleet).await
    })
    .await
}

async fn serves_on_without_the_store(fleet: &Fleet) -> Result {
    let (mut cut, homes) = all_log_in(fleet, 0).await?;
    fleet.counts_agree().await?;
    lan(fleet)?.cut((1, Net::Store))?;
    // The lease is over: the load is what others may count on.
    load_is(fleet, 0).await?;
    let (mut others, same) = all_log_in(fleet, 1).await?;
    ensure!(homes == same, "{homes:?} became {same:?}");
    for session in &mut cut {
        session.append("INBOX", "Subject: cut off\r\n\r\nbody\r\n").await?;
    }
    // Who has a session there may have another; who has none is told to come later, by and by and not at once.
    let mut second = fleet.proxies[0].log_in(&fleet.users[0]).await?;
    ensure!(second.backend().await? == homes[0]);
    // A mail server writes its log when it comes to it.
    eventually("all have a session by the logs", Duration::from_secs(60), async || {
        let open = fleet.witness()?.open();
        ensure!(open.values().sum::<i64>() == 21, "{open:?}");
        Ok(())
    })
    .await?;

    lan(fleet)?.mend((1, Net::Store))?;
    load_is(fleet, 21).await?;
    fleet.counts_agree().await?;
    for session in cut.iter_mut().chain(&mut others) {
        session.command("NOOP").await?.ok()?;
    }
    drop((cut, others, second));
    fleet.empty().await?;
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn i1_a_proxy_cut_off_beyond_its_grace_has_closed_its_sessions_before_the_store_frees_its_keys() -> Result {
    apart!(i1_a_proxy_cut_off_beyond_its_grace_has_closed_its_sessions_before_the_store_frees_its_keys, async |lan| {
        // When this machine stands still, the store's clock makes a step: that costs 2 s of the 4 s between the two.
        let times = "[store]\ntimeout = \"1s\"\n[fleet]\norphan_grace = \"16s\"";
        let fleet = Fleet::plan().proxies(2).users(40).config(times).lan(lan).start().await?;
        closes_in_time(&fleet).await
    })
    .await
}

async fn closes_in_time(fleet: &Fleet) -> Result {
    let (mut cut, _) = all_log_in(fleet, 0).await?;
    fleet.counts_agree().await?;
    lan(fleet)?.cut((1, Net::Store))?;
    // Whenever a key has come free, the backends had long seen its sessions end: asked in this order, none may be open.
    eventually("all keys are free", Duration::from_secs(90), async || {
        let bindings = fleet.redis.bindings().await?;
        let open = fleet.witness()?.open();
        let held = bindings.values().filter(|binding| binding.sessions > 0).count();
        if held < 40 && !open.is_empty() {
            // Not a condition to wait for: once is once too often.
            return Ok(Err(anyhow::anyhow!("{} keys are free, {open:?} sessions go on", 40 - held)));
        }
        ensure!(held == 0, "{held} keys are held");
        Ok(Ok(()))
    })
    .await??;
    for session in &mut cut {
        let last = String::from_utf8_lossy(&session.lost().await?).into_owned();
        ensure!(last.is_empty() || last.starts_with("* BYE"), "{last:?}");
    }
    for user in &fleet.users {
        let ending = fleet.proxies[0].ending_of(&user.name).await?;
        ensure!(text(&ending, "ending") == "isolated", "{ending}");
    }
    // Cut off, it lets nobody in; mended, it is of use again.
    let refused = Imap::connect(fleet.proxies[0].address()).await?.try_login(&fleet.users[0]).await?;
    ensure!(refused.status == Status::No && refused.text.starts_with("[UNAVAILABLE]"), "{refused:?}");
    lan(fleet)?.mend((1, Net::Store))?;
    eventually("it serves again", Duration::from_secs(60), async || {
        fleet.proxies[0].log_in(&fleet.users[0]).await.map(drop)
    })
    .await?;
    fleet.empty().await?;
    fleet.witness()?.swears_one_home()
}

async fn finds_failing(fleet: &Fleet, proxy: usize, backend: &str) -> Result {
    eventually(&format!("{backend} fails at proxy {proxy}"), Duration::from_secs(60), async || {
        let output = fleet.proxies[proxy].admin(&["status", "--json"]).await?;
        let status: Value = serde_json::from_slice(&output.stdout)?;
        let health = status["health"].as_array().context("no health")?;
        ensure!(health.iter().any(|row| row["backend"] == backend && row["health"] == "failing"), "{status}");
        Ok(())
    })
    .await
}

/// The users whose home is that backend.
fn at<'a>(fleet: &'a Fleet, homes: &[String], backend: &str) -> Vec<&'a User> {
    fleet.users.iter().zip(homes).filter(|(_, home)| *home == backend).map(|(user, _)| user).collect()
}

#[tokio::test]
async fn one_proxy_that_cannot_reach_a_backend_is_outvoted_and_two_have_its_users_moved() -> Result {
    apart!(one_proxy_that_cannot_reach_a_backend_is_outvoted_and_two_have_its_users_moved, async |lan| {
        let fleet = Fleet::plan().proxies(3).backends(2).users(12).config(QUICK).lan(lan).start().await?;
        is_outvoted(fleet).await
    })
    .await
}

async fn is_outvoted(mut fleet: Fleet) -> Result {
    let (mut sessions, homes) = all_log_in(&fleet, 1).await?;
    let (at_mail1, at_mail2) = (at(&fleet, &homes, "mail1"), at(&fleet, &homes, "mail2"));
    ensure!(at_mail1.len() == 6 && at_mail2.len() == 6, "{homes:?}");
    lan(&fleet)?.cut((1, Net::Mail(2)))?;
    finds_failing(&fleet, 0, "mail2").await?;
    // Two of three see it: its users are refused here, served there, and not moved.
    let mut imap = Imap::connect(fleet.proxies[0].address()).await?;
    let answer = imap.try_login(at_mail2[0]).await?;
    ensure!(answer.status == Status::No && answer.text.starts_with("[UNAVAILABLE]"), "{answer:?}");
    let mut there = fleet.proxies[2].log_in(at_mail2[0]).await?;
    ensure!(there.backend().await? == "mail2");
    fleet.proxies[0].log_in(at_mail1[0]).await?;
    for session in &mut sessions {
        session.command("NOOP").await?.ok()?;
    }

    // Dead for the majority (for all, so that nobody still reaches it: that would be E2): its users go elsewhere at once.
    let users: Vec<User> = at_mail2.into_iter().cloned().collect();
    drop((sessions, there));
    fleet.backends[1].kill();
    let dead = std::time::Instant::now();
    let mut moved = eventually("they are served elsewhere", Duration::from_secs(60), async || {
        fleet.proxies[0].log_in(&users[0]).await
    })
    .await?;
    println!("served elsewhere {:?} after the death", dead.elapsed());
    ensure!(moved.backend().await? == "mail1");
    for user in &users[1..] {
        ensure!(fleet.proxies[2].log_in(user).await?.backend().await? == "mail1");
    }
    Ok(())
}
