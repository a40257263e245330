//! What failed logins cost, and how many sessions, connections and logins one client has, over a fleet of two.

use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::harness::address::fresh_ip;
use crate::harness::fleet::merge;
use crate::harness::{Fleet, Imap, Result, Status, User, eventually};

/// Two proxies that share a secret and a passwd-file with all users; `settings` are merged over theirs.
async fn fleet(settings: &str) -> Result<Fleet> {
    let mut fleet = Fleet::plan().proxies(2).backends(1).users(20).start_without_proxies().await?;
    let lines = fleet.users.iter().map(|user| format!("{}:{{PLAIN}}{}\n", user.name, user.password));
    let (file, passwd) = (fleet.dir.join("passdb"), lines.collect::<String>());
    std::fs::write(&file, passwd)?;
    start(&mut fleet, &format!("[[passdb]]\nkind = \"file\"\npath = {file:?}\ncache = true"), settings).await?;
    Ok(fleet)
}

/// Starts the proxies with that passdb.
pub async fn start(fleet: &mut Fleet, passdb: &str, settings: &str) -> Result {
    let secret = fleet.dir.join("secret");
    std::fs::write(&secret, "not a secret but long enough to be one\n")?;
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    let shared = format!("[auth]\nsecret_file = {secret:?}\n{passdb}");
    fleet.reconfigure(|config| {
        merge(config, shared.parse().unwrap());
        merge(config, settings.parse().unwrap());
    })?;
    for proxy in &mut fleet.proxies {
        proxy.start().await?;
    }
    Ok(())
}

pub fn wrong(user: &User, number: usize) -> User {
    User { password: format!("wrong{number}"), ..user.clone() }
}

/// One try through a proxy, from an address; what was answered, and how long that took.
async fn try_from(fleet: &Fleet, proxy: usize, from: IpAddr, user: &User) -> Result<(Status, String, Duration)> {
    let mut imap = Imap::connect_from(from, fleet.proxies[proxy].address()).await?.with_patience(PATIENCE);
    let began = Instant::now();
    let answer = imap.try_login(user).await?;
    Ok((answer.status, answer.text, began.elapsed()))
}

/// More than the longest delay and a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX: Duration = Duration::from_secs(12);

