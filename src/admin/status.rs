//! `GET /v1/status`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::{Admin, in_time, wire};
use crate::health::Opinion;
use crate::store::{BackendView, Census, ProxyView};

/// Answers also while the store is away: then with what this proxy knows.
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Json<wire::Status> {
    let (fleet, store_error) = match fleet(&admin).await {
        Ok(fleet) => (Some(fleet), None),
        Err(why) => (None, Some(why)),
    };
    let health = admin.health.opinions().iter().map(health_row).collect();
    Json(wire::Status { this: this(&admin), fleet, store_error, health })
}

/// The sum of all shards; half of it would mislead.
async fn fleet(admin: &Admin) -> Result<wire::FleetView, String> {
    let mut fleet = wire::FleetView::default();
    for number in 0..admin.fleet.shards().len() {
        // There are fewer shards than u16 can count: Fleet::join sees to that.
        add(&mut fleet, &in_time(admin.fleet.store().census(number as u16)).await?);
    }
    Ok(fleet)
}

fn this(admin: &Admin) -> wire::This {
    let holdings = || admin.fleet.shards().iter().map(|shard| shard.ledger.holding());
    wire::This {
        incarnation: admin.fleet.incarnation().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: admin.began.elapsed().as_secs(),
        connections: admin.services.connections.open(),
        sessions: holdings().map(|holding| holding.sessions).sum(),
        users: holdings().map(|holding| holding.keys).sum(),
        undeclared: holdings().map(|holding| holding.dirty).sum(),
        store_link: admin.fleet.shards().iter().all(|shard| shard.link.state().borrow().welcome.is_some()),
    }
}

/// Adds a shard's census.
fn add(fleet: &mut wire::FleetView, census: &Census) {
    fleet.epoch = fleet.epoch.max(census.epoch);
    fleet.recovering_ms = fleet.recovering_ms.max(census.recovering_ms);
    fleet.table_version = fleet.table_version.max(census.table_version);
    fleet.moving += u64::from(census.moving);
    fleet.splits += census.splits;
    for proxy in &census.proxies {
        match fleet.proxies.iter_mut().find(|known| known.incarnation == proxy.incarnation.as_str()) {
            Some(known) => known.sessions += sessions(proxy),
            None => fleet.proxies.push(proxy_row(proxy)),
        }
    }
    for backend in &census.backends {
        match fleet.backends.iter_mut().find(|known| known.name == backend.backend.as_str()) {
            Some(known) => {
                known.sessions += u64::from(backend.sessions);
                known.users += u64::from(backend.users);
            }
            None => fleet.backends.push(backend_row(backend)),
        }
    }
    fleet.proxies.sort_by(|a, b| (&a.name, &a.incarnation).cmp(&(&b.name, &b.incarnation)));
}

fn proxy_row(proxy: &ProxyView) -> wire::Proxy {
    wire::Proxy {
        name: proxy.name.clone(),
        incarnation: proxy.incarnation.to_string(),
        version: proxy.version.clone(),
        state: if proxy.orphan { "orphan" } else { "live" }.to_owned(),
        left_ms: proxy.left_ms,
        age_s: proxy.age_ms / 1000,
        sessions: sessions(proxy),
    }
}

fn sessions(proxy: &ProxyView) -> u64 {
    proxy.sessions.iter().map(|(_, count)| u64::from(*count)).sum()
}

fn backend_row(backend: &BackendView) -> wire::Backend {
    wire::Backend {
        name: backend.backend.to_string(),
        pool: backend.row.pool.to_string(),
        state: backend.row.condition().to_owned(),
        weight: backend.row.weight.get(),
        sessions: u64::from(backend.sessions),
        users: u64::from(backend.users),
    }
}

fn health_row(opinion: &Opinion) -> wire::Health {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    wire::Health {
        backend: opinion.backend.to_string(),
        service: opinion.service.word().to_owned(),
        probed: opinion.probed,
        health: opinion.verdict.word().to_owned(),
        for_ms: ms(opinion.lasting),
        good_probes: opinion.good,
        bad_probes: opinion.bad,
        logins_failing: opinion.logins_failing,
        last_error: opinion.last_failure.as_ref().map(|failure| failure.words.clone()),
        last_error_ago_ms: opinion.last_failure.as_ref().map(|failure| ms(failure.ago)),
        probe_ms: opinion.last_probe.map(ms),
        logins: opinion.traffic.logins,
        refused: opinion.traffic.refused,
        postponed: opinion.traffic.postponed,
        failures: opinion.traffic.failures,
        error_rate: opinion.error_rate.map(|rate| rate.rate),
        recent_attempts: opinion.error_rate.map_or(0, |rate| rate.attempts),
    }
}
