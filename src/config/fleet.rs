//! `[fleet]`: times and factors of the state protocol. Every proxy of a fleet must have the same.

use std::path::PathBuf;
use std::time::Duration;

/// See DESIGN of the state protocol in ARCHITECTURE.md.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// How long a proxy that does not renew is counted. 15 s by default, at least 1 s. Heartbeats come every
    /// `lease / 15`, at most 1 s and at least 100 ms apart.
    pub lease: Duration,
    /// How long an orphan's keys stay bound by it after its lease. 1 h by default, at least `lease`.
    pub orphan_grace: Duration,
    /// How long claims wait after the store lost its memory. 4 s by default, at least two heartbeats.
    pub recovery: Duration,
    /// How long a user without sessions keeps the home. 15 min by default; below 10 s is refused.
    pub user_expire: Duration,
    /// How long a user without sessions is remembered at all. 7 d by default, at least `user_expire`.
    pub remember: Duration,
    /// A remembered home is taken again while its load is below this times its fair share. 1.25 by default, at least 1.
    pub balance_factor: f64,
    /// How long a backend's weight ramps up. 0 s by default.
    pub slow_start: Duration,
    /// Wait for orphans, too, before a key leaves a dead backend. false by default.
    pub strict: bool,
    /// How long a login waits for its home. 10 s by default.
    pub login_wait: Duration,
    /// File that remembers this proxy's incarnations, so that a restart frees what the dead one held. Needed only with
    /// a redis store. Default: none.
    pub state_file: Option<PathBuf>,
}
