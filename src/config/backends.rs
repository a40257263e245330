//! `[backend.NAME]`: the mail servers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::doveadm::{DoveadmConfig, DoveadmCredential, DoveadmUrl};
use super::front::Certificate;
use super::key::section;
use super::words::words;
use crate::model::{Pool, Protocol, Secret, Weight};

/// One mail server.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendConfig {
    /// Host name or address.
    pub host: String,
    /// IMAP port. 143 by default, 993 with `tls = "implicit"`.
    pub port: u16,
    /// How the connection is protected.
    pub tls: BackendTls,
    /// `pop3_port` and `pop3_tls`.
    pub pop3: Reach,
    /// `sieve_port` and `sieve_tls`.
    pub sieve: Reach,
    /// `submission_port` and `submission_tls`.
    pub submission: Reach,
    /// Submission takes our word for who logs in. false by default.
    pub submission_noauth: bool,
    /// `lmtp_port` and `lmtp_tls`.
    pub lmtp: Reach,
    /// PEM file of authorities to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Name to verify instead of `host`.
    pub tls_name: Option<String>,
    /// `tls_verify = false` accepts any certificate. true by default.
    pub tls_verify: bool,
    /// Our own certificate: `tls_certificate` and `tls_key`.
    pub identity: Option<Certificate>,
    /// Log users in by that certificate. false by default.
    pub login_external: bool,
    /// Share of new users. 100 by default.
    pub weight: Weight,
    /// Its pool. "default" by default.
    pub pool: Pool,
    /// The most sessions there, fleet-wide; 0, the default, for any number.
    pub max_sessions: u32,
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
    /// It is probed (see [`super::HealthConfig`]). true by default.
    pub probe: bool,
    /// How to ask it who is there; not at all by default.
    pub doveadm: Option<DoveadmConfig>,
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

words!(BackendTls { None = "none", StartTls = "starttls", Implicit = "implicit" });

/// Where a backend serves a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// At the backend's host.
    pub port: u16,
    /// How the connection is protected.
    pub tls: BackendTls,
}

impl Reach {
    fn new(protocol: Protocol, port: Option<u16>, tls: BackendTls) -> Self {
        Self { port: port.unwrap_or(tls.port(protocol)), tls }
    }
}

impl BackendTls {
    /// The port that a server with this kind of TLS listens on: RFC 9051, 8314, 5804, 6409. LMTP has none of its own; 24 is
    /// what servers use.
    pub fn port(self, protocol: Protocol) -> u16 {
        let implicit = self == Self::Implicit;
        match protocol {
            Protocol::Imap if implicit => 993,
            Protocol::Imap => 143,
            Protocol::Pop3 if implicit => 995,
            Protocol::Pop3 => 110,
            Protocol::Submission if implicit => 465,
            Protocol::Submission => 587,
            Protocol::Sieve => 4190,
            Protocol::Lmtp => 24,
            Protocol::Doveadm => 24245,
        }
    }
}

impl BackendConfig {
    /// Where it serves `protocol`; `None` for doveadm, which has a URL of its own.
    pub fn reach(&self, protocol: Protocol) -> Option<Reach> {
        match protocol {
            Protocol::Imap => Some(Reach { port: self.port, tls: self.tls }),
            Protocol::Pop3 => Some(self.pop3),
            Protocol::Sieve => Some(self.sieve),
            Protocol::Submission => Some(self.submission),
            Protocol::Lmtp => Some(self.lmtp),
            Protocol::Doveadm => None,
        }
    }
}

/// How the true client is announced to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// `announce_id`: by IMAP's ID command (the backend must list us in `login_trusted_networks`). true by default.
    pub id: bool,
    /// `announce_xclient`: by XCLIENT, in the other protocols, where the backend offers it. true by default.
    pub xclient: bool,
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

