//! TLS, by rustls with aws-lc-rs: [`ServerTls`] towards clients, [`ClientTls`] towards mail servers.
//!
//! Neither relies on a process-wide provider, and neither knows a deadline: whoever starts a handshake limits its time.

mod binding;
mod certificates;
mod client;
mod server;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, CommonState, InvalidMessage, PeerIncompatible, ProtocolVersion};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use client::ClientTls;
pub use server::ServerTls;

/// What a handshake with a client settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The IANA name of the cipher suite, such as `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// The host name that the client asked for (SNI), in lower case.
    pub server_name: Option<String>,
    /// The application protocol (ALPN), if both sides named it.
    pub alpn: Option<String>,
    /// The client showed a certificate, which an authority of `client_ca` vouches for.
    pub verified: bool,
    /// The CN of that certificate's subject, if it has one.
    pub client_subject: Option<String>,
    /// The name in it that `client_name` says is the user's, if it is there just once.
    pub client_name: Option<String>,
    /// The channel binding `tls-exporter` (RFC 9266), with TLS 1.3.
    pub exporter: Option<Vec<u8>>,
    /// The channel binding `tls-server-end-point` (RFC 5929): a hash of our certificate.
    pub end_point: Option<Vec<u8>>,
}

/// Why TLS cannot be had: with this configuration, or with this peer.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A file cannot be used. `remedy` says what to do about it.
    #[error("{}: {problem}; {remedy}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// The settings do not fit together.
    #[error("{0}")]
    Settings(String),
    /// A mail server's configured name cannot be verified, whatever it shows.
    #[error("{0:?} is neither a host name nor an address; set tls_name to the name in the server's certificate")]
    Name(String),
    /// The peer does not speak TLS at all.
    #[error("the peer sent plaintext where a TLS handshake was expected")]
    NotTls,
    /// The peer closed its side during the handshake.
    #[error("closed by the peer during the TLS handshake")]
    Closed,
    /// The peer speaks no version of TLS that is allowed here: 1.1 or older, or below `min_version`.
    #[error("the peer speaks no version of TLS that is allowed (min_version): {0}")]
    Outdated(#[source] rustls::Error),
    /// The two sides did not agree otherwise, or one showed a certificate that the other does not believe.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[source] rustls::Error),
    /// The connection broke.
    #[error("TLS handshake: {0}")]
    Broken(#[source] io::Error),
}

impl TlsFault {
    fn file(path: &Path, problem: impl ToString, remedy: &'static str) -> Self {
        Self::File { path: path.to_owned(), problem: problem.to_string(), remedy }
    }

    /// tokio-rustls packs what rustls found into an I/O error.
    fn of_handshake(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::NotTls,
            Some(error @ rustls::Error::PeerIncompatible(why)) if is_about_version(why) => {
                Self::Outdated(error.clone())
            }
            Some(error) => Self::Handshake(error.clone()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Broken(error),
        }
    }
}

/// Whether the peer is too old. The extension for signature algorithms came with TLS 1.2 (RFC 5246 7.4.1.4.1).
fn is_about_version(why: &PeerIncompatible) -> bool {
    matches!(
        why,
        PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
    )
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl TlsFacts {
    /// Of a connection whose handshake is done.
    fn of(connection: &CommonState, server_name: Option<&str>) -> Self {
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        Self {
            version: version(connection.protocol_version()),
            cipher: connection.negotiated_cipher_suite().map_or("unknown", |suite| cipher(suite.suite())),
            server_name: server_name.map(str::to_owned),
            alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            verified: certificate.is_some(),
            client_subject: certificate.and_then(|der| common_name(der)),
            client_name: None,
            exporter: None,
            end_point: None,
        }
    }
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

/// rustls has names of its own for the suites of TLS 1.3.
fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}
