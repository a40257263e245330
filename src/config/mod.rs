//! What the operator wrote, as checked settings. A file per section; each field says meaning, unit, default, reason, and
//! whether a reload applies it.

mod added;
mod auth;
mod auth_policy;
mod backends;
mod changes;
mod check;
mod document;
mod doveadm;
mod endpoint;
mod fault;
mod fleet;
mod front;
mod health;
mod key;
mod limits;
mod listen;
mod lmtp;
mod moves;
mod operations;
mod passdb;
mod reader;
mod show;
mod sieve;
mod store;
mod value;
mod web_url;
mod words;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;

pub use auth::{AuthConfig, MasterSeparator};
pub use auth_policy::{AuthPolicyConfig, PolicyAttribute, PolicyAttributes, PolicyHash, PolicyPiece, PolicyVariable};
pub use backends::{Announce, BackendConfig, BackendTls, Master, Reach};
pub use changes::Changes;
pub use doveadm::{DoveadmConfig, DoveadmCredential, DoveadmDoorConfig, DoveadmUrl};
pub use endpoint::Endpoint;
pub use fault::{Fault, Faults};
pub use fleet::FleetConfig;
pub use front::{Certificate, ClientAuth, ClientName, ListenerConfig, ListenerTls, TlsConfig, TlsVersion};
pub use health::{HealthConfig, ProbeLogin};
pub use limits::LimitsConfig;
pub use listen::{ListenAddress, SocketMode};
pub use lmtp::{Delimiter, LmtpConfig};
pub use moves::{HookUrl, MovesConfig};
pub use operations::{AdminConfig, LogConfig, LogFormat};
pub use passdb::{
    AttributeField, Attributes, AuthSocket, DovecotPassdb, FilePassdb, HttpFormat, HttpPassdb, LdapKeys, LdapMethod,
    LdapPassdb, LdapScope, LdapUri, Oauth2Keys, Oauth2Method, Oauth2Passdb, Parameter, PassdbConfig, Piece, RemoteKeys,
    SqlKeys, SqlPassdb, SqlUrl, Statement, Template, TokenAlgorithm,
};
pub use sieve::SieveConfig;
pub use store::{RedisConfig, RedisLogin, RedisServers, RedisTls, StoreAddress, StoreConfig};
use toml::de::DeTable;
pub use web_url::WebUrl;
use zeroize::Zeroizing;

use crate::model::{BackendId, Protocol};

/// Bytes of a configuration file. A thousand backends need a tenth of it.
const LONGEST_FILE: u64 = 1 << 20;

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
    /// `[auth]`.
    pub auth: AuthConfig,
    /// Who else is asked about a login. Reload applies it.
    pub auth_policy: AuthPolicyConfig,
    /// Mail that comes in. Reload applies it to new connections.
    pub lmtp: LmtpConfig,
    /// What clients of our own doveadm must know. Reload applies it.
    pub doveadm: DoveadmDoorConfig,
    /// Password sources, asked in order. Reload applies them.
    pub passdb: Vec<PassdbConfig>,
    /// How backends are probed. Reload applies it.
    pub health: HealthConfig,
    /// What ManageSieve clients are told before login. Reload applies it to new connections.
    pub sieve: SieveConfig,
    /// The mail servers. Reload applies them to new logins.
    pub backends: BTreeMap<BackendId, BackendConfig>,
    /// Moves of users. Reload applies the pace of many; the rest needs a restart.
    pub moves: MovesConfig,
    /// Needs a restart, but for the level.
    pub log: LogConfig,
    /// The operator's door. Needs a restart.
    pub admin: AdminConfig,
}

impl Config {
    /// Reads a file. Relative paths in it start at its directory.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let name = path.display().to_string();
        let remedy = "name another file with --config, or correct this one's permissions";
        let text = read_file(path)
            .map_err(|error| Faults::unreadable(&name, format!("{name} cannot be read: {error}"), remedy))?;
        Self::parse(&text, &name)
    }

    /// Reads a text. Relative paths in it start at the directory of `file_name`, which need not exist otherwise.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once; of faulty TOML only the first fault.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Faults> {
        let document = DeTable::parse(text).map_err(|error| Faults::syntax(file_name, text, &error))?;
        let mut reader = reader::Reader::new(document.get_ref(), Path::new(file_name));
        let config = document::read(&mut reader);
        check::all(&config, &mut reader);
        reader.finish(file_name, text).map(|()| config)
    }

    /// What clients speak at the listeners, each protocol as often as there are listeners for it.
    pub fn served(&self) -> impl Iterator<Item = Protocol> {
        self.listeners.iter().map(|listener| listener.protocol)
    }

    /// A proxy without a file: these backends (name, host, port), the embedded store, and the backends decide about
    /// passwords. It listens without TLS, at 127.0.0.1:1143 unless other addresses are named.
    pub fn from_backends(backends: &[(BackendId, String, u16)], listen: Vec<SocketAddr>) -> Self {
        let backend = |(name, host, port): &(BackendId, String, u16)| {
            (name.clone(), BackendConfig { host: host.clone(), port: *port, ..BackendConfig::default() })
        };
        let listen: Vec<ListenAddress> = if listen.is_empty() {
            vec![ListenerConfig::default().address]
        } else {
            listen.into_iter().map(ListenAddress::from).collect()
        };
        let plain = |address| ListenerConfig {
            address,
            tls: ListenerTls::None,
            plaintext_login: true,
            ..ListenerConfig::default()
        };
        Self {
            name: document::host_name(),
            store: StoreConfig::Memory,
            fleet: FleetConfig::default(),
            listeners: listen.into_iter().map(plain).collect(),
            tls: TlsConfig::default(),
            limits: LimitsConfig::default(),
            auth: AuthConfig::default(),
            auth_policy: AuthPolicyConfig::default(),
            lmtp: LmtpConfig::default(),
            doveadm: DoveadmDoorConfig::default(),
            moves: MovesConfig::default(),
            passdb: vec![PassdbConfig::Backend],
            health: HealthConfig::default(),
            sieve: SieveConfig::default(),
            backends: backends.iter().map(backend).collect(),
            log: LogConfig::default(),
            admin: AdminConfig::default(),
        }
    }

    /// Whether a backend can have this name.
    pub fn is_name(text: &str) -> bool {
        value::checked_name(text).is_ok()
    }

    /// Whether this is an IP address, or could be the name of a host.
    pub fn is_host(text: &str) -> bool {
        document::is_host(text)
    }

    /// What is allowed, but seldom meant: a sentence each, for the operator.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }
}

/// The text may hold passwords, so it is wiped when it is dropped.
fn read_file(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    let size = usize::try_from(file.metadata()?.len().min(LONGEST_FILE)).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(size + 1)); // never grows: no copies are left behind
    file.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {LONGEST_FILE} bytes")));
    }
    Ok(text)
}
