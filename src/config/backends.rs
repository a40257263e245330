//! `[backend.NAME]`: the mail servers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Pool, Secret, Weight};

/// One mail server.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendConfig {
    /// Host name or address.
    pub host: String,
    /// IMAP port. 143 by default, 993 with `tls = "implicit"`.
    pub port: u16,
    /// How the connection is protected.
    pub tls: BackendTls,
    /// PEM file of authorities to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Name to verify instead of `host`.
    pub tls_name: Option<String>,
    /// `tls_verify = false` accepts any certificate. true by default.
    pub tls_verify: bool,
    /// Share of new users. 100 by default.
    pub weight: Weight,
    /// Its pool. "default" by default.
    pub pool: Pool,
    /// `drain = true`: no new users, and users without sessions leave at their next login. false by default.
    pub drain: bool,
    /// How the client is announced.
    pub announce: Announce,
    /// Log in as this master user instead of with the client's password.
    pub master: Option<Master>,
    /// Our own login steps may be sent without waiting where the greeting shows that the backend copes. true by default.
    pub pipelining: bool,
    /// Time for one TCP connect. 5 s by default.
    pub connect_timeout: Duration,
    /// Time from connect to the answer to LOGIN. 30 s by default.
    pub login_timeout: Duration,
    /// Time for all tries of one login together. 10 s by default.
    pub retry_budget: Duration,
}

/// How a connection to a backend is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendTls {
    /// Not at all. The default: backends are usually behind a private network.
    #[default]
    None,
    /// STARTTLS, required.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// How the true client is announced to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// `announce_id`: by the ID command (the backend must list us in `login_trusted_networks`). true by default.
    pub id: bool,
    /// `announce_proxy`: by a PROXY v2 header (the backend's listener must expect it). false by default.
    pub proxy: bool,
}

/// A master user of the backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Master {
    /// Its name. `master_user`.
    pub user: String,
    /// Its password, from `master_password` or `master_password_file`.
    pub password: Arc<Secret>,
}
