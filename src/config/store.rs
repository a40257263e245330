//! `[store]`: where shared state lives.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::key::section;
use super::value::{REDACTED, Shown, Value, Wrong, quoted};
use super::words::words;
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
        password: Option<Arc<Secret>>,
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
    Unix(PathBuf),
}

section! {
    /// Where shared state lives: inside this process, for one proxy alone, or in a Redis or Valkey server.
    #[derive(Clone, Debug)]
    pub(super) struct StoreKeys {
        /// "memory" or "redis".
        pub(super) kind: Kind = Kind::Memory;
        /// "redis://[user[:password]@]host[:port][/database]" or "unix:///path/of/redis.sock". Needed by kind "redis".
        pub(super) url: Option<StoreUrl> = None, example("\"redis://redis.example.org:6379/0\""), secret;
        /// File whose first line is the password, so that it need not stand here.
        pub(super) password_file: Option<PathBuf> = None, example("\"redis.password\"");
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
    /// `password` is what `password_file` holds. `None`: redis without a URL.
    pub(super) fn build(self, password: Option<Arc<Secret>>) -> Option<StoreConfig> {
        let url = match self.kind {
            Kind::Memory => return Some(StoreConfig::Memory),
            Kind::Redis => self.url?,
        };
        Some(StoreConfig::Redis {
            address: url.address,
            database: url.database,
            username: url.username,
            password: password.or(url.password),
            namespace: self.namespace,
            timeout: self.timeout,
        })
    }
}

impl From<&StoreConfig> for StoreKeys {
    fn from(config: &StoreConfig) -> Self {
        match config.clone() {
            StoreConfig::Memory => Self::default(),
            StoreConfig::Redis { address, database, username, password, namespace, timeout } => Self {
                kind: Kind::Redis,
                url: Some(StoreUrl { address, database, username, password }),
                password_file: None,
                namespace,
                timeout,
            },
        }
    }
}

/// `redis://[user[:password]@]host[:port][/database]` or `unix:///path`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoreUrl {
    pub(super) address: StoreAddress,
    pub(super) database: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<Arc<Secret>>,
}

impl Default for StoreUrl {
    fn default() -> Self {
        let address = StoreAddress::Tcp("127.0.0.1".to_owned(), 6379);
        Self { address, database: 0, username: None, password: None }
    }
}

impl StoreUrl {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix://") {
            let path = percent_decoded(path).filter(|path| path.starts_with('/')).ok_or("has no absolute path")?;
            return Ok(Self { address: StoreAddress::Unix(path.into()), ..Self::default() });
        }
        let rest = text.strip_prefix("redis://").ok_or("does not start with \"redis://\" or \"unix://\"")?;
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // The last @: a password may have one that nobody encoded.
        let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let decoded = |part| percent_decoded(part).ok_or("has a broken %-escape in user or password");
        Ok(Self {
            address: host_and_port(host).ok_or("has no valid host and port")?,
            database: if database.is_empty() { 0 } else { database.parse().map_err(|_| "has no valid database")? },
            username: Some(decoded(user)?).filter(|user| !user.is_empty()),
            password: Some(decoded(password)?)
                .filter(|word| !word.is_empty())
                .map(|word| Arc::new(Secret::new(word.into_bytes()))),
        })
    }
}

impl Value for StoreUrl {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write it like \"redis://user:password@host:6379/0\" or \"unix:///run/redis.sock\"; \
                      special characters of the password as %XX, or the password in a password_file";
        let text = given.as_str().ok_or_else(|| Wrong::new("must be a URL in quotes", remedy))?;
        if text.starts_with("rediss://") {
            let remedy = "use a private network, or a TLS tunnel on this machine and its \"redis://\" address";
            return Err(Wrong::new("asks for TLS, which homing does not speak to the store", remedy));
        }
        *self = Self::parse(text).map_err(|what| Wrong::new(what, remedy))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        let place = match &self.address {
            StoreAddress::Unix(path) => return Some(self.with_text(format!("unix://{}", path.display()))),
            StoreAddress::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            StoreAddress::Tcp(host, port) => format!("{host}:{port}"),
        };
        let user = self.username.as_deref().unwrap_or_default();
        let login = match (user, &self.password) {
            ("", None) => String::new(),
            (user, None) => format!("{user}@"),
            (user, Some(_)) => format!("{user}:{REDACTED}@"),
        };
        Some(self.with_text(format!("redis://{login}{place}/{}", self.database)))
    }
}

impl StoreUrl {
    fn with_text(&self, text: String) -> Shown {
        Shown { text: quoted(&text), secret: self.password.clone() }
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; the port of Redis if none is given.
fn host_and_port(text: &str) -> Option<StoreAddress> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some("6379"))?)
        }
        None => text.split_once(':').unwrap_or((text, "6379")),
    };
    let plain = !host.is_empty() && !host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    plain.then(|| StoreAddress::Tcp(host.to_owned(), port))
}

/// RFC 3986 2.1. `None` for a broken escape or what is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(bytes.next()?)? * 16 + digit(bytes.next()?)?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}
