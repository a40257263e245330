//! What goes over the admin socket, as JSON, and the client that asks for it.

mod auth;
mod backends;

use serde::{Deserialize, Serialize};

mod errands;
mod users;

pub use super::client::{Client, ClientError};
pub use auth::{
    AuthStats, CacheCounts, FlushAsk, Flushed, ForgiveAsk, Forgiven, PenaltyCounts, PolicyCounts, SourceCounts, Trial,
    TrialAsk,
};
pub use backends::{BackendLine, BackendShown, Backends, Changed, Destination, JobLine, Planned, PlannedAt, Restoring};
pub use errands::{Audit, Difference, KickMany, KickedMany, ProxyDifference, Stray, Whom};
pub use users::*;

/// The answer to a request that failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong and what to do.
    pub error: String,
}

/// This proxy, its peers and the backends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The proxy that answers.
    pub this: This,
    /// The fleet as the store knows it; absent while the store cannot be asked.
    pub fleet: Option<FleetView>,
    /// Why `fleet` is absent.
    pub store_error: Option<String>,
    /// What this proxy thinks of each backend; its peers may think otherwise.
    #[serde(default)]
    pub health: Vec<Health>,
}

/// The proxy that answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct This {
    /// Its incarnation.
    pub incarnation: String,
    /// Version of homing.
    pub version: String,
    /// Seconds since it became ready.
    pub uptime_s: u64,
    /// Client connections, logged in or not.
    pub connections: usize,
    /// Sessions in its ledger.
    pub sessions: usize,
    /// Users with sessions here.
    pub users: usize,
    /// Keys whose count the store may not know yet.
    pub undeclared: usize,
    /// The link to the store is up.
    pub store_link: bool,
}

/// The fleet as the store knows it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FleetView {
    /// Counts recoveries of the store.
    pub epoch: u64,
    /// Milliseconds until the recovery window may close, if one is open.
    pub recovering_ms: Option<u64>,
    /// Version of the backend table.
    pub table_version: u64,
    /// Users that are being moved.
    pub moving: u64,
    /// How often a user was found at two backends, and one of the two ended, since the store remembers.
    pub splits: u64,
    /// Proxies, dead ones too until they are freed.
    pub proxies: Vec<Proxy>,
    /// Backends.
    pub backends: Vec<Backend>,
}

/// A proxy of the fleet.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proxy {
    /// Its configured name.
    pub name: String,
    /// Its incarnation.
    pub incarnation: String,
    /// Version of homing.
    pub version: String,
    /// "live", or "orphan": its lease is over, its keys stay bound by it for a while.
    pub state: String,
    /// Milliseconds left of its lease or, for an orphan, until its keys are freed.
    pub left_ms: u64,
    /// Seconds since its first hello.
    pub age_s: u64,
    /// Sessions it holds.
    pub sessions: u64,
}

/// A backend of the fleet.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// "up", "down", "drain" or "removed"; "failing" if the fleet finds it dead.
    pub state: String,
    /// Its share of new users.
    pub weight: u32,
    /// Sessions there, without those of orphans.
    pub sessions: u64,
    /// Users with sessions there.
    pub users: u64,
}

/// What the proxy that answers thinks of a service of a backend, and why.
#[derive(Debug, Serialize, Deserialize)]
pub struct Health {
    /// The backend's name.
    pub backend: String,
    /// "imap".
    pub service: String,
    /// It is probed; if not, it is never called failing.
    pub probed: bool,
    /// "ok" or "failing".
    pub health: String,
    /// Milliseconds for which it has been so.
    pub for_ms: u64,
    /// Good probes since the last bad one.
    pub good_probes: u32,
    /// Bad probes since the last good one.
    pub bad_probes: u32,
    /// Logins of several users failed in a row, though probes may be good.
    pub logins_failing: bool,
    /// What failed last, in a probe or for a user.
    pub last_error: Option<String>,
    /// Milliseconds since then.
    pub last_error_ago_ms: Option<u64>,
    /// Milliseconds that the last good probe took.
    pub probe_ms: Option<u64>,
    /// Attempts of users that got in, since the proxy started.
    pub logins: u64,
    /// Attempts that the backend refused, as with a wrong password.
    pub refused: u64,
    /// Attempts that it refused for now.
    pub postponed: u64,
    /// Attempts in which it could not be used.
    pub failures: u64,
    /// The share of failures and temporary refusals among the attempts of the last 10 s, 0 to 1.
    pub error_rate: Option<f64>,
    /// Those attempts.
    pub recent_attempts: u32,
}

/// What a reload has done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys that changed and are in force.
    pub applied: Vec<String>,
    /// Keys that changed and need a restart.
    pub needs_restart: Vec<String>,
}
