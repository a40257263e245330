//! The header that we send to a mail server.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use proxy_protocol::version2::{ProxyAddresses, ProxyCommand, ProxyTransportProtocol};

use super::ProxyTls;
use super::frame::FIXED;
use super::tlv::{CLIENT_CERT_CONN, CLIENT_CERT_SESS, CLIENT_SSL, kind};

/// Values longer than this are left out. With it the longest header stays below 4 KiB, whatever a client made up.
const MAX_VALUE: usize = 255;
/// The bound of the specification for UNIQUE_ID.
const MAX_UNIQUE_ID: usize = 128;

/// What to tell a mail server about a client.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingProxyHeader<'a> {
    /// The client's address.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
    /// The client's connection is inside TLS; [`ProxyTls::default`] if nothing more is known about it.
    pub tls: Option<&'a ProxyTls>,
    /// The host name that it asked for (SNI).
    pub authority: Option<&'a str>,
    /// The session's id in our log.
    pub unique_id: &'a [u8],
}

/// The bytes of a version 2 header, to be sent before all else. If only one address is IPv4, it is written as IPv6.
pub fn emit(header: &OutgoingProxyHeader<'_>) -> Vec<u8> {
    let mut out = addresses(header.source, header.destination);
    if let Some(tls) = header.tls {
        put(&mut out, kind::SSL, &ssl(tls));
    }
    if let Some(authority) = header.authority {
        put_bounded(&mut out, kind::AUTHORITY, authority.as_bytes(), MAX_VALUE);
    }
    put_bounded(&mut out, kind::UNIQUE_ID, header.unique_id, MAX_UNIQUE_ID);
    let length = (out.len() - FIXED) as u16; // bounded by MAX_VALUE: far below 64 KiB
    out[FIXED - 2..FIXED].copy_from_slice(&length.to_be_bytes());
    out
}

/// The bytes of a version 2 header with the command LOCAL: the connection is our own, nobody's behind us (a probe).
pub fn emit_local() -> Vec<u8> {
    let header = proxy_protocol::ProxyHeader::Version2 {
        command: ProxyCommand::Local,
        transport_protocol: ProxyTransportProtocol::Unspec,
        addresses: ProxyAddresses::Unspec,
    };
    // Its only error is one of version 1.
    proxy_protocol::encode(header).expect("a version 2 header can always be written").into()
}

fn addresses(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let addresses = match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => ProxyAddresses::Ipv4 { source, destination },
        _ => ProxyAddresses::Ipv6 { source: mapped(source), destination: mapped(destination) },
    };
    let header = proxy_protocol::ProxyHeader::Version2 {
        command: ProxyCommand::Proxy,
        transport_protocol: ProxyTransportProtocol::Stream,
        addresses,
    };
    // Its only error is one of version 1.
    proxy_protocol::encode(header).expect("a version 2 header can always be written").into()
}

fn mapped(address: SocketAddr) -> SocketAddrV6 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddrV6::new(ip, address.port(), 0, 0)
}

fn ssl(tls: &ProxyTls) -> Vec<u8> {
    let certificate = if tls.verified { CLIENT_CERT_CONN | CLIENT_CERT_SESS } else { 0 };
    let mut value = vec![CLIENT_SSL | certificate];
    value.extend(u32::from(!tls.verified).to_be_bytes());
    let fields = [(kind::SSL_VERSION, &tls.version), (kind::SSL_CN, &tls.common_name), (kind::SSL_CIPHER, &tls.cipher)];
    for (kind, text) in fields {
        put_bounded(&mut value, kind, text.as_deref().unwrap_or_default().as_bytes(), MAX_VALUE);
    }
    value
}

/// Appends a TLV, unless its value is empty or longer than `max`.
fn put_bounded(out: &mut Vec<u8>, kind: u8, value: &[u8], max: usize) {
    if !value.is_empty() && value.len() <= max {
        put(out, kind, value);
    }
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.extend((value.len() as u16).to_be_bytes()); // at most four values of MAX_VALUE
    out.extend(value);
}