#[tokio::test]
async fn who_guesses_through_two_proxies_is_slowed_by_the_sum_and_nobody_else_is() -> Result {
    let fleet = fleet("[auth]\npenalty_max = \"12s\"").await?;
    let (attacker, bystander) = (fresh_ip(), fresh_ip());
    let [victim, other, ..] = &fleet.users[..] else { unreachable!() };
    let mut delays = Vec::new();
    for number in 0..4 {
        let (status, _, took) = try_from(&fleet, number % 2, attacker, &wrong(victim, number)).await?;
        ensure!(status == Status::No);
        delays.push(took);
    }
    // Two of these at each proxy: alone, each would have asked for one second at most.
    ensure!(delays[2] >= Duration::from_secs(2) && delays[3] >= Duration::from_secs(4), "{delays:?}");
    // One valid account does not launder the attack.
    let (status, _, took) = try_from(&fleet, 0, attacker, other).await?;
    ensure!(status == Status::Ok && took >= Duration::from_secs(8), "{took:?}");
    let (status, _, took) = try_from(&fleet, 1, attacker, other).await?;
    ensure!(status == Status::Ok && took >= Duration::from_secs(8), "{took:?}");
    let (status, _, took) = try_from(&fleet, 1, bystander, victim).await?;
    ensure!(status == Status::Ok && took < Duration::from_secs(8), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_webmail_with_many_users_is_not_slowed_but_a_client_that_it_announces_is() -> Result {
    let webmail = fresh_ip();
    let fleet = fleet(&format!("[auth]\npenalty_max = \"12s\"\npenalty_exempt = [\"{webmail}\"]")).await?;
    for (number, user) in fleet.users.iter().skip(1).enumerate() {
        let (status, _, took) = try_from(&fleet, number % 2, webmail, &wrong(user, number)).await?;
        ensure!(status == Status::No && took < MAX / 2, "{took:?}");
    }
    let (status, _, took) = try_from(&fleet, 0, webmail, &fleet.users[0]).await?;
    ensure!(status == Status::Ok && took < MAX / 2, "{took:?}");

    let announced = async |proxy: usize, client: &str, user: &User| -> Result<(Status, Duration)> {
        let mut imap = Imap::connect_from(webmail, fleet.proxies[proxy].address()).await?.with_patience(PATIENCE);
        imap.command(&format!("ID (\"x-originating-ip\" \"{client}\")")).await?.ok()?;
        let began = Instant::now();
        let answer = imap.try_login(user).await?;
        Ok((answer.status, began.elapsed()))
    };
    for number in 0..4 {
        announced(number % 2, "192.0.2.66", &wrong(&fleet.users[0], number)).await?;
    }
    let (status, took) = announced(0, "192.0.2.66", &fleet.users[1]).await?;
    ensure!(status == Status::Ok && took >= Duration::from_secs(8), "{took:?}");
    let (status, took) = announced(1, "192.0.2.67", &fleet.users[1]).await?;
    ensure!(status == Status::Ok && took < Duration::from_secs(8), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn what_operators_flush_are_answers_and_what_they_forgive_are_failures() -> Result {
    let fleet = fleet("[auth]\npenalty_max = \"12s\"").await?;
    let [attacked, user, ..] = &fleet.users[..] else { unreachable!() };
    let client = fresh_ip();
    for number in 0..4 {
        try_from(&fleet, number % 2, client, &wrong(attacked, number)).await?;
    }
    let asked = async |arguments: &[&str]| -> Result<String> {
        let output = fleet.proxies[1].admin(&[&["auth"], arguments].concat()).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let flushed = asked(&["flush", "--all"]).await?;
    ensure!(flushed != "forgot 0 records", "wrong passwords were remembered");
    let (status, _, took) = try_from(&fleet, 0, client, user).await?;
    ensure!(status == Status::Ok && took >= Duration::from_secs(8), "{took:?}");
    let address = client.to_string();
    ensure!(asked(&["forgive", &address]).await? == "forgave 4 failed logins");
    ensure!(asked(&["forgive", &address]).await? == "forgave 0 failed logins");
    let (status, _, took) = try_from(&fleet, 0, client, user).await?;
    ensure!(status == Status::Ok && took < Duration::from_secs(8), "{took:?}");
    ensure!(asked(&["forgive", &attacked.name]).await? == "forgave 4 failed logins");
    let stats = asked(&["stats"]).await?;
    ensure!(stats.contains("Failed logins: 2; "), "those at this proxy: {stats}");
    Ok(())
}

/// What the store hears while somebody logs in: commands with their keys, and scripts.
async fn heard_during_login(fleet: &Fleet, client: IpAddr) -> Result<Vec<String>> {
    let monitor = fleet.redis.monitor().await?;
    let (status, ..) = try_from(fleet, 0, client, &fleet.users[0]).await?;
    ensure!(status == Status::Ok);
    let heard = monitor.stop().await?;
    let commands = heard.lines().filter(|line| !line.contains(" lua] "));
    let words = |line: &str| line.split('"').nth(1).map(str::to_uppercase);
    let of_logins = |line: &&str| line.contains(":guard:") || line.contains(":note:");
    Ok(commands.filter(of_logins).filter_map(words).collect())
}

#[tokio::test]
async fn a_login_that_is_remembered_writes_nothing_and_one_without_penalties_asks_nothing() -> Result {
    let fleet = fleet("[auth]\npenalty_max = \"12s\"").await?;
    let client = fresh_ip();
    heard_during_login(&fleet, client).await?;
    eventually("what the first login came to is noted", Duration::from_secs(30), async || {
        let heard = heard_during_login(&fleet, client).await?;
        ensure!(heard == ["SMEMBERS", "SMEMBERS", "SMEMBERS", "GETRANGE"], "{heard:?}");
        Ok(())
    })
    .await?;
    let mut off = Fleet::plan().proxies(1).backends(1).start_without_proxies().await?;
    let file = off.dir.join("passdb");
    std::fs::write(&file, format!("{}:{{PLAIN}}{}\n", off.users[0].name, off.users[0].password))?;
    start(&mut off, &format!("[[passdb]]\nkind = \"file\"\npath = {file:?}"), "[auth]\npenalty_max = \"0s\"").await?;
    let heard = heard_during_login(&off, client).await?;
    ensure!(heard.is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_user_who_is_attacked_from_everywhere_still_logs_in_where_the_user_is_known() -> Result {
    let fleet = fleet("[auth]\npenalty_max = \"12s\"").await?;
    let (user, home) = (&fleet.users[0], fresh_ip());
    let (status, ..) = try_from(&fleet, 0, home, user).await?;
    ensure!(status == Status::Ok);
    let guesses = (0..10).map(|number| {
        let fleet = &fleet;
        async move { try_from(fleet, number % 2, fresh_ip(), &wrong(user, number)).await }
    });
    futures_util::future::try_join_all(guesses).await?;
    let (status, _, took) = try_from(&fleet, 1, home, user).await?;
    ensure!(status == Status::Ok && took < MAX, "{took:?}");
    let (status, _, took) = try_from(&fleet, 1, fresh_ip(), user).await?;
    ensure!(status == Status::Ok && took >= MAX, "elsewhere, who knows: {took:?}");
    Ok(())
}

#[tokio::test]
async fn the_fleet_limits_sessions_of_a_user_at_an_address_and_forgets_those_of_a_killed_proxy() -> Result {
    let mut fleet = fleet("[limits]\nuser_ip_connections = 3").await?;
    let (user, client) = (fleet.users[0].clone(), fresh_ip());
    let mut live = Vec::new();
    for proxy in [0, 0, 1] {
        let mut imap = Imap::connect_from(client, fleet.proxies[proxy].address()).await?;
        imap.login(&user).await?;
        live.push(imap);
    }
    for proxy in [0, 1] {
        let (status, text, _) = try_from(&fleet, proxy, client, &user).await?;
        ensure!(status == Status::No && text.starts_with("[LIMIT]"), "{text}");
    }
    let (status, ..) = try_from(&fleet, 1, fresh_ip(), &user).await?;
    ensure!(status == Status::Ok, "another address has its own");
    let (status, ..) = try_from(&fleet, 1, client, &fleet.users[1]).await?;
    ensure!(status == Status::Ok, "another user has its own");
    fleet.proxies[0].kill();
    eventually("the dead proxy's sessions count no more", Duration::from_secs(60), async || {
        let (status, text, _) = try_from(&fleet, 1, client, &user).await?;
        ensure!(status == Status::Ok, "{text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn logins_of_an_address_in_a_minute_are_limited_over_the_fleet() -> Result {
    let fleet = fleet("[limits]\nlogins_per_minute = 4").await?;
    let client = fresh_ip();
    let mut words = Vec::new();
    for number in 0..5 {
        let (status, text, _) = try_from(&fleet, number % 2, client, &fleet.users[number]).await?;
        words.push((status == Status::Ok, text));
    }
    ensure!(words[..4].iter().all(|(is_in, _)| *is_in), "{words:?}");
    ensure!(!words[4].0 && words[4].1.starts_with("[LIMIT]"), "{words:?}");
    let (status, ..) = try_from(&fleet, 0, fresh_ip(), &fleet.users[5]).await?;
    ensure!(status == Status::Ok);
    Ok(())
}

#[tokio::test]
async fn connections_of_an_address_are_limited_over_the_fleet() -> Result {
    let fleet = fleet("[limits]\naddress_connections = 2").await?;
    let (client, [door, other]) = (fresh_ip(), [0, 1].map(|proxy| fleet.proxies[proxy].address()));
    let first = Imap::connect_from(client, door).await?;
    let mut second = Imap::connect_from(client, other).await?;
    second.login(&fleet.users[0]).await?;
    for door in [door, other] {
        ensure!(Imap::connect_from(client, door).await.is_err(), "the third is turned away");
    }
    Imap::connect_from(fresh_ip(), door).await.context("another address")?;
    drop(first);
    eventually("a place is free again", Duration::from_secs(30), async || {
        Imap::connect_from(client, other).await.map(drop)
    })
    .await
}
