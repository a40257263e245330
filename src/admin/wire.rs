//! What goes over the admin socket, as JSON, and the client that asks for it.

mod backends;

use serde::{Deserialize, Serialize};

pub use super::client::{Client, ClientError};
pub use backends::{BackendLine, BackendShown, Backends, Changed, Destination, Dump, JobLine, Planned, PlannedAt};

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

/// Where a user is at home.
#[derive(Debug, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The affinity key that the name makes.
    pub key: String,
    /// The binding, if there is one.
    pub home: Option<Home>,
}

/// A binding.
#[derive(Debug, Serialize, Deserialize)]
pub struct Home {
    /// The backend.
    pub backend: String,
    /// The binding's generation.
    pub generation: u64,
    /// Sessions in the whole fleet.
    pub sessions: u32,
    /// Who holds them.
    pub holders: Vec<Holder>,
    /// Seconds without a session, if there is none.
    pub idle_s: Option<u64>,
}

/// A proxy that holds sessions of a user.
#[derive(Debug, Serialize, Deserialize)]
pub struct Holder {
    /// Its configured name, if the store knows it.
    pub proxy: Option<String>,
    /// Its incarnation.
    pub incarnation: String,
    /// How many.
    pub sessions: u32,
}

/// What a reload has done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys that changed and are in force.
    pub applied: Vec<String>,
    /// Keys that changed and need a restart.
    pub needs_restart: Vec<String>,
}
