//! `[log]` and `[admin]`: what operators see and touch.

use std::path::PathBuf;

/// `[log]`. To standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// "text" (the default) or "json".
    pub format: LogFormat,
    /// "error", "warn", "info" (the default), "debug" or "trace", or a filter as of tracing-subscriber. Reload applies it.
    pub level: String,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Unix socket of the admin API, mode 0600. "/run/homing/admin.sock" by default.
    pub socket: PathBuf,
}
