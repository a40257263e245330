//! I5: the store forgets everything while sessions live.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;

use crate::harness::crowd::seed;
use crate::harness::wait::heavy;
use crate::harness::{Crowd, Fleet, Habit, Imap, Result, Status, eventually};

/// A fleet of three with a crowd of 100 clients, most of whom stay.
async fn crowded() -> Result<(Fleet, Crowd)> {
    let fleet = Fleet::plan().proxies(3).users(100).start().await?;
    let habit = |number| if number < 80 { Habit::Stays } else { Habit::Returns(Duration::from_millis(500)) };
    let who = fleet.users.iter().enumerate().map(|(number, user)| (user.clone(), habit(number)));
    let mut crowd = Crowd::enter(&fleet.doors(), who, seed());
    crowd.rest(100).await?;
    fleet.counts_agree().await?;
    Ok((fleet, crowd))
}

/// Where the store says that everybody with a session is.
async fn homes(fleet: &Fleet) -> Result<BTreeMap<String, (String, i64)>> {
    let bindings = fleet.redis.bindings().await?.into_iter();
    Ok(bindings.filter(|(_, b)| b.sessions > 0).map(|(key, b)| (key, (b.backend, b.sessions))).collect())
}

#[tokio::test]
async fn i5_flushall_under_load_drops_no_session_and_the_table_is_rebuilt_the_same() -> Result {
    let _turn = heavy().await;
    let (fleet, mut crowd) = crowded().await?;
    for _ in 0..3 {
        let before = homes(&fleet).await?;
        ensure!(before.len() == 100, "{} homes", before.len());
        // All idle: what comes back can only come from the proxies.
        fleet.redis.flush().await?;
        eventually("the table is as it was", Duration::from_secs(60), async || {
            let after = homes(&fleet).await?;
            ensure!(after == before, "{} of {} homes are back", after.len(), before.len());
            fleet.redis.audit().await
        })
        .await?;
        // And with logins and logouts in full swing.
        crowd.wake();
        tokio::time::sleep(Duration::from_secs(1)).await;
        fleet.redis.flush().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        crowd.rest(100).await?;
        fleet.counts_agree().await?;
    }
    let story = crowd.go_home().await?;
    println!("{}", story.summary());
    ensure!(story.total(|diary| diary.losses.len()) == 0, "sessions were dropped: {}", story.summary());
    ensure!(story.refusals().is_empty(), "logins were refused: {:?}", story.refusals());
    fleet.empty().await?;
    fleet.witness()?.swears_one_home()?;
    story.mail_is_whole(&fleet.backends[1], &fleet.users).await
}

#[tokio::test]
async fn i5_a_redis_restarted_empty_under_load_drops_no_session_and_learns_all_again() -> Result {
    let _turn = heavy().await;
    let (mut fleet, mut crowd) = crowded().await?;
    for _ in 0..3 {
        let before = homes(&fleet).await?;
        fleet.redis.kill();
        fleet.redis.launch().await?;
        eventually("the table is as it was", Duration::from_secs(60), async || {
            let after = homes(&fleet).await?;
            ensure!(after == before, "{} of {} homes are back", after.len(), before.len());
            fleet.redis.audit().await
        })
        .await?;
        crowd.wake();
        tokio::time::sleep(Duration::from_secs(1)).await;
        fleet.redis.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        fleet.redis.launch().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        crowd.rest(100).await?;
        fleet.counts_agree().await?;
    }
    let story = crowd.go_home().await?;
    println!("{}", story.summary());
    ensure!(story.total(|diary| diary.losses.len()) == 0, "sessions were dropped: {}", story.summary());
    let told: Vec<_> = story.refusals().into_iter().filter(|text| !text.starts_with("No [UNAVAILABLE]")).collect();
    ensure!(told.is_empty(), "refused with other words than [UNAVAILABLE]: {told:?}");
    fleet.empty().await?;
    fleet.witness()?.swears_one_home()?;
    story.mail_is_whole(&fleet.backends[2], &fleet.users).await
}

#[tokio::test]
async fn i5_a_login_waits_out_the_recovery_window_rather_than_go_astray() -> Result {
    let fleet = Fleet::plan().proxies(2).config("[fleet]\nrecovery = \"4s\"\nlogin_wait = \"25s\"").start().await?;
    let user = &fleet.users[0];
    let mut session = fleet.proxy().log_in(user).await?;
    let home = session.backend().await?;
    fleet.redis.flush().await?;
    // The store knows nothing until the proxies have noticed; from the other one, this login must wait until they told.
    let begun = std::time::Instant::now();
    let mut second = fleet.proxies[1].log_in(user).await?;
    let waited = begun.elapsed();
    ensure!(second.backend().await? == home);
    ensure!(waited > Duration::from_secs(1), "waited only {waited:?}");
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn a_login_that_waits_for_longer_than_login_wait_gets_a_temporary_failure() -> Result {
    let fleet = Fleet::plan().config("[fleet]\nrecovery = \"10s\"\nlogin_wait = \"1s\"").start().await?;
    let first = fleet.proxy().log_in(&fleet.users[0]).await?;
    fleet.redis.flush().await?;
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    // Had it waited until the window was over, it would have been let in.
    let answer = imap.try_login(&fleet.users[1]).await?;
    ensure!(answer.status == Status::No && answer.text.starts_with("[UNAVAILABLE]"), "{answer:?}");
    // Who has a live session at this proxy need not wait.
    let second = fleet.proxy().log_in(&fleet.users[0]).await?;
    drop((first, second));
    Ok(())
}
