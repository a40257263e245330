//! `[health]`: how this proxy finds out which mail servers are fit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::key::section;
use crate::model::{Protocol, Secret};

/// How backends are probed, and when this proxy calls one failing.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthConfig {
    /// From the end of a probe to the next of the same backend. 5 s by default.
    pub interval: Duration,
    /// The same while it is in doubt whether the backend is fit. 1 s by default.
    pub fast_interval: Duration,
    /// Time for a probe, from connect to the last answer. 5 s by default.
    pub timeout: Duration,
    /// Good probes, one after the other, that make a failing backend fit. 2 by default.
    pub rise: u32,
    /// Bad probes, one after the other, that make a fit backend failing. 3 by default.
    pub fall: u32,
    /// Probes at once, of all backends together. 64 by default.
    pub concurrency: usize,
    /// A backend is failing if one of these is. IMAP, POP3 and LMTP by default.
    pub vital: Vec<Protocol>,
    /// Log in, too.
    pub login: Option<ProbeLogin>,
}

/// Whom probes log in.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeLogin {
    /// Name at every backend. `probe_user`.
    pub user: String,
    /// From `probe_password` or `probe_password_file`; without, each backend's master user logs in.
    pub password: Option<Arc<Secret>>,
}

section! {
    /// Every proxy probes every backend (connect, TLS, greeting, on request a login) and watches how logins of users go
    /// there. By default a backend that refuses connections is found out within 8s, or 4s where users try to log in; one
    /// that accepts and says nothing within 25s.
    #[derive(Clone, Debug)]
    pub(super) struct HealthKeys {
        /// From one probe of a backend to the next, give or take a tenth. Each leaves a line in the backend's log. A user's
        /// login that fails brings the next probe forward, so that a busy site does not wait for it; and a backend in doubt
        /// those of all others, so that a cause which all share is seen as such.
        pub(super) interval: Duration = Duration::from_secs(5), min("100ms"), max("10min");
        /// The same while it is in doubt whether the backend is fit; at most `interval`.
        pub(super) fast_interval: Duration = Duration::from_secs(1), min("10ms"), max("10min");
        /// Time for a probe, from connect to the last answer. Longer than a busy server needs to greet: to take one for
        /// dead costs all its users their sessions and their indexes.
        pub(super) timeout: Duration = Duration::from_secs(5), min("50ms"), max("5min");
        /// Good probes, one after the other, that make a failing backend fit again. One alone may be luck: a server that
        /// is starting up answers before it can serve.
        pub(super) rise: u32 = 2, min("1"), max("1000");
        /// Bad probes, one after the other, that make a fit backend failing. With three, one restart of the mail server
        /// is not taken for its end.
        pub(super) fall: u32 = 3, min("1"), max("1000");
        /// Probes at once, of all backends together.
        pub(super) concurrency: usize = 64, min("1"), max("10000");
        /// The protocols of which each alone makes a backend failing, among those that this proxy's listeners serve; if none
        /// of these is served, any does. The others are probed and reported, but nobody's mailbox leaves its server because
        /// its filters cannot be edited for a while.
        pub(super) vital: Vec<Protocol> = vec![Protocol::Imap, Protocol::Pop3, Protocol::Lmtp];
        /// Let probes log in as this user, and log out at once: only so a probe sees a server that greets and lets nobody
        /// in. The user is logged in at all backends at once, so it must be one that nobody uses. A login that is refused as
        /// if with a wrong password is told in the log, and no reason to give up a backend that greets.
        pub(super) probe_user: Option<String> = None, example("\"probe\"");
        /// Password of `probe_user`. Not needed where every backend has a `master_user`.
        pub(super) probe_password: Option<Arc<Secret>> = None, example("\"password\""), secret;
        /// File whose first line is that password, so that it need not stand here.
        pub(super) probe_password_file: Option<PathBuf> = None, example("\"probe.password\"");
    }
}

impl HealthKeys {
    /// `password` is what `probe_password_file` holds.
    pub(super) fn build(self, password: Option<Arc<Secret>>) -> HealthConfig {
        let password = password.or(self.probe_password);
        HealthConfig {
            interval: self.interval,
            fast_interval: self.fast_interval,
            timeout: self.timeout,
            rise: self.rise,
            fall: self.fall,
            concurrency: self.concurrency,
            vital: self.vital,
            login: self.probe_user.map(|user| ProbeLogin { user, password }),
        }
    }
}

impl From<&HealthConfig> for HealthKeys {
    fn from(config: &HealthConfig) -> Self {
        let login = config.login.clone();
        Self {
            interval: config.interval,
            fast_interval: config.fast_interval,
            timeout: config.timeout,
            rise: config.rise,
            fall: config.fall,
            concurrency: config.concurrency,
            vital: config.vital.clone(),
            probe_user: login.as_ref().map(|login| login.user.clone()),
            probe_password: login.and_then(|login| login.password),
            probe_password_file: None,
        }
    }
}

impl Default for HealthConfig {
    fn default() -> Self {
        HealthKeys::default().build(None)
    }
}
