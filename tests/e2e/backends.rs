//! What operators do to backends, over a real store and real mail servers.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::harness::dovecot::DovecotOptions;
use crate::harness::{Dovecot, Fleet, Proxy, Result, eventually};

/// Has a proxy do something; gives what it prints.
async fn told(proxy: &Proxy, line: &str) -> Result<String> {
    let output = proxy.admin(&line.split(' ').collect::<Vec<_>>()).await?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until the store counts nobody at that backend.
async fn empty(fleet: &Fleet, backend: &str) -> Result {
    eventually("the backend is empty", Duration::from_secs(60), async || {
        let load = fleet.redis.load().await?;
        ensure!(load.get(backend).is_none_or(|sessions| *sessions == 0), "{load:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn i1_a_backend_is_added_and_another_evicted_under_live_users_and_a_restart_of_all_proxies_forgets_nothing()
-> Result {
    let mut fleet =
        Fleet::plan().proxies(2).backends(2).users(16).durable().config("[moves]\nmove_rate = 10").start().await?;
    let mut live = Vec::new();
    for (n, user) in fleet.users[..12].iter().enumerate() {
        live.push(fleet.proxies[n % 2].log_in(user).await?);
    }
    let mail3 = Dovecot::start(fleet.dir.path(), "mail3", &fleet.store, DovecotOptions::default()).await?;
    let (host, port) = (mail3.address.ip(), mail3.address.port());
    fleet.backends.push(mail3);
    let said = told(&fleet.proxies[0], &format!("backend add mail3 host={host} port={port}")).await?;
    ensure!(said.contains("In force at 2 of 2 proxies"), "{said}");
    let said = told(&fleet.proxies[1], "backend evict mail1").await?;
    ensure!(said.contains("In force at 2 of 2 proxies"), "{said}");
    empty(&fleet, "mail1").await?;
    drop(live);
    fleet.empty().await?;
    for proxy in &mut fleet.proxies {
        proxy.stop().await?;
    }
    for proxy in &mut fleet.proxies {
        proxy.start().await?;
    }
    let list: Value = serde_json::from_str(&told(&fleet.proxies[1], "backend list --json").await?)?;
    let row = |name: &str| list["backends"].as_array()?.iter().find(|row| row["name"] == name).cloned();
    let (mail1, mail3) = (row("mail1").context("mail1")?, row("mail3").context("mail3")?);
    ensure!(mail1["state"] == "drain" && mail1["job"]["kind"] == "evict", "{mail1}");
    ensure!(mail3["set"][0] == "added", "{mail3}");
    let mut used = Vec::new();
    let mut live = Vec::new();
    for (n, user) in fleet.users.iter().enumerate() {
        let mut imap = fleet.proxies[n % 2].log_in(user).await?;
        used.push(imap.backend().await?);
        live.push(imap);
    }
    ensure!(!used.contains(&"mail1".to_owned()) && used.contains(&"mail3".to_owned()), "{used:?}");
    told(&fleet.proxies[0], "backend up mail1").await?;
    fleet.counts_agree().await?;
    fleet.witness()?.swears_one_home()
}
