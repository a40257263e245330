//! What the operator wrote, as checked settings. A file per section; each field says meaning, unit, default, reason, and
//! whether a reload applies it.

mod backends;
mod fleet;
mod front;
mod limits;
mod operations;
mod passdb;
mod store;

use std::collections::BTreeMap;

pub use backends::{Announce, BackendConfig, BackendTls, Master};
pub use fleet::FleetConfig;
pub use front::{Certificate, ClientAuth, ListenerConfig, ListenerTls, TlsConfig, TlsVersion};
pub use limits::LimitsConfig;
pub use operations::{AdminConfig, LogConfig, LogFormat};
pub use passdb::PassdbConfig;
pub use store::StoreConfig;

use crate::model::BackendId;

/// A whole configuration: complete, consistent, every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of this proxy, for people. The host's name by default. Needs a restart.
    pub name: String,
    /// Where shared state lives. Needs a restart.
    pub store: StoreConfig,
    /// Times and factors of the state protocol. Needs a restart of the whole fleet.
    pub fleet: FleetConfig,
    /// Where clients connect. Needs a restart.
    pub listeners: Vec<ListenerConfig>,
    /// Certificates and versions towards clients. Reload applies it to new connections.
    pub tls: TlsConfig,
    /// Bounds. Reload applies them to new connections.
    pub limits: LimitsConfig,
    /// Password sources, asked in order. Reload applies them.
    pub passdb: Vec<PassdbConfig>,
    /// The mail servers. Reload applies them to new logins.
    pub backends: BTreeMap<BackendId, BackendConfig>,
    /// Needs a restart, but for the level.
    pub log: LogConfig,
    /// The operator's door. Needs a restart.
    pub admin: AdminConfig,
}
