//! `[store]`: where shared state lives.

mod address;
mod read;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use address::StoreAddress;
use address::{Server, StoreUrl};
pub(super) use read::read;

use super::key::section;
use super::words::words;
use crate::model::Secret;

/// Which store.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreConfig {
    /// Inside this process: for one proxy alone. `kind = "memory"`, the default.
    Memory,
    /// In Redis or Valkey. `kind = "redis"`.
    Redis(Box<RedisConfig>),
}

impl StoreConfig {
    /// How many shards there are: 1 to 1024.
    pub fn shards(&self) -> u16 {
        match self {
            Self::Memory => 1,
            Self::Redis(redis) => redis.shards,
        }
    }
}

/// Where Redis is, and how to get in.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConfig {
    /// One server, a Sentinel set-up or a Cluster.
    pub servers: RedisServers,
    /// Number of the database; always 0 in a Cluster.
    pub database: u32,
    /// Who homing is to the servers.
    pub login: RedisLogin,
    /// TLS to every server and Sentinel. None: in the clear.
    pub tls: Option<RedisTls>,
    /// Prefix of every key, so that several fleets can share a server. "homing" by default.
    pub namespace: String,
    /// Parts of the state that can be on different nodes of a Cluster: 1 to 1024, 1 by default.
    pub shards: u16,
    /// How long an answer may take before the link is considered broken. 1 s by default.
    pub timeout: Duration,
}

/// How many servers there are, and who says which of them is the master.
#[derive(Clone, Debug, PartialEq)]
pub enum RedisServers {
    /// `url`: one server that is the master.
    One(StoreAddress),
    /// `sentinels` and `master`: ask them for the master of that name.
    Sentinel {
        /// Where they listen.
        sentinels: Vec<StoreAddress>,
        /// What they call the master.
        master: String,
        /// Who homing is to them.
        login: RedisLogin,
    },
    /// `cluster`: nodes of which some are up. They name the others.
    Cluster(Vec<StoreAddress>),
}

/// An ACL user. Without a name the password is that of the user "default".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedisLogin {
    /// Its name, if any.
    pub username: Option<String>,
    /// Its password, if any.
    pub password: Option<Arc<Secret>>,
}

/// How servers prove who they are, and homing to them. PEM files, read whenever the way to a server is made anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedisTls {
    /// Authorities in place of the system's.
    pub ca: Option<PathBuf>,
    /// homing's own certificate with its chain, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

section! {
    /// Where shared state lives: inside this process, for one proxy alone, or in Redis or Valkey. There, give either url
    /// (one server), or sentinels and master, or cluster.
    #[derive(Clone, Debug)]
    pub(super) struct StoreKeys {
        /// "memory" or "redis".
        pub(super) kind: Kind = Kind::Memory;
        /// One server: "redis://[user[:password]@]host[:port][/database]", "rediss://..." for TLS, or
        /// "unix:///path/of/redis.sock".
        pub(super) url: Option<StoreUrl> = None, example("\"redis://redis.example.org:6379/0\""), secret;
        /// Redis Sentinel: where the Sentinels listen. All are asked for the master, and watched, so that a failover is
        /// followed at once.
        pub(super) sentinels: Vec<Server<26379>> = Vec::new(),
            example("[\"sentinel1.example.org:26379\", \"sentinel2.example.org\", \"sentinel3.example.org\"]");
        /// What the Sentinels call the master (the name in "sentinel monitor").
        pub(super) master: Option<String> = None, example("\"mymaster\"");
        /// ACL user at the Sentinels, if they ask for one; it is not the one of the servers.
        pub(super) sentinel_username: Option<String> = None, example("\"homing\"");
        /// Password at the Sentinels.
        pub(super) sentinel_password: Option<Arc<Secret>> = None, example("\"password\""), secret;
        /// File whose first line is the password at the Sentinels.
        pub(super) sentinel_password_file: Option<PathBuf> = None, example("\"sentinel.password\"");
        /// Redis Cluster: nodes of which some are up; they name the others. See shards.
        pub(super) cluster: Vec<Server<6379>> = Vec::new(),
            example("[\"node1.example.org:6379\", \"node2.example.org\", \"node3.example.org\"]");
        /// ACL user, with sentinels or cluster; a url has its own place for it. The rights that it needs at least, if
        /// namespace is "homing": ~{homing:* &{homing:* +@read +@write +@scripting +@pubsub +@transaction +@connection
        /// -@dangerous +info +time +wait +config|get +cluster|slots +cluster|keyslot
        pub(super) username: Option<String> = None, example("\"homing\"");
        /// Password, with sentinels or cluster; a url has its own place for it.
        pub(super) password: Option<Arc<Secret>> = None, example("\"password\""), secret;
        /// File whose first line is the password, so that it need not stand here.
        pub(super) password_file: Option<PathBuf> = None, example("\"redis.password\"");
        /// Number of the database, with sentinels; a url has its own place for it.
        pub(super) database: u32 = 0;
        /// Speak TLS to every server and Sentinel, with sentinels or cluster; a url begins with "rediss://" then. A
        /// server's certificate must bear the host name or address that homing is told: let Sentinels and nodes
        /// announce host names.
        pub(super) tls: bool = false;
        /// Authorities that certificates of the servers are checked against. By default the system's.
        pub(super) tls_ca: Option<PathBuf> = None, example("\"redis-ca.pem\"");
        /// homing's own certificate with its chain, for servers that ask for one.
        pub(super) tls_certificate: Option<PathBuf> = None, example("\"homing.pem\"");
        /// The key of tls_certificate.
        pub(super) tls_key: Option<PathBuf> = None, example("\"homing.key\"");
        /// In how many parts the state is kept; parts may lie on different nodes of a Cluster. All proxies must agree,
        /// and a proxy that does not is refused. It cannot be changed while there is state: stop all proxies, empty the
        /// store, start them with the new number.
        pub(super) shards: u16 = 1, min("1"), max("1024");
        /// Prefix of every key, so that several fleets can share a server.
        pub(super) namespace: String = "homing".to_owned();
        /// How long an answer may take before the connection is considered broken.
        pub(super) timeout: Duration = Duration::from_secs(1), min("50ms"), max("30s");
    }
}

