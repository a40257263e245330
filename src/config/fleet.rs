//! `[fleet]`: times and factors of the state protocol. Every proxy of a fleet must have the same.

use std::path::PathBuf;
use std::time::Duration;

use super::key::section;

section! {
    /// Times and factors of the state protocol; the same in every proxy of a fleet. The defaults suit a fleet of any size.
    #[derive(Clone, Debug, PartialEq)]
    pub struct FleetConfig {
        /// How long a proxy that does not renew is counted. Heartbeats come every fifteenth of it, at most 1s and at
        /// least 100ms apart.
        pub lease: Duration = Duration::from_secs(15), min("1s"), max("10min");
        /// How long the keys of a proxy that is cut off or dead stay bound by it after its lease; at least `lease`. A
        /// store outage shorter than this disconnects nobody.
        pub orphan_grace: Duration = Duration::from_secs(3600), min("1s");
        /// How long logins wait after the store lost its memory, while the proxies tell it what they hold; at least
        /// two heartbeats.
        pub recovery: Duration = Duration::from_secs(4), min("200ms"), max("10min");
        /// How long a user without sessions keeps the home.
        pub user_expire: Duration = Duration::from_secs(15 * 60), min("10s");
        /// How long a user without sessions is remembered at all; at least `user_expire`. A remembered home is taken
        /// again while it is not overloaded, because its index files are still there.
        pub remember: Duration = Duration::from_secs(7 * 24 * 3600), min("10s");
        /// A remembered home is taken again while its load is below this times its fair share.
        pub balance_factor: f64 = 1.25, min("1"), max("1000");
        /// How long the weight of a backend ramps up once it is up.
        pub slow_start: Duration = Duration::ZERO;
        /// Wait for proxies that are cut off, too, before a user leaves a dead backend. Safer, but such users wait up to
        /// `orphan_grace`.
        pub strict: bool = false;
        /// How long a login waits for its home before it gets a temporary failure.
        pub login_wait: Duration = Duration::from_secs(10), min("100ms"), max("5min");
        /// File that remembers this proxy's incarnations, so that a restart frees at once what the dead one held. Of use
        /// only with a redis store.
        pub state_file: Option<PathBuf> = None, example("\"/var/lib/homing/state\"");
    }
}

impl FleetConfig {
    /// Time from one heartbeat to the next: short against the lease, and no busier than the store deserves.
    pub fn heartbeat(&self) -> Duration {
        (self.lease / 15).clamp(Duration::from_millis(100), Duration::from_secs(1))
    }
}
