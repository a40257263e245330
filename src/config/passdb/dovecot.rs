//! Keys of `kind = "dovecot"`.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use crate::config::Endpoint;
use crate::config::key::section;
use crate::config::value::{Shown, Value, Wrong, quoted};

section! {
    /// The auth service of a Dovecot.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DovecotPassdb {
        /// Its socket "auth-client", by which passwords are checked: a path, or "tcp://host:port" of an inet_listener of its
        /// service auth.
        pub auth_socket: AuthSocket = AuthSocket::default(), required, example("\"/run/dovecot/auth-client\"");
        /// Its socket "auth-userdb" or "auth-master", by which users are looked up who do not log in: for LMTP and doveadm.
        /// It must let homing do PASS lookups (mode 0777, or one that its user owns).
        pub lookup_socket: Option<AuthSocket> = None, example("\"/run/dovecot/auth-userdb\"");
        /// Let Dovecot delay clients whose address had many failures. Then `timeout` must be longer than its longest delay,
        /// 15 s.
        pub penalty: bool = false;
    }
}

/// Where a Dovecot's auth service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthSocket {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Host and port.
    Tcp(Endpoint),
}

impl Default for AuthSocket {
    fn default() -> Self {
        Self::Unix(PathBuf::new())
    }
}

impl Value for AuthSocket {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let remedy = "write a path like \"/run/dovecot/auth-client\", or \"tcp://auth.example.org:12345\"";
        let text = given.as_str().ok_or_else(|| Wrong::new("must be a path or a URL in quotes", remedy))?;
        if !text.contains("://") {
            let mut path = PathBuf::new();
            path.read(given, base)?;
            *self = Self::Unix(path);
            return Ok(());
        }
        let endpoint = Endpoint::parse(text, &[("tcp", None)]).map_err(|what| Wrong::new(what, remedy))?;
        if endpoint.path != "/" {
            return Err(Wrong::new("has a path behind its port", remedy));
        }
        *self = Self::Tcp(endpoint);
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        let text = match self {
            Self::Unix(path) => path.to_string_lossy().into_owned(),
            Self::Tcp(endpoint) => endpoint.place(),
        };
        Some(Shown { text: quoted(&text), secret: None })
    }
}