section! {
    /// A mail server, by the name that the fleet knows it by. May be repeated under other names; at least one is needed.
    #[derive(Clone, Debug)]
    pub(super) struct BackendKeys {
        /// Host name or address.
        pub(super) host: String = String::new(), required, example("\"mail1.example.org\"");
        /// IMAP port. By default 143, or 993 with tls "implicit".
        pub(super) port: Option<u16> = None, min("1"), example("143"), computed;
        /// How the connection is protected: "none", "starttls" (and then required) or "implicit".
        pub(super) tls: BackendTls = BackendTls::None;
        /// POP3 port. By default 110, or 995 with implicit TLS.
        pub(super) pop3_port: Option<u16> = None, min("1"), example("110"), computed;
        /// How POP3 connections are protected. By default as `tls` says.
        pub(super) pop3_tls: Option<BackendTls> = None, example("\"implicit\""), computed;
        /// ManageSieve port. By default 4190.
        pub(super) sieve_port: Option<u16> = None, min("1"), example("4190"), computed;
        /// How ManageSieve connections are protected. By default as `tls` says.
        pub(super) sieve_tls: Option<BackendTls> = None, example("\"starttls\""), computed;
        /// Submission port. By default 587, or 465 with implicit TLS.
        pub(super) submission_port: Option<u16> = None, min("1"), example("587"), computed;
        /// How submission connections are protected. By default as `tls` says.
        pub(super) submission_tls: Option<BackendTls> = None, example("\"implicit\""), computed;
        /// Submission there has no logins: it takes our word, by XCLIENT LOGIN, which it must offer this proxy (Postfix:
        /// `smtpd_authorized_xclient_hosts`). Only for users whose password a passdb has checked.
        pub(super) submission_noauth: bool = false;
        /// LMTP port. By default 24.
        pub(super) lmtp_port: Option<u16> = None, min("1"), example("24"), computed;
        /// How LMTP connections are protected. By default as `tls` says.
        pub(super) lmtp_tls: Option<BackendTls> = None, example("\"none\""), computed;
        /// PEM file of authorities to trust instead of the system's.
        pub(super) tls_ca: Option<PathBuf> = None, example("\"backends-ca.pem\"");
        /// Name to verify instead of `host`.
        pub(super) tls_name: Option<String> = None, example("\"mail.example.org\"");
        /// Verify the certificate. Without, anybody on the way can read along.
        pub(super) tls_verify: bool = true;
        /// PEM file with a certificate that the proxy shows to the backend if asked, then its chain; its key is in `tls_key`.
        pub(super) tls_certificate: Option<PathBuf> = None, example("\"proxy.pem\"");
        /// PEM file with the key of `tls_certificate`.
        pub(super) tls_key: Option<PathBuf> = None, example("\"proxy.key\"");
        /// Log users in by SASL EXTERNAL: the certificate says that it is this proxy, which the backend must know as a master
        /// user (Dovecot: `auth_ssl_username_from_cert`, and a passdb with `master = yes`), and the message whose mailbox it is.
        /// Instead of `master_user`, for those whom a passdb has checked; the others give their own password.
        pub(super) login_external: bool = false;
        /// Share of new users relative to the other backends, 0 to 10000; 0 takes no new users.
        pub(super) weight: Weight = Weight::default();
        /// Its pool: backends that can serve the same users.
        pub(super) pool: Pool = Pool::default();
        /// The most sessions there, fleet-wide, so that it is not loaded beyond what it can bear; 0 for any number. Users
        /// whose home is full get a temporary failure.
        pub(super) max_sessions: u32 = 0;
        /// Take no new users; users without sessions leave at their next login.
        pub(super) drain: bool = false;
        /// Tell the backend the client's address by the ID command; the backend must trust this proxy (Dovecot:
        /// `login_trusted_networks`).
        pub(super) announce_id: bool = true;
        /// Tell it by XCLIENT in the other protocols, where it offers that; the same trust is needed.
        pub(super) announce_xclient: bool = true;
        /// Tell it by a PROXY v2 header, whatever the protocol; the backend's listener must expect one (Dovecot: `haproxy = yes`).
        pub(super) announce_proxy: bool = false;
        /// Log in as this master user instead of with the client's password. Needed where a passdb checks passwords
        /// that the backend does not know.
        pub(super) master_user: Option<String> = None, example("\"homing\"");
        /// Password of the master user.
        pub(super) master_password: Option<Arc<Secret>> = None, example("\"password\""), secret;
        /// File whose first line is the password of the master user, so that it need not stand here.
        pub(super) master_password_file: Option<PathBuf> = None, example("\"master.password\"");
        /// Send login steps without waiting, where the greeting shows that the backend copes.
        pub(super) pipelining: bool = true;
        /// Time for one TCP connect.
        pub(super) connect_timeout: Duration = Duration::from_secs(5), min("10ms"), max("5min");
        /// Time from connect to the answer to LOGIN.
        pub(super) login_timeout: Duration = Duration::from_secs(30), min("100ms"), max("10min");
        /// Time for all tries of one login together.
        pub(super) retry_budget: Duration = Duration::from_secs(10), max("10min");
        /// Probe it. Without, this proxy never calls it failing, whatever becomes of logins there.
        pub(super) probe: bool = true;
        /// Where its doveadm listens: "tcp://host:port" for Dovecot's doveadm protocol, "http://host:port" for its HTTP API,
        /// "tls://" or "https://" for the same under TLS, which believes what `tls_ca`, `tls_name` and `tls_verify` say.
        /// homing then asks it who is there: to know that a user who was moved has left, and to audit the fleet.
        pub(super) doveadm: Option<DoveadmUrl> = None, example("\"tcp://mail1.example.org:24245\"");
        /// Where its doveadm's HTTP API listens, if `doveadm` is a "tcp://" or "tls://": what comes to homing's own HTTP API
        /// goes on there, with the same password.
        pub(super) doveadm_http: Option<DoveadmUrl> = None, example("\"http://mail1.example.org:8080\"");
        /// Dovecot's `doveadm_password`.
        pub(super) doveadm_password: Option<Arc<Secret>> = None, example("\"password\""), secret;
        /// File whose first line is that password, so that it need not stand here.
        pub(super) doveadm_password_file: Option<PathBuf> = None, example("\"doveadm.password\"");
        /// Dovecot's `doveadm_api_key`, which its HTTP API takes instead of a password.
        pub(super) doveadm_api_key: Option<Arc<Secret>> = None, example("\"key\""), secret;
        /// File whose first line is that key.
        pub(super) doveadm_api_key_file: Option<PathBuf> = None, example("\"doveadm.key\"");
        /// How long one question to doveadm may take.
        pub(super) doveadm_timeout: Duration = Duration::from_secs(5), min("100ms"), max("1min");
    }
}

