//! `homing audit` and kicks of many, over real parts: the mail servers' own lists are held against the table, too.

use anyhow::ensure;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::dovecot::DOVEADM_PASSWORD;
use crate::harness::fleet::merge;
use crate::harness::{Fleet, Result, eventually};

use std::time::Duration;

/// Two proxies before two mail servers that can be asked who is there.
pub(crate) async fn two(more: &str) -> Result<Fleet> {
    let fleet = Fleet::plan().proxies(2).backends(2).users(4).config(more).start().await?;
    for backend in &fleet.backends {
        let asked = format!(
            "[backend.{}]\ndoveadm = \"tcp://{}\"\ndoveadm_password = \"{DOVEADM_PASSWORD}\"\n",
            backend.name, backend.doveadm_address
        );
        fleet.reconfigure(|table| merge(table, toml::from_str(&asked).unwrap_or_default()))?;
    }
    for proxy in &fleet.proxies {
        let said = proxy.admin(&["reload"]).await?;
        ensure!(said.status.success(), "{said:?}");
    }
    Ok(fleet)
}

async fn audit(fleet: &Fleet, proxy: usize) -> Result<(Option<i32>, Value, String)> {
    let told = fleet.proxies[proxy].admin(&["audit", "--json"]).await?;
    let said = fleet.proxies[proxy].admin(&["audit"]).await?;
    ensure!(!told.stdout.is_empty(), "{told:?}");
    Ok((told.status.code(), serde_json::from_slice(&told.stdout)?, String::from_utf8(said.stdout)?))
}

#[tokio::test]
async fn an_audit_of_a_sound_fleet_asks_everybody_and_finds_nothing() -> Result {
    let fleet = two("").await?;
    let mut open = Vec::new();
    for (n, user) in fleet.users.iter().enumerate() {
        open.push(fleet.proxies[n % 2].log_in(user).await?);
    }
    fleet.counts_agree().await?;
    let (code, found, said) = audit(&fleet, 0).await?;
    ensure!(code == Some(0), "{found}\n{said}");
    ensure!(found["proxies"] == 2 && found["confirmed"] == 2 && found["backends"] == 2, "{found}");
    ensure!(found["sessions"] == open.len() && found["splits_ended"] == 0, "{found}");
    ensure!(said.contains("2 of 2 proxies have compared 4 sessions with the table; 2 mail servers asked"), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_audit_finds_a_user_whom_a_mail_server_has_though_the_table_has_them_elsewhere() -> Result {
    let fleet = two("").await?;
    let user = &fleet.users[0];
    let mut left_behind = fleet.proxies[1].log_in(user).await?;
    let old = left_behind.backend().await?;
    let new = if old == "mail1" { "mail2" } else { "mail1" };
    // A violation made on purpose: an operator does not wait for a proxy that stands still.
    fleet.proxies[1].signal(Signal::STOP)?;
    let moved = fleet.proxies[0].admin(&["user", "move", &user.name, "--to", new, "--force"]).await?;
    ensure!(moved.status.success(), "{moved:?}");
    let mut here = fleet.proxies[0].log_in(user).await?;
    ensure!(here.backend().await? == new);

    let (code, found, said) = audit(&fleet, 0).await?;
    ensure!(code == Some(1) && said.contains(&format!("TWO HOMES: {}", user.name)), "{said}");
    ensure!(found["split"][0] == user.name && found["strays"][0]["backend"] == old, "{found}");
    ensure!(found["strays"][0]["home"] == new, "{found}");

    // The proxy wakes up, hears of the kick and closes what it has.
    fleet.proxies[1].signal(Signal::CONT)?;
    eventually("nobody is astray any more", Duration::from_secs(60), async || {
        let (code, _, said) = audit(&fleet, 0).await?;
        ensure!(code == Some(0), "{said}");
        Ok(())
    })
    .await?;
    drop((left_behind, here));
    Ok(())
}

#[tokio::test]
async fn an_audit_names_a_user_whom_a_mail_server_has_though_the_table_counts_no_session() -> Result {
    let fleet = two("").await?;
    let (bound, stranger, probe) = (&fleet.users[0], &fleet.users[1], &fleet.users[2]);
    let health = format!("[health]\nprobe_user = {:?}\nprobe_password = {:?}\n", probe.name, probe.password);
    fleet.reconfigure(|table| merge(table, toml::from_str(&health).unwrap_or_default()))?;
    for proxy in &fleet.proxies {
        ensure!(proxy.admin(&["reload"]).await?.status.success());
    }
    let mut open = fleet.proxies[0].log_in(bound).await?;
    let home = open.backend().await?;
    open.logout().await?;
    fleet.empty().await?;
    // On another road than through the fleet.
    let mut beside = Vec::new();
    for backend in &fleet.backends {
        beside.push(backend.log_in(bound).await?);
    }
    beside.push(fleet.backends[0].log_in(stranger).await?);
    beside.push(fleet.backends[0].log_in(probe).await?); // is everywhere by trade
    let (code, found, said) = audit(&fleet, 1).await?;
    ensure!(code == Some(1) && found["strays"].as_array().map(Vec::len) == Some(3), "{found}");
    let first = &found["strays"][0];
    ensure!(
        first["home"] == home && first["backend"] != home && first["counted"] == 0,
        "whoever is astray first: {found}"
    );
    ensure!(found["split"].as_array().map(Vec::as_slice) == Some(&[Value::from(bound.name.as_str())]), "{found}");
    for line in [
        format!("by the table the user is at home at {home}, with 0 sessions"),
        "by the table the user has no session".to_owned(),
        format!(
            "{}: mail1 says that it has 1 connection of the user; by the table the user is not bound",
            stranger.name
        ),
    ] {
        ensure!(said.contains(&line), "{line}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn sessions_are_kicked_by_pattern_network_and_backend() -> Result {
    let fleet = two("").await?;
    for (arguments, closed) in [
        (vec!["user", "kick", "nobody*"], 0),
        (vec!["user", "kick", "--address", "192.0.2.0/24"], 0),
        (vec!["user", "kick", "*"], 4),
        (vec!["user", "kick", "--address", "127.0.0.0/8"], 4),
    ] {
        let mut open = Vec::new();
        for (n, user) in fleet.users.iter().enumerate() {
            open.push(fleet.proxies[n % 2].log_in(user).await?);
        }
        let kicked = fleet.proxies[0].admin(&[arguments.as_slice(), &["--json"]].concat()).await?;
        let done: Value = serde_json::from_slice(&kicked.stdout)?;
        ensure!(kicked.status.success() && done["confirmed"] == 2, "{arguments:?}: {kicked:?}");
        ensure!(done["told"] == closed && done["left"] == 0, "{arguments:?}: {done}");
        drop(open);
        fleet.empty().await?;
    }
    let mut open = fleet.proxies[1].log_in(&fleet.users[0]).await?;
    let home = open.backend().await?;
    let kicked = fleet.proxies[0].admin(&["user", "kick", "--backend", &home]).await?;
    ensure!(
        String::from_utf8_lossy(&kicked.stdout).contains("2 of 2 proxies confirmed, 1 session closed"),
        "{kicked:?}"
    );
    let last = open.read_to_end().await?;
    ensure!(last.starts_with(b"* BYE "), "{}", String::from_utf8_lossy(&last));
    Ok(())
}
