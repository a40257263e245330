//! The PROXY protocol, versions 1 and 2, as HAProxy's `doc/proxy-protocol.txt` defines it: a header in front of the
//! connection in which a proxy tells who its client is.
//!
//! `frame` says how many bytes may be read without touching what follows; the addresses of a whole header are parsed and
//! built by the crate `proxy_protocol`, which knows no TLVs and panics on a header that was cut: it only ever sees whole
//! ones. `tlv` reads what version 2 carries behind the addresses, `emit` writes it.

mod emit;
mod frame;
mod tlv;

use std::io;
use std::net::SocketAddr;

use proxy_protocol::{version1, version2};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{TlsFacts, canonical};
pub use emit::{OutgoingProxyHeader, emit, emit_local};
use frame::Frame;

/// What a proxy in front of us said about its client. Believe it only from trusted networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client's address, canonical. `None`: the socket's own counts (LOCAL, UNKNOWN, Unix sockets).
    pub source: Option<SocketAddr>,
    /// The address that the client connected to. `None` exactly when `source` is.
    pub destination: Option<SocketAddr>,
    /// The proxy speaks for itself, as in a health check. Nothing else is set then.
    pub local: bool,
    /// The client's connection to that proxy is inside TLS.
    pub tls: Option<ProxyTls>,
    /// The host name that the client asked for (SNI).
    pub authority: Option<String>,
    /// The application protocol that was negotiated (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// The proxy's own name for the connection. Any bytes; the specification allows 128.
    pub unique_id: Option<Vec<u8>>,
}

/// The TLS of a client's connection to a proxy, as far as the proxy tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyTls {
    /// Such as `TLSv1.3`.
    pub version: Option<String>,
    /// Such as `TLS_AES_256_GCM_SHA384`; the spelling is the proxy's.
    pub cipher: Option<String>,
    /// The client showed a certificate, and the proxy found it valid.
    pub verified: bool,
    /// The CN of that certificate. `None` unless `verified`.
    pub common_name: Option<String>,
}

impl From<&TlsFacts> for ProxyTls {
    /// What a mail server is told about a handshake that was done here.
    fn from(facts: &TlsFacts) -> Self {
        Self {
            version: Some(facts.version.to_owned()),
            cipher: Some(facts.cipher.to_owned()),
            verified: facts.verified,
            common_name: facts.client_subject.clone(),
        }
    }
}

/// Why there is no usable PROXY header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyFault {
    /// The connection starts with something else.
    #[error("no PROXY header came first; this listener has proxy_protocol = true, so the sender must send one")]
    Missing,
    /// The peer closed its side within the header, or without one.
    #[error("closed before the PROXY header was complete")]
    Closed,
    /// Longer than the specification (version 1: 107 bytes) or we (version 2: 4096 bytes) allow.
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    /// A header that contradicts the specification.
    #[error("malformed PROXY header: {0}")]
    Malformed(String),
    /// The CRC32C that the header carries is not that of the header.
    #[error("the PROXY header was damaged on its way: its checksum is wrong")]
    Damaged,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

impl ProxyFault {
    fn malformed(what: impl ToString) -> Self {
        Self::Malformed(what.to_string())
    }
}

/// Reads the header from the start of `stream`, and not one byte of what follows it. The caller sets the deadline; after
/// a fault, or dropped half-way, the connection is of no more use.
pub async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> Result<ProxyHeader, ProxyFault> {
    let mut header = Vec::with_capacity(256);
    while let Frame::Missing(count) = frame::look(&header)? {
        if stream.take(count as u64).read_buf(&mut header).await? == 0 {
            return Err(ProxyFault::Closed);
        }
    }
    interpret(&header)
}

/// What a header means that `frame` found whole.
fn interpret(whole: &[u8]) -> Result<ProxyHeader, ProxyFault> {
    if frame::is_local(whole) {
        // "Must use the real connection endpoints and discard the protocol block including the family."
        return Ok(ProxyHeader { local: true, ..ProxyHeader::default() });
    }
    let mut rest = whole;
    match proxy_protocol::parse(&mut rest).map_err(ProxyFault::malformed)? {
        proxy_protocol::ProxyHeader::Version1 { addresses } => Ok(from_text(addresses)),
        proxy_protocol::ProxyHeader::Version2 { transport_protocol, addresses, .. } => {
            let mut header = from_binary(transport_protocol, addresses);
            tlv::read(whole, address_length(&addresses), &mut header)?;
            Ok(header)
        }
        _ => Err(ProxyFault::malformed("unknown version")),
    }
}

impl ProxyHeader {
    fn between(source: impl Into<SocketAddr>, destination: impl Into<SocketAddr>) -> Self {
        let (source, destination) = (canonical(source.into()), canonical(destination.into()));
        Self { source: Some(source), destination: Some(destination), ..Self::default() }
    }
}

fn from_text(addresses: version1::ProxyAddresses) -> ProxyHeader {
    match addresses {
        version1::ProxyAddresses::Ipv4 { source, destination } => ProxyHeader::between(source, destination),
        version1::ProxyAddresses::Ipv6 { source, destination } => ProxyHeader::between(source, destination),
        version1::ProxyAddresses::Unknown => ProxyHeader::default(),
    }
}

/// Only TCP over IP has addresses that mean anything here; of all else the specification says to ignore them.
fn from_binary(transport: version2::ProxyTransportProtocol, addresses: version2::ProxyAddresses) -> ProxyHeader {
    if transport != version2::ProxyTransportProtocol::Stream {
        return ProxyHeader::default();
    }
    match addresses {
        version2::ProxyAddresses::Ipv4 { source, destination } => ProxyHeader::between(source, destination),
        version2::ProxyAddresses::Ipv6 { source, destination } => ProxyHeader::between(source, destination),
        version2::ProxyAddresses::Unix { .. } | version2::ProxyAddresses::Unspec => ProxyHeader::default(),
    }
}

/// Bytes between the fixed part of a version 2 header and its TLVs.
fn address_length(addresses: &version2::ProxyAddresses) -> usize {
    match addresses {
        version2::ProxyAddresses::Unspec => 0,
        version2::ProxyAddresses::Ipv4 { .. } => 2 * (4 + 2),
        version2::ProxyAddresses::Ipv6 { .. } => 2 * (16 + 2),
        version2::ProxyAddresses::Unix { .. } => 2 * 108,
    }
}