/// What the files hold that a backend's keys name.
#[derive(Default)]
pub(super) struct BackendSecrets {
    pub(super) master_password: Option<Arc<Secret>>,
    pub(super) doveadm_password: Option<Arc<Secret>>,
    pub(super) doveadm_api_key: Option<Arc<Secret>>,
}

impl BackendKeys {
    pub(super) fn build(self, secrets: BackendSecrets) -> BackendConfig {
        let doveadm = self.doveadm(&secrets);
        let password = secrets.master_password.or(self.master_password);
        BackendConfig {
            host: self.host,
            port: self.port.unwrap_or(self.tls.port(Protocol::Imap)),
            tls: self.tls,
            pop3: Reach::new(Protocol::Pop3, self.pop3_port, self.pop3_tls.unwrap_or(self.tls)),
            sieve: Reach::new(Protocol::Sieve, self.sieve_port, self.sieve_tls.unwrap_or(self.tls)),
            submission: Reach::new(Protocol::Submission, self.submission_port, self.submission_tls.unwrap_or(self.tls)),
            submission_noauth: self.submission_noauth,
            lmtp: Reach::new(Protocol::Lmtp, self.lmtp_port, self.lmtp_tls.unwrap_or(self.tls)),
            tls_ca: self.tls_ca,
            tls_name: self.tls_name,
            tls_verify: self.tls_verify,
            identity: identity(self.tls_certificate, self.tls_key),
            login_external: self.login_external,
            weight: self.weight,
            pool: self.pool,
            max_sessions: self.max_sessions,
            drain: self.drain,
            announce: Announce { id: self.announce_id, xclient: self.announce_xclient, proxy: self.announce_proxy },
            master: self.master_user.zip(password).map(|(user, password)| Master { user, password }),
            pipelining: self.pipelining,
            connect_timeout: self.connect_timeout,
            login_timeout: self.login_timeout,
            retry_budget: self.retry_budget,
            probe: self.probe,
            doveadm,
        }
    }

