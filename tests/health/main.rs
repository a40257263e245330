//! The room `health`: what one proxy thinks of its backends. `bad.rs` has a backend for every way of being of no use, over
//! real sockets; `pace.rs` plays the probes and stops the clock; `users.rs` tells what became of users' logins.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod backend;
mod bad;
mod log;
mod pace;
mod users;
mod visits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homing::backend::Servers;
use homing::config::{BackendConfig, HealthConfig};
use homing::health::{Health, Opinion, Verdict, Visitor};
use homing::model::{BackendId, Protocol};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what} has not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Settings that decide in a moment.
fn quick() -> HealthConfig {
    HealthConfig {
        interval: Duration::from_millis(40),
        fast_interval: Duration::from_millis(10),
        timeout: Duration::from_secs(1),
        ..HealthConfig::default()
    }
}

fn servers(backends: &[(&str, BackendConfig)]) -> Arc<Servers> {
    serving(backends, &[Protocol::Imap])
}

/// Servers of a proxy that serves those.
fn serving(backends: &[(&str, BackendConfig)], protocols: &[Protocol]) -> Arc<Servers> {
    let backends: BTreeMap<_, _> =
        backends.iter().map(|(name, config)| (BackendId::new(name), config.clone())).collect();
    Arc::new(Servers::new(&backends, protocols.iter().copied()).unwrap())
}

/// Probes one backend over the network.
fn watch(name: &str, backend: BackendConfig, config: &HealthConfig) -> Health {
    Health::start(config, servers(&[(name, backend)]), Arc::new(Visitor::default()))
}

/// The opinion of the only backend.
fn opinion(health: &Health) -> Opinion {
    health.opinions().pop().unwrap()
}

async fn is(health: &Health, verdict: Verdict) -> Opinion {
    until(&format!("{verdict:?}: {:?}", opinion(health)), || opinion(health).verdict == verdict).await;
    opinion(health)
}
