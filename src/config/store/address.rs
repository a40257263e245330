//! Where servers of the store are: URLs and lists of hosts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeValue;

use crate::config::value::{REDACTED, Shown, Value, Wrong, quoted};
use crate::model::Secret;

/// Where a Redis server or Sentinel listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreAddress {
    /// Host and port.
    Tcp(String, u16),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// `redis[s]://[user[:password]@]host[:port][/database]` or `unix:///path`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct StoreUrl {
    pub(super) address: StoreAddress,
    pub(super) tls: bool,
    pub(super) database: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<Arc<Secret>>,
}

impl Default for StoreUrl {
    fn default() -> Self {
        let address = StoreAddress::Tcp("127.0.0.1".to_owned(), 6379);
        Self { address, tls: false, database: 0, username: None, password: None }
    }
}

impl StoreUrl {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix://") {
            let path = percent_decoded(path).filter(|path| path.starts_with('/')).ok_or("has no absolute path")?;
            return Ok(Self { address: StoreAddress::Unix(path.into()), ..Self::default() });
        }
        let (tls, rest) = match text.strip_prefix("rediss://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("redis://").ok_or(NO_SCHEME)?),
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // The last @: a password may have one that nobody encoded.
        let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let decoded = |part| percent_decoded(part).ok_or("has a broken %-escape in user or password");
        Ok(Self {
            address: host_and_port(host, 6379).ok_or("has no valid host and port")?,
            tls,
            database: if database.is_empty() { 0 } else { database.parse().map_err(|_| "has no valid database")? },
            username: Some(decoded(user)?).filter(|user| !user.is_empty()),
            password: Some(decoded(password)?)
                .filter(|word| !word.is_empty())
                .map(|word| Arc::new(Secret::new(word.into_bytes()))),
        })
    }

    fn with_text(&self, text: String) -> Shown {
        Shown { text: quoted(&text), secret: self.password.clone() }
    }
}

const NO_SCHEME: &str = "does not start with \"redis://\", \"rediss://\" (TLS) or \"unix://\"";

impl Value for StoreUrl {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write it like \"redis://user:password@host:6379/0\", \"rediss://host:6380\" for TLS or \
                      \"unix:///run/redis.sock\"; special characters of the password as %XX, or the password in a \
                      password_file";
        let text = given.as_str().ok_or_else(|| Wrong::new("must be a URL in quotes", remedy))?;
        *self = Self::parse(text).map_err(|what| Wrong::new(what, remedy))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        if let StoreAddress::Unix(path) = &self.address {
            return Some(self.with_text(format!("unix://{}", path.display())));
        }
        let user = self.username.as_deref().unwrap_or_default();
        let login = match (user, &self.password) {
            ("", None) => String::new(),
            (user, None) => format!("{user}@"),
            (user, Some(_)) => format!("{user}:{REDACTED}@"),
        };
        let scheme = if self.tls { "rediss" } else { "redis" };
        Some(self.with_text(format!("{scheme}://{login}{}/{}", self.address, self.database)))
    }
}

/// `host[:PORT]`, one of a list.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct Server<const PORT: u16>(pub(super) StoreAddress);

impl<const PORT: u16> Default for Server<PORT> {
    fn default() -> Self {
        Self(StoreAddress::Tcp("127.0.0.1".to_owned(), PORT))
    }
}

impl<const PORT: u16> Value for Server<PORT> {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = format!("write it like \"host.example.org:{PORT}\", \"10.0.0.1\" or \"[fd00::1]:{PORT}\"");
        let address = given.as_str().and_then(|text| host_and_port(text, PORT));
        self.0 = address.ok_or_else(|| Wrong::new("is not a host with a port", remedy))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.0.to_string()), secret: None })
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(text: &str, usual: u16) -> Option<StoreAddress> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let plain = !host.is_empty() && !host.chars().any(|c| c.is_whitespace() || c.is_control() || "/@".contains(c));
    let port = port.map_or(Some(usual), |port| port.parse().ok()).filter(|port| *port > 0)?;
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
