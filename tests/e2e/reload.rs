//! The configuration changes under a running proxy, and operators see what it does.

use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;

use crate::harness::dovecot::DovecotOptions;
use crate::harness::fleet::{backend_entry, merge};
use crate::harness::{Dovecot, Fleet, Result, eventually};

#[tokio::test]
async fn a_faulty_file_leaves_the_old_one_in_force_and_is_told_why() -> Result {
    let fleet = Fleet::plan().start().await?;
    let mut live = fleet.proxy().log_in(&fleet.users[0]).await?;
    fleet.reconfigure(|config| merge(config, "[limits]\nconnections = -1\nno_such_key = 2".parse().unwrap()))?;

    let output = fleet.proxy().admin(&["reload"]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("no_such_key") && said.contains("connections"), "{said}");

    let before = fleet.proxy().log()?.matches("no_such_key").count();
    fleet.proxy().signal(Signal::HUP)?;
    eventually("the log says why", Duration::from_secs(60), async || {
        ensure!(fleet.proxy().log()?.matches("no_such_key").count() > before);
        Ok(())
    })
    .await?;
    live.command("NOOP").await?.ok()?;
    fleet.proxy().log_in(&fleet.users[1]).await?;
    Ok(())
}

/// Waits until every proxy sees a backend in that state: the table travels with the heartbeats.
async fn table_has(fleet: &Fleet, backend: &str, state: &str) -> Result {
    for proxy in &fleet.proxies {
        eventually("the backend table has changed", Duration::from_secs(60), async || {
            let output = proxy.admin(&["status", "--json"]).await?;
            let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            let rows = status["fleet"]["backends"].as_array().cloned().context("no backends")?;
            ensure!(rows.iter().any(|row| row["name"] == backend && row["state"] == state), "{rows:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_backend_added_by_reload_gets_users_and_no_session_is_touched() -> Result {
    let mut fleet = Fleet::plan().proxies(2).backends(1).users(12).start().await?;
    let mut live = Vec::new();
    for user in &fleet.users[..4] {
        live.push(fleet.proxy().log_in(user).await?);
    }
    let added = Dovecot::start(fleet.dir.path(), "mail2", &fleet.store, DovecotOptions::default()).await?;
    let entry: toml::Table = backend_entry(&added).parse()?;
    fleet.backends.push(added);
    fleet.reconfigure(|config| merge(config, entry.clone()))?;
    let output = fleet.proxy().admin(&["reload"]).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fleet.proxies[1].signal(Signal::HUP)?;
    table_has(&fleet, "mail2", "up").await?;
    for (n, user) in fleet.users[4..8].iter().enumerate() {
        let mut imap = fleet.proxies[n % 2].log_in(user).await?;
        ensure!(imap.backend().await? == "mail2", "the emptier backend is not used");
        live.push(imap);
    }
    for session in &mut live {
        session.command("NOOP").await?.ok()?;
    }
    fleet.counts_agree().await?;
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn a_backend_that_is_drained_by_reload_gets_nobody_new_and_keeps_whom_it_has() -> Result {
    let fleet = Fleet::plan().users(9).start().await?;
    let mut live = Vec::new();
    for user in &fleet.users[..3] {
        live.push(fleet.proxy().log_in(user).await?);
    }
    fleet.counts_agree().await?;
    fleet.reconfigure(|config| merge(config, "[backend.mail1]\ndrain = true".parse().unwrap()))?;
    ensure!(fleet.proxy().admin(&["reload"]).await?.status.success());
    table_has(&fleet, "mail1", "drain").await?;
    for user in &fleet.users[3..] {
        let mut imap = fleet.proxy().log_in(user).await?;
        ensure!(imap.backend().await? != "mail1", "{} was sent to a drained backend", user.name);
        live.push(imap);
    }
    for session in &mut live {
        session.command("NOOP").await?.ok()?;
    }
    fleet.counts_agree().await?;
    ensure!(fleet.redis.load().await?.get("mail1") == Some(&1));
    // Whoever leaves it does not come back.
    let mut at_mail1 = None;
    for (n, session) in live.iter_mut().take(3).enumerate() {
        if session.backend().await? == "mail1" {
            at_mail1 = Some(n);
        }
    }
    let who = at_mail1.context("three users at three backends")?;
    live.remove(who).logout().await?;
    eventually("the store knows", Duration::from_secs(60), async || {
        ensure!(!fleet.redis.load().await?.contains_key("mail1"));
        Ok(())
    })
    .await?;
    let mut again = fleet.proxy().log_in(&fleet.users[who]).await?;
    ensure!(again.backend().await? != "mail1");
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn operators_see_proxies_backends_and_where_a_user_is() -> Result {
    let fleet = Fleet::plan().proxies(2).start().await?;
    let user = &fleet.users[0];
    let mut one = fleet.proxies[0].log_in(user).await?;
    let _two = fleet.proxies[1].log_in(user).await?;
    let home = one.backend().await?;
    fleet.counts_agree().await?;
    let output = fleet.proxies[1].admin(&["status", "--json"]).await?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let rows = |list: &str| status["fleet"][list].as_array().cloned().context("no such list");
    ensure!(rows("proxies")?.len() == 2 && rows("backends")?.len() == 3, "{status}");
    let row = rows("backends")?.into_iter().find(|row| row["name"] == home.as_str()).context("no such backend")?;
    ensure!(row["sessions"] == 2 && row["users"] == 1, "{row}");
    let output = fleet.proxies[0].admin(&["user", "where", &user.name, "--json"]).await?;
    let place: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(place["home"]["backend"] == home.as_str() && place["home"]["sessions"] == 2, "{place}");
    ensure!(place["home"]["holders"].as_array().is_some_and(|holders| holders.len() == 2), "{place}");
    let output = fleet.proxies[0].admin(&["status"]).await?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(["proxy1", "proxy2", "mail1", "mail2", "mail3"].iter().all(|name| table.contains(name)), "{table}");
    Ok(())
}
