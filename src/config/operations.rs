//! `[log]` and `[admin]`: what operators see and touch.

use std::path::PathBuf;

use super::key::section;
use super::words::words;

section! {
    /// The log. It goes to standard error, with times in UTC.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LogConfig {
        /// "text" for people or "json" for machines.
        pub format: LogFormat = LogFormat::Text;
        /// "error", "warn", "info", "debug" or "trace"; or a filter such as "info,homing::session=debug".
        pub level: String = "info".to_owned();
    }
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

words!(LogFormat { Text = "text", Json = "json" });

section! {
    /// The operator's door.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AdminConfig {
        /// Unix socket of the admin API, mode 0600.
        pub socket: PathBuf = PathBuf::from("/run/homing/admin.sock");
    }
}
