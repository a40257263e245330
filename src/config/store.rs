//! `[store]`: where shared state lives.

use std::time::Duration;

use crate::model::Secret;

/// Which store.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreConfig {
    /// Inside this process: for one proxy alone. `kind = "memory"`, the default.
    Memory,
    /// A Redis or Valkey server. `kind = "redis"`.
    Redis {
        /// `host:port` from `url = "redis://[user[:password]@]host[:port][/db]"`, or `unix:///path`.
        address: StoreAddress,
        /// Number of the database.
        database: u32,
        /// ACL user, if any.
        username: Option<String>,
        /// Password from the URL or from `password_file`.
        password: Option<std::sync::Arc<Secret>>,
        /// Prefix of every key, so that several fleets can share a server. "homing" by default.
        namespace: String,
        /// How long an answer may take before the link is considered broken. 1 s by default.
        timeout: Duration,
    },
}

/// Where a Redis server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// Host and port.
    Tcp(String, u16),
    /// Path of a Unix socket.
    Unix(std::path::PathBuf),
}
