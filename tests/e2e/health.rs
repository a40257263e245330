//! Probes of real mail servers: plain, behind a PROXY header, inside TLS, with a login; dead and back.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::harness::certs::Authority;
use crate::harness::dovecot::DovecotOptions;
use crate::harness::fleet::{backend_entry, merge};
use crate::harness::{Dovecot, Fleet, Result, eventually};

/// What the proxy thinks of a backend.
async fn thinks(fleet: &Fleet, backend: &str) -> Result<Value> {
    let output = fleet.proxy().admin(&["status", "--json"]).await?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let found = status["health"].as_array().context("no health")?.iter().find(|row| row["backend"] == backend);
    found.cloned().with_context(|| format!("{status}"))
}

async fn finds(fleet: &Fleet, backend: &str, health: &str) -> Result<Value> {
    eventually(&format!("{backend} is {health}"), Duration::from_secs(60), async || {
        let row = thinks(fleet, backend).await?;
        let probes = row["good_probes"].as_u64().max(row["bad_probes"].as_u64()).unwrap_or_default();
        ensure!(row["health"] == health && probes >= 3, "{row}");
        Ok(row)
    })
    .await
}

#[tokio::test]
async fn real_servers_are_fit_by_every_way_to_them_and_failing_only_while_they_are_dead() -> Result {
    let mut fleet = Fleet::plan().backends(2).start_without_proxies().await?;
    let authority = Authority::new(fleet.dir.path(), "ca")?;
    let issued = authority.issue(&["mail.test"])?;
    let options = DovecotOptions { tls: Some(&issued), ..DovecotOptions::default() };
    fleet.backends.push(Dovecot::start(fleet.dir.path(), "mail3", &fleet.store, options).await?);
    let (prober, proxied) = (fleet.users[0].clone(), fleet.backends[1].proxied_address.port());
    let entry = format!(
        "{}tls = \"starttls\"\ntls_ca = {:?}\ntls_name = \"mail.test\"\n[backend.mail2]\nport = {proxied}\n\
         announce_proxy = true\n[health]\ninterval = \"200ms\"\nfast_interval = \"100ms\"\nprobe_user = {:?}\n\
         probe_password = {:?}\n",
        backend_entry(&fleet.backends[2]),
        authority.file,
        prober.name,
        prober.password,
    );
    let entry: toml::Table = entry.parse()?;
    fleet.reconfigure(|config| merge(config, entry.clone()))?;
    fleet.proxies[0].start().await?;
    for backend in ["mail1", "mail2", "mail3"] {
        let row = finds(&fleet, backend, "ok").await?;
        ensure!(row["last_error"].is_null() && row["failures"] == 0, "{row}");
    }
    ensure!(fleet.witness()?.visits.len() >= 9, "probes log in");
    ensure!(fleet.redis.sessions().await? == 0, "and are nobody's sessions");

    fleet.backends[0].kill();
    let row = finds(&fleet, "mail1", "failing").await?;
    ensure!(row["last_error"].as_str().is_some_and(|error| error.contains("refused")), "{row}");
    ensure!(thinks(&fleet, "mail2").await?["health"] == "ok");
    fleet.backends[0].launch().await?;
    finds(&fleet, "mail1", "ok").await?;
    Ok(())
}
