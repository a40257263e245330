//! `[[listener]]` and `[tls]`: where and how clients connect.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::key::section;
use super::listen::{ListenAddress, SocketMode};
use super::words::words;
use crate::model::Protocol;

section! {
    /// One listening socket. May be repeated; at least one is needed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ListenerConfig {
        /// Address and port; "[::]:143" takes IPv6 only, so that "0.0.0.0:143" can stand beside it. For LMTP also a Unix
        /// socket: "unix:/run/homing/lmtp".
        pub address: ListenAddress = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 1143).into()), required, example("\"0.0.0.0:143\"");
        /// Who may open the Unix socket: permissions of its file. Its folder's count as well. By default only its owner.
        pub mode: Option<SocketMode> = None, example("\"0660\"");
        /// What clients speak there: "imap", "pop3", "sieve" (ManageSieve), "submission", "lmtp" or "doveadm".
        pub protocol: Protocol = Protocol::Imap;
        /// When TLS starts: "implicit" (IMAPS, POP3S and the like), "starttls" or "none".
        pub tls: ListenerTls = ListenerTls::StartTls;
        /// A password is accepted without TLS.
        pub plaintext_login: bool = false;
        /// A PROXY header (v1 or v2) must come first.
        pub proxy_protocol: bool = false;
        /// Networks whose PROXY header is believed; connections from others are closed. Needed with `proxy_protocol`.
        pub trusted_networks: Vec<ipnet::IpNet> = Vec::new(), example("[\"10.0.0.0/8\", \"fd00::/8\"]");
        /// How long the PROXY header may take.
        pub proxy_timeout: Duration = Duration::from_secs(3), min("100ms"), max("1min");
        /// Application protocols offered by ALPN, such as "imap"; with none, ALPN is not negotiated.
        pub alpn: Vec<String> = Vec::new(), example("[\"imap\"]");
    }
}

words!(Protocol {
    Imap = "imap",
    Pop3 = "pop3",
    Sieve = "sieve",
    Submission = "submission",
    Lmtp = "lmtp",
    Doveadm = "doveadm"
});

/// When TLS starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    /// Never.
    None,
    /// When the client says so.
    StartTls,
    /// At once.
    Implicit,
}

words!(ListenerTls { None = "none", StartTls = "starttls", Implicit = "implicit" });

/// `[tls]`: towards clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// `[[tls.certificate]]`. The client's SNI picks by the names in the certificates; without a match, the first.
    pub certificates: Vec<Certificate>,
    /// The oldest version accepted: "1.2" (the default) or "1.3".
    pub min_version: TlsVersion,
    /// `client_auth`: "off" (the default), "request" or "require".
    pub client_auth: ClientAuth,
    /// PEM file with the authorities of client certificates. Required unless `client_auth = "off"`.
    pub client_ca: Option<PathBuf>,
    /// Which name in a client's certificate is that of the user.
    pub client_name: ClientName,
}

section! {
    /// TLS towards clients. Needed by listeners with tls "starttls" or "implicit".
    #[derive(Clone, Debug)]
    pub(super) struct TlsKeys {
        /// The oldest version accepted: "1.2" or "1.3".
        pub(super) min_version: TlsVersion = TlsVersion::V12;
        /// Whether clients are asked for a certificate: "off", "request" (one that is sent must be valid) or "require".
        pub(super) client_auth: ClientAuth = ClientAuth::Off;
        /// PEM file with the authorities of client certificates. Needed unless `client_auth` is "off".
        pub(super) client_ca: Option<PathBuf> = None, example("\"clients-ca.pem\"");
        /// Which name in a client's certificate says who logs in by EXTERNAL: "email" (its one alternative name of that kind),
        /// "dns" (likewise) or "cn" (the CN of its subject).
        pub(super) client_name: ClientName = ClientName::Email;
    }
}

section! {
    /// A certificate and its key. May be repeated: the client's SNI picks by the names in the certificates; without a
    /// match, the first is used.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Certificate {
        /// PEM file: the certificate, then its chain.
        pub certificate: PathBuf = PathBuf::new(), required, example("\"mail.example.org.pem\"");
        /// PEM file of its key: PKCS#8, PKCS#1 or SEC1.
        pub key: PathBuf = PathBuf::new(), required, example("\"mail.example.org.key\"");
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V12,
    /// RFC 8446.
    V13,
}

words!(TlsVersion { V12 = "1.2", V13 = "1.3" });

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not asked.
    #[default]
    Off,
    /// Asked; one that is sent must be valid.
    Request,
    /// No handshake without a valid one.
    Require,
}

words!(ClientAuth { Off = "off", Request = "request", Require = "require" });

/// Which name in a client's certificate is that of the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientName {
    /// The one subjectAltName that is a mail address.
    #[default]
    Email,
    /// The one subjectAltName that is a host name.
    Dns,
    /// The CN of the subject.
    Cn,
}

words!(ClientName { Email = "email", Dns = "dns", Cn = "cn" });

impl From<&TlsConfig> for TlsKeys {
    fn from(config: &TlsConfig) -> Self {
        let TlsConfig { min_version, client_auth, client_ca, client_name, .. } = config.clone();
        Self { min_version, client_auth, client_ca, client_name }
    }
}