    /// None without a URL or a credential.
    fn doveadm(&self, secrets: &BackendSecrets) -> Option<DoveadmConfig> {
        let password = secrets.doveadm_password.as_ref().or(self.doveadm_password.as_ref()).cloned();
        let key = secrets.doveadm_api_key.as_ref().or(self.doveadm_api_key.as_ref()).cloned();
        Some(DoveadmConfig {
            url: self.doveadm.clone()?,
            http: self.doveadm_http.clone(),
            credential: password.map(DoveadmCredential::Password).or(key.map(DoveadmCredential::ApiKey))?,
            timeout: self.doveadm_timeout,
            tls_ca: self.tls_ca.clone(),
            tls_name: self.tls_name.clone(),
            tls_verify: self.tls_verify,
        })
    }
}

fn identity(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Option<Certificate> {
    certificate.zip(key).map(|(certificate, key)| Certificate { certificate, key })
}

impl From<&BackendConfig> for BackendKeys {
    fn from(config: &BackendConfig) -> Self {
        let config = config.clone();
        let (master_user, master_password) = config.master.map(|master| (master.user, master.password)).unzip();
        let doveadm_timeout =
            config.doveadm.as_ref().map_or(Self::default().doveadm_timeout, |doveadm| doveadm.timeout);
        let doveadm_http = config.doveadm.as_ref().and_then(|doveadm| doveadm.http.clone());
        let (doveadm, credential) = config.doveadm.map(|doveadm| (doveadm.url, doveadm.credential)).unzip();
        let (doveadm_password, doveadm_api_key) = match credential {
            Some(DoveadmCredential::Password(word)) => (Some(word), None),
            Some(DoveadmCredential::ApiKey(key)) => (None, Some(key)),
            None => (None, None),
        };
        Self {
            host: config.host,
            port: Some(config.port),
            tls: config.tls,
            pop3_port: Some(config.pop3.port),
            pop3_tls: Some(config.pop3.tls),
            sieve_port: Some(config.sieve.port),
            sieve_tls: Some(config.sieve.tls),
            submission_port: Some(config.submission.port),
            submission_tls: Some(config.submission.tls),
            submission_noauth: config.submission_noauth,
            lmtp_port: Some(config.lmtp.port),
            lmtp_tls: Some(config.lmtp.tls),
            tls_ca: config.tls_ca,
            tls_name: config.tls_name,
            tls_verify: config.tls_verify,
            tls_certificate: config.identity.as_ref().map(|identity| identity.certificate.clone()),
            tls_key: config.identity.map(|identity| identity.key),
            login_external: config.login_external,
            weight: config.weight,
            pool: config.pool,
            max_sessions: config.max_sessions,
            drain: config.drain,
            announce_id: config.announce.id,
            announce_xclient: config.announce.xclient,
            announce_proxy: config.announce.proxy,
            master_user,
            master_password,
            master_password_file: None,
            pipelining: config.pipelining,
            connect_timeout: config.connect_timeout,
            login_timeout: config.login_timeout,
            retry_budget: config.retry_budget,
            probe: config.probe,
            doveadm,
            doveadm_http,
            doveadm_password,
            doveadm_password_file: None,
            doveadm_api_key,
            doveadm_api_key_file: None,
            doveadm_timeout,
        }
    }
}

impl Default for BackendConfig {
    /// Every default; without a host.
    fn default() -> Self {
        BackendKeys::default().build(BackendSecrets::default())
    }
}
