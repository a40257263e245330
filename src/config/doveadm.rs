//! The `doveadm` keys of a `[backend.NAME]`: how to ask the mail server who is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::Endpoint;
use super::value::{Shown, Value, Wrong, quoted};
use crate::model::Secret;

/// How to ask one mail server.
#[derive(Clone, Debug, PartialEq)]
pub struct DoveadmConfig {
    /// Where its doveadm listens, and what it speaks there.
    pub url: DoveadmUrl,
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