/// The word that decides whether the other keys mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Memory,
    Redis,
}

words!(Kind { Memory = "memory", Redis = "redis" });

impl StoreKeys {
    /// `None`: redis without a server.
    fn build(self, files: Passwords) -> Option<StoreConfig> {
        if self.kind == Kind::Memory {
            return Some(StoreConfig::Memory);
        }
        let url = self.url.unwrap_or_default();
        let listed = !self.sentinels.is_empty() || !self.cluster.is_empty();
        let servers = if !self.sentinels.is_empty() {
            let password = files.of_sentinels.or(self.sentinel_password);
            RedisServers::Sentinel {
                sentinels: self.sentinels.into_iter().map(|server| server.0).collect(),
                master: self.master?,
                login: RedisLogin { username: self.sentinel_username, password },
            }
        } else if !self.cluster.is_empty() {
            RedisServers::Cluster(self.cluster.into_iter().map(|server| server.0).collect())
        } else {
            RedisServers::One(url.address)
        };
        let tls = if listed { self.tls } else { url.tls };
        let username = url.username.or(self.username);
        Some(StoreConfig::Redis(Box::new(RedisConfig {
            servers,
            database: if listed { self.database } else { url.database },
            login: RedisLogin { username, password: files.of_servers.or(url.password).or(self.password) },
            tls: tls.then(|| RedisTls { ca: self.tls_ca, identity: self.tls_certificate.zip(self.tls_key) }),
            namespace: self.namespace,
            shards: self.shards,
            timeout: self.timeout,
        })))
    }
}

/// What the password files hold.
#[derive(Default)]
struct Passwords {
    of_servers: Option<Arc<Secret>>,
    of_sentinels: Option<Arc<Secret>>,
}

impl From<&StoreConfig> for StoreKeys {
    fn from(config: &StoreConfig) -> Self {
        let StoreConfig::Redis(redis) = config else { return Self::default() };
        let RedisConfig { servers, database, login, tls, namespace, shards, timeout } = RedisConfig::clone(redis);
        let secured = tls.is_some();
        let RedisTls { ca, identity } = tls.unwrap_or_default();
        let (tls_certificate, tls_key) = identity.unzip();
        let common = Self {
            kind: Kind::Redis,
            tls_ca: ca,
            tls_certificate,
            tls_key,
            namespace,
            shards,
            timeout,
            ..Self::default()
        };
        let RedisLogin { username, password } = login;
        match servers {
            RedisServers::One(address) => {
                Self { url: Some(StoreUrl { address, tls: secured, database, username, password }), ..common }
            }
            RedisServers::Sentinel { sentinels, master, login } => Self {
                sentinels: sentinels.into_iter().map(Server).collect(),
                master: Some(master),
                sentinel_username: login.username,
                sentinel_password: login.password,
                username,
                password,
                database,
                tls: secured,
                ..common
            },
            RedisServers::Cluster(nodes) => {
                let cluster = nodes.into_iter().map(Server).collect();
                Self { cluster, username, password, tls: secured, ..common }
            }
        }
    }
}
