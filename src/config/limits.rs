//! `[limits]`: bounds of everything a stranger can make us hold.

use std::time::Duration;

use super::key::section;

section! {
    /// Bounds of connections, dialogue and relay: of everything a stranger can make the proxy hold.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LimitsConfig {
        /// Client connections at once, all listeners together.
        pub connections: usize = 100_000, min("1"), max("10000000");
        /// Sessions of one user, fleet-wide; 0 for any number. With a limit every login asks the store.
        pub sessions_per_key: u32 = 0;
        /// Sessions of one user from one address, fleet-wide (as Dovecot's `mail_max_userip_connections`); 0 for any number.
        pub user_ip_connections: u32 = 10;
        /// Connections of mail clients of one address, fleet-wide; 0 for any number. With a limit every connection asks the store.
        pub address_connections: u32 = 0;
        /// Logins of one address in a minute, fleet-wide; 0 for any number.
        pub logins_per_minute: u32 = 0;
        /// Time from accept to login, in all.
        pub login_timeout: Duration = Duration::from_secs(60), min("1s"), max("30min");
        /// Time for a TLS handshake.
        pub tls_timeout: Duration = Duration::from_secs(15), min("100ms"), max("10min");
        /// Bytes of one line before login.
        pub line: usize = 8192, min("1024"), max("65536");
        /// Bytes of one literal before login; at most `line`.
        pub literal: usize = 4096, min("64"), max("65536");
        /// Commands before login.
        pub commands: u32 = 50, min("3"), max("10000");
        /// Faulty commands before login.
        pub errors: u32 = 10, min("1"), max("10000");
        /// Refused logins on a connection.
        pub failures: u32 = 3, min("1"), max("1000");
        /// How often a login follows a backend that refers it to another.
        pub max_referrals: u32 = 3, max("10");
        /// Silence, both ways, that ends a session. RFC 9051 5.4 allows no less than 30min.
        pub idle_timeout: Duration = Duration::from_secs(35 * 60), min("30min");
        /// How long a backend may take to close after its client has gone, before its connection is reset.
        pub close_timeout: Duration = Duration::from_secs(5), min("100ms"), max("10min");
        /// How long a session that must end (the user is moved, the proxy stops) may finish what it is at. Sessions in IDLE
        /// or between two commands end at once; 0s ends all at once.
        pub kick_deadline: Duration = Duration::from_secs(2), max("1min");
        /// How long running sessions may go on when the proxy is told to stop.
        pub shutdown_grace: Duration = Duration::from_secs(10);
        /// Password hashes computed at once. By default as many as the machine has cores.
        pub hash_threads: usize = cores(), min("1"), max("1024"), computed;
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
