//! The `doveadm` keys of a `[backend.NAME]`: how to ask the mail server; and `[doveadm]`: what homing's own doveadm asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::Endpoint;
use super::key::section;
use super::value::{Shown, Value, Wrong, quoted};
use crate::model::Secret;

/// How to ask one mail server.
#[derive(Clone, Debug, PartialEq)]
pub struct DoveadmConfig {
    /// Where its doveadm listens, and what it speaks there.
    pub url: DoveadmUrl,
    /// Where its HTTP API listens, if `url` is that of the TCP protocol.
    pub http: Option<DoveadmUrl>,
    /// What it asks for.
    pub credential: DoveadmCredential,
    /// For one question, from connect to the last byte of the answer.
    pub timeout: Duration,
    /// PEM file of authorities to trust instead of the system's: the backend's own `tls_ca`.
    pub tls_ca: Option<PathBuf>,
    /// Name to verify instead of the URL's host: the backend's own `tls_name`.
    pub tls_name: Option<String>,
    /// The backend's own `tls_verify`.
    pub tls_verify: bool,
}

impl DoveadmConfig {
    /// How to reach the HTTP API, or the TCP protocol; `None` where the server has no such thing.
    pub fn speaking(&self, http: bool) -> Option<Self> {
        let url = match &self.http {
            _ if self.url.is_http() == http => self.url.clone(),
            Some(url) if http => url.clone(),
            _ => return None,
        };
        Some(Self { url, http: None, ..self.clone() })
    }
}

/// What listeners with protocol "doveadm" ask for, and how they work.
#[derive(Clone, Debug, PartialEq)]
pub struct DoveadmDoorConfig {
    /// From `password` or `password_file`.
    pub password: Option<Arc<Secret>>,
    /// From `api_key` or `api_key_file`.
    pub api_key: Option<Arc<Secret>>,
    /// Users at once, of a command for many. 8 by default.
    pub parallel: usize,
    /// How long a mail server may be silent while it carries out a command. 10 min by default.
    pub silence: Duration,
}

section! {
    /// What clients of listeners with protocol "doveadm" must know, and how their commands are carried out.
    #[derive(Clone, Debug)]
    pub(super) struct DoveadmDoorKeys {
        /// The password that they must give (Dovecot: `doveadm_password`), by the TCP protocol and the HTTP API.
        pub(super) password: Option<Arc<Secret>> = None, example("\"password\""), secret;
        /// File whose first line is that password, so that it need not stand here.
        pub(super) password_file: Option<PathBuf> = None, example("\"door.password\"");
        /// The key that the HTTP API takes as well (Dovecot: `doveadm_api_key`).
        pub(super) api_key: Option<Arc<Secret>> = None, example("\"key\""), secret;
        /// File whose first line is that key.
        pub(super) api_key_file: Option<PathBuf> = None, example("\"door.key\"");
        /// A command for many users is carried out for so many of them at once.
        pub(super) parallel: usize = 8, min("1"), max("256");
        /// How long a mail server may be silent while it carries out a command: some take long and say nothing until the end.
        pub(super) silence: Duration = Duration::from_secs(600), min("1s"), max("7d");
    }
}

impl DoveadmDoorKeys {
    /// `password` and `api_key` are what the files hold.
    pub(super) fn build(self, password: Option<Arc<Secret>>, api_key: Option<Arc<Secret>>) -> DoveadmDoorConfig {
        DoveadmDoorConfig {
            password: password.or(self.password),
            api_key: api_key.or(self.api_key),
            parallel: self.parallel,
            silence: self.silence,
        }
    }
}

impl From<&DoveadmDoorConfig> for DoveadmDoorKeys {
    fn from(config: &DoveadmDoorConfig) -> Self {
        let DoveadmDoorConfig { password, api_key, parallel, silence } = config.clone();
        Self { password, password_file: None, api_key, api_key_file: None, parallel, silence }
    }
}

impl Default for DoveadmDoorConfig {
    fn default() -> Self {
        DoveadmDoorKeys::default().build(None, None)
    }
}

/// What a doveadm server believes.
#[derive(Clone, Debug, PartialEq)]
pub enum DoveadmCredential {
    /// Dovecot's `doveadm_password`.
    Password(Arc<Secret>),
    /// Dovecot's `doveadm_api_key`; over HTTP only.
    ApiKey(Arc<Secret>),
}

/// `tcp://host:port`, `tls://host:port`, `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoveadmUrl(pub(super) Endpoint);

impl DoveadmUrl {
    /// Host and port.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    /// The HTTP API rather than the TCP protocol.
    pub fn is_http(&self) -> bool {
        matches!(self.0.scheme.as_str(), "http" | "https")
    }

    /// TLS from the first byte.
    pub fn is_tls(&self) -> bool {
        matches!(self.0.scheme.as_str(), "tls" | "https")
    }
}

impl Value for DoveadmUrl {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write it like \"tcp://mail1.example.org:24245\" or \"http://mail1.example.org:8080\"; with TLS \
                      \"tls://\" or \"https://\"";
        let text = given.as_str().ok_or_else(|| Wrong::new("must be a URL in quotes", remedy))?;
        let schemes = ["tcp", "tls", "http", "https"].map(|scheme| (scheme, None));
        let endpoint = Endpoint::parse(text, &schemes).map_err(|what| Wrong::new(what, remedy))?;
        if endpoint.path != "/" {
            return Err(Wrong::new("has a path, which doveadm does not need", remedy));
        }
        self.0 = endpoint;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.0.place()), secret: None })
    }
}
