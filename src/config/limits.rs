//! `[limits]`: bounds of everything a stranger can make us hold.

use std::time::Duration;

/// Bounds of connections, dialogue and relay. Reload applies them to new connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Client connections at once, all listeners together. 100,000 by default.
    pub connections: usize,
    /// Sessions of one key, fleet-wide; 0 for any number, the default. With a limit every login asks the store.
    pub sessions_per_key: u32,
    /// Time from accept to login, in all. 60 s by default (RFC 9051 asks for no more than it takes).
    pub login_timeout: Duration,
    /// Time for a TLS handshake. 15 s by default.
    pub tls_timeout: Duration,
    /// Bytes of one line before login. 8192 by default, 1,024 to 65,536.
    pub line: usize,
    /// Bytes of one literal before login. 4096 by default, at most `line`.
    pub literal: usize,
    /// Commands before login. 50 by default.
    pub commands: u32,
    /// Faulty commands before login. 10 by default.
    pub errors: u32,
    /// Refused logins on a connection. 3 by default.
    pub failures: u32,
    /// Silence, both ways, that ends a session. 35 min by default, at least 30 min (RFC 9051 5.4: no less).
    pub idle_timeout: Duration,
    /// How long a backend may take to close after its client has gone, before its connection is reset. 5 s by default.
    pub close_timeout: Duration,
    /// How long running sessions may go on when the proxy is told to stop. 10 s by default.
    pub shutdown_grace: Duration,
    /// Password hashes computed at once. The number of cores by default.
    pub hash_threads: usize,
}
