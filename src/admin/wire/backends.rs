//! Backends, and what is done to them.

use serde::{Deserialize, Serialize};

/// The backend table.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backends {
    /// Its version.
    pub version: u64,
    /// Different names of live proxies: who votes.
    pub voters: u32,
    /// The backends, by name.
    pub backends: Vec<BackendLine>,
}

/// One backend. The first seven fields are those of the Director's host list, in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendLine {
    /// Its name.
    pub name: String,
    /// Host and port, if this proxy knows them.
    pub address: Option<String>,
    /// Its share of new users.
    pub weight: u32,
    /// Users with sessions there.
    pub users: u64,
    /// Its pool.
    pub pool: String,
    /// "up", "down", "drain" or "removed"; "failing" if the fleet finds it dead.
    pub state: String,
    /// For how many seconds it has been in that state; `None`: always.
    pub since_s: Option<u64>,
    /// Sessions there, without those of orphans.
    pub sessions: u64,
    /// The most that it may have; 0 for any number.
    pub max_sessions: u32,
    /// How many of the live proxies' names find it dead.
    pub votes: u32,
    /// What operators have set of it: "weight", "state", "added".
    pub set: Vec<String>,
    /// Work at it.
    pub job: Option<JobLine>,
}

/// Bulk work at a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobLine {
    /// "evict", "flush" or "rebalance".
    pub kind: String,
    /// It rests.
    pub paused: bool,
    /// Why, if no operator has said so.
    pub why: String,
    /// For how many seconds it has been there.
    pub since_s: u64,
    /// Users with sessions that are still to be moved.
    pub left: u64,
    /// Users with sessions who stay, for the passdb or an operator has pinned them there.
    #[serde(default)]
    pub pinned: u64,
}

/// One backend, with the progress of its work.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackendShown {
    /// The backend.
    pub backend: BackendLine,
    /// Users who are being moved now, fleet-wide and for whatever reason.
    pub moving: u64,
    /// Users moved in the last second; `None` without active work.
    pub rate: Option<f64>,
    /// Seconds that the rest takes at that rate; `None` if that cannot be said.
    pub left_s: Option<u64>,
}

/// A change of the backend table.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The version that has it.
    pub version: u64,
    /// Proxies with a lease.
    pub live: u32,
    /// Those of them where it is in force.
    pub confirmed: u32,
    /// The names of the others.
    pub silent: Vec<String>,
    /// What proxies cannot use of it.
    pub complaints: Vec<String>,
    /// Replicas of the store that have it, and how many there are; `None` if there are none, or nothing was to be done.
    pub replicas: Option<(u32, u32)>,
    /// What to know beside.
    pub notes: Vec<String>,
}

/// What a change would do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Planned {
    /// At each backend.
    pub at: Vec<PlannedAt>,
}

/// What bulk work would do at a backend.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedAt {
    /// Which.
    pub backend: String,
    /// Users with sessions who would be moved.
    pub users: u64,
    /// Their sessions.
    pub sessions: u64,
    /// Users with sessions at the proxy that was asked who stay, for the passdb has pinned them there. Others may know more.
    #[serde(default)]
    pub pinned_here: u64,
    /// Seconds that this would take.
    pub takes_s: u64,
    /// Where they would go.
    pub to: Vec<Destination>,
}

/// Where some users would go.
#[derive(Debug, Serialize, Deserialize)]
pub struct Destination {
    /// Which backend.
    pub backend: String,
    /// How many.
    pub users: u64,
}

/// A command that restores something that operators have set.
#[derive(Debug, Serialize, Deserialize)]
pub struct Restoring {
    /// One line, for a shell.
    pub command: String,
}
