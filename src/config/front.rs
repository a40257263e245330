//! `[[listener]]` and `[tls]`: where and how clients connect.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One listening socket. IMAP only, so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Address and port; `[::]:143` takes IPv6 only, so that `0.0.0.0:143` can stand beside it.
    pub address: SocketAddr,
    /// `tls = "implicit"` (IMAPS), `"starttls"` (the default) or `"none"`.
    pub tls: ListenerTls,
    /// A password is accepted without TLS. false by default.
    pub plaintext_login: bool,
    /// A PROXY header (v1 or v2) must come first. false by default.
    pub proxy_protocol: bool,
    /// Networks whose PROXY header is believed; connections from others are closed. Required with `proxy_protocol`.
    pub trusted_networks: Vec<ipnet::IpNet>,
    /// How long the PROXY header may take. 3 s by default.
    pub proxy_timeout: Duration,
    /// Application protocols offered by ALPN ("imap"); empty by default: none is negotiated.
    pub alpn: Vec<String>,
}

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
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// PEM file: the certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM file: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
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
