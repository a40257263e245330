//! Where users come to be at home, that they stay there, what it costs, and how evenly they are spread.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::{StreamExt, TryStreamExt, stream};
use rustix::process::Signal;

use crate::harness::wait::heavy;
use crate::harness::{Fleet, Imap, Result, User, eventually};

/// Logs everybody in, eight at a time, through all proxies in turn.
async fn everybody_in(fleet: &Fleet, users: &[User]) -> Result<Vec<Imap>> {
    let logins = users.iter().enumerate().map(|(n, user)| fleet.proxies[n % fleet.proxies.len()].log_in(user));
    stream::iter(logins).buffer_unordered(8).try_collect().await
}

#[tokio::test]
async fn i2_every_proxy_sends_a_user_to_the_same_backend() -> Result {
    let fleet = Fleet::plan().proxies(3).users(9).start().await?;
    let mut open = Vec::new();
    for user in &fleet.users {
        let mut seen = BTreeSet::new();
        for proxy in &fleet.proxies {
            let mut imap = proxy.log_in(user).await?;
            seen.insert(imap.backend().await?);
            open.push(imap);
        }
        ensure!(seen.len() == 1, "{} was sent to {seen:?}", user.name);
    }
    fleet.counts_agree().await?;
    let load = fleet.redis.load().await?;
    ensure!(load.values().all(|sessions| *sessions == 9), "{load:?}");
    drop(open);
    fleet.empty().await?;
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn i2_a_user_whose_name_is_written_differently_has_one_home() -> Result {
    let fleet = Fleet::plan().proxies(2).users(3).dovecot("auth_username_format = %Lu\n").start().await?;
    let user = &fleet.users[0];
    let mut lower = fleet.proxies[0].log_in(user).await?;
    let shouted = User { name: user.name.to_uppercase(), ..user.clone() };
    let mut upper = fleet.proxies[1].log_in(&shouted).await?;
    ensure!(lower.backend().await? == upper.backend().await?);
    ensure!(fleet.redis.bindings().await?.len() == 1);
    Ok(())
}

#[tokio::test]
async fn i2_a_user_comes_back_home_within_user_expire_although_another_backend_is_emptier() -> Result {
    let rules = "[fleet]\nbalance_factor = 1.0\nuser_expire = \"20s\"";
    let fleet = Fleet::plan().proxies(2).users(10).config(rules).start().await?;
    let wanderer = &fleet.users[0];
    let mut imap = fleet.proxy().log_in(wanderer).await?;
    let home = imap.backend().await?;
    imap.logout().await?;
    fleet.empty().await?;
    let left = Instant::now();
    // Nine others: three for each backend, but drop those who are not at home where the wanderer is.
    let mut others = Vec::new();
    for mut imap in everybody_in(&fleet, &fleet.users[1..]).await? {
        if imap.backend().await? == home {
            others.push(imap);
        } else {
            imap.logout().await?;
        }
    }
    fleet.counts_agree().await?;
    let mut again = fleet.proxies[1].log_in(wanderer).await?;
    ensure!(again.backend().await? == home, "sent elsewhere after {:?}", left.elapsed());
    again.logout().await?;
    fleet.counts_agree().await?;
    // After user_expire the emptier backend is the better home. The store's clock is behind ours if this machine stood still.
    let gone = fleet.redis.clock().await?;
    eventually("user_expire is over", Duration::from_secs(90), async || {
        let now = fleet.redis.clock().await?;
        ensure!(now > gone + 20_500, "{} ms have passed", now - gone);
        Ok(())
    })
    .await?;
    let mut later = fleet.proxies[1].log_in(wanderer).await?;
    let elsewhere = later.backend().await?;
    ensure!(elsewhere != home, "still sent to {home}");
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn i7_three_hundred_users_from_one_address_are_spread_evenly() -> Result {
    let _turn = heavy().await;
    let fleet = Fleet::plan().proxies(3).users(300).start().await?;
    let open = everybody_in(&fleet, &fleet.users).await?;
    fleet.counts_agree().await?;
    let load = fleet.redis.load().await?;
    println!("300 users: {load:?}");
    // Mean + 1 + 1 %.
    ensure!(load.len() == 3 && load.values().all(|sessions| *sessions <= 102), "{load:?}");
    drop(open);
    fleet.empty().await
}

#[tokio::test]
async fn i7_weights_are_honoured_in_proportion() -> Result {
    let weights = "[backend.mail1]\nweight = 50\n[backend.mail2]\nweight = 100\n[backend.mail3]\nweight = 0";
    let fleet = Fleet::plan().proxies(2).users(60).config(weights).start().await?;
    let _open = everybody_in(&fleet, &fleet.users).await?;
    fleet.counts_agree().await?;
    let load = fleet.redis.load().await?;
    let share = |name: &str| load.get(name).copied().unwrap_or(0);
    ensure!((19..=21).contains(&share("mail1")), "{load:?}");
    ensure!((39..=41).contains(&share("mail2")) && share("mail3") == 0, "{load:?}");
    Ok(())
}

#[tokio::test]
async fn i3_a_binding_deleted_by_hand_is_put_back_while_its_sessions_live() -> Result {
    let fleet = Fleet::plan().users(3).start().await?;
    let open = everybody_in(&fleet, &fleet.users).await?;
    fleet.counts_agree().await?;
    let before = fleet.redis.bindings().await?;
    let mut redis = fleet.redis.connect().await?;
    for key in fleet.redis.keys().await?.iter().filter(|key| key.contains(":b:")) {
        let _: () = redis::cmd("DEL").arg(key).query_async(&mut redis).await?;
    }
    eventually("the bindings are back", Duration::from_secs(60), async || {
        let now = fleet.redis.bindings().await?;
        let as_before = |key: &String| {
            let (old, new) = (before.get(key), now.get(key));
            old.map(|old| (&old.backend, old.sessions)) == new.map(|new| (&new.backend, new.sessions))
        };
        ensure!(before.keys().all(as_before), "{} of {} are back", now.len(), before.len());
        Ok(())
    })
    .await?;
    drop(open);
    Ok(())
}

/// As many declares as there may be in that time: one every 50 ms, however many users have changed.
fn most_declares(since: Instant) -> usize {
    2 + (since.elapsed().as_millis() / 50) as usize
}

/// Calls about users that a proxy made: claims, which logins wait for, and declares, which nobody waits for. A claim names
/// the pool, a declare the backend.
fn calls_about_users(heard: &str) -> (usize, usize) {
    let about_users = heard.lines().filter(|line| line.contains("EVALSHA") && line.contains("\"user0"));
    let (claims, declares): (Vec<&str>, Vec<&str>) = about_users.partition(|line| line.contains("\"default\""));
    (claims.len(), declares.len())
}

#[tokio::test]
async fn i8_a_login_costs_at_most_one_store_call_and_a_logout_none() -> Result {
    // An answer that is late, because this machine stands still, is used nevertheless: else a login would ask again.
    let patient = "[store]\ntimeout = \"10s\"\n[fleet]\nrecovery = \"10s\"";
    let fleet = Fleet::plan().users(60).config(patient).start().await?;
    let _turn = heavy().await;
    let (monitor, begun) = (fleet.redis.monitor().await?, Instant::now());
    let first = everybody_in(&fleet, &fleet.users).await?;
    fleet.counts_agree().await?;
    let (claims, declares) = calls_about_users(&monitor.stop().await?);
    println!("60 first logins: {claims} claims, {declares} declares");
    ensure!(claims == 60 && declares <= most_declares(begun), "{claims} claims, {declares} declares for 60 logins");

    // Second sessions join the first ones in the ledger.
    let (monitor, begun) = (fleet.redis.monitor().await?, Instant::now());
    let second = everybody_in(&fleet, &fleet.users).await?;
    fleet.counts_agree().await?;
    let (claims, declares) = calls_about_users(&monitor.stop().await?);
    println!("60 second logins: {claims} claims, {declares} declares");
    ensure!(
        claims == 0 && declares <= most_declares(begun),
        "{claims} claims, {declares} declares for 60 logins beside live sessions"
    );

    let (monitor, begun) = (fleet.redis.monitor().await?, Instant::now());
    drop((first, second));
    fleet.empty().await?;
    let (claims, declares) = calls_about_users(&monitor.stop().await?);
    println!("120 logouts: {claims} claims, {declares} declares");
    ensure!(claims == 0 && declares <= most_declares(begun), "{claims} claims, {declares} declares for 120 logouts");
    Ok(())
}

#[tokio::test]
async fn i8_a_quiet_proxy_calls_as_often_with_sessions_as_without() -> Result {
    let fleet = Fleet::plan().users(40).config("[fleet]\nlease = \"3s\"").start().await?;
    let calls_in_two_seconds = async || -> Result<u64> {
        let before = fleet.redis.calls("evalsha").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(fleet.redis.calls("evalsha").await? - before)
    };
    // A machine that stands still makes a difference, but not twice.
    let idle = calls_in_two_seconds().await?.max(calls_in_two_seconds().await?);
    let open = everybody_in(&fleet, &fleet.users).await?;
    fleet.counts_agree().await?;
    let busy = calls_in_two_seconds().await?.min(calls_in_two_seconds().await?);
    println!("calls in two seconds: {idle} without sessions, {busy} with 40");
    ensure!(busy <= idle + 4, "{idle} calls without sessions, {busy} with 40");
    drop(open);
    Ok(())
}

#[tokio::test]
async fn a_restarted_proxy_frees_at_once_what_its_dead_incarnation_held() -> Result {
    // Without the state file, keys would stay bound by the dead one for ten minutes.
    let times = "[fleet]\nlease = \"60s\"\norphan_grace = \"600s\"";
    let mut fleet = Fleet::plan().proxies(2).users(5).config(times).start().await?;
    let open = everybody_in(&fleet, &fleet.users).await?;
    fleet.counts_agree().await?;
    let held = |fleet: &Fleet| {
        let witness = fleet.witness();
        witness.map(|witness| witness.open().values().sum::<i64>())
    };
    ensure!(held(&fleet)? == 5);
    fleet.proxies[0].kill();
    fleet.proxies[0].start().await?;
    fleet.counts_agree().await?;
    ensure!(held(&fleet)? == 2, "{}", held(&fleet)?);
    drop(open);
    fleet.empty().await
}

#[tokio::test]
async fn a_stopped_proxy_ends_its_sessions_and_leaves_nothing_behind_in_the_counts() -> Result {
    let mut fleet = Fleet::plan().proxies(2).users(6).config("[limits]\nshutdown_grace = \"1s\"").start().await?;
    let mut open: BTreeMap<String, Imap> = BTreeMap::new();
    for user in &fleet.users {
        open.insert(user.name.clone(), fleet.proxy().log_in(user).await?);
    }
    fleet.counts_agree().await?;
    fleet.proxies[0].stop().await?;
    for session in open.values_mut() {
        let last = String::from_utf8_lossy(&session.lost().await?).into_owned();
        ensure!(last.starts_with("* BYE"), "{last:?}");
    }
    eventually("the store has let go", Duration::from_secs(20), async || {
        ensure!(fleet.redis.sessions().await? == 0, "{:?}", fleet.redis.bindings().await?);
        Ok(())
    })
    .await?;
    for user in &fleet.users {
        let ending = fleet.proxies[0].ending_of(&user.name).await?;
        ensure!(crate::harness::proxy::text(&ending, "ending") == "shutdown", "{ending}");
    }
    fleet.empty().await
}

#[tokio::test]
async fn a_proxy_told_to_stop_twice_or_by_interrupt_ends_as_well() -> Result {
    let mut fleet = Fleet::plan().start().await?;
    fleet.proxy().signal(Signal::INT)?;
    fleet.proxies[0].stop().await
}
