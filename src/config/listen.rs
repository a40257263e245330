//! Where a listener listens: an address and a port, or a Unix socket and who may open it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::value::{Shown, Value, Wrong, quoted};

/// Before the path of a Unix socket.
const UNIX: &str = "unix:";

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl ListenAddress {
    /// The address, if it is one of TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Other machines can reach it.
    pub fn is_open_to_others(&self) -> bool {
        self.tcp().is_some_and(|address| !address.ip().is_loopback())
    }

    /// Whether two sockets cannot be open at once. Port 0 is chosen by the system; IPv6 sockets take IPv6 only.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => {
                let family = one.is_ipv4() == other.is_ipv4();
                let address = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
                one.port() != 0 && one.port() == other.port() && family && address
            }
            (Self::Unix(one), Self::Unix(other)) => one == other,
            _ => false,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl Value for ListenAddress {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        if let Some(path) = given.as_str().and_then(|text| text.strip_prefix(UNIX)) {
            if path.is_empty() || path.contains('\0') {
                return Err(Wrong::new("is not a path", "write it like \"unix:/run/homing/lmtp\""));
            }
            *self = Self::Unix(base.join(path));
            return Ok(());
        }
        let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
        address.read(given, base)?;
        *self = Self::Tcp(address);
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.to_string()), secret: None })
    }
}

/// Permissions of a socket's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl Default for SocketMode {
    /// Only its owner.
    fn default() -> Self {
        Self(0o600)
    }
}

impl Value for SocketMode {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let wrong = || Wrong::new("must be permissions in octal digits", "write it like \"0660\", in quotes");
        let digits = given.as_str().filter(|text| (3..=4).contains(&text.len())).ok_or_else(wrong)?;
        self.0 = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(wrong)?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&format!("{:04o}", self.0)), secret: None })
    }
}
