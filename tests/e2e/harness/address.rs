//! Addresses that collide with nobody: the process picks two octets, counters the last and the port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Result;

/// An address in 127.0.0.0/8 that no other test uses.
pub fn fresh_ip() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // Not 127.0.x.y, where the rest of the machine lives; the counter runs on into the second octet.
    let second = 16 + (high.wrapping_mul(7).wrapping_add((count / 254) as u8)) % 239;
    IpAddr::V4(Ipv4Addr::new(127, second, low, (1 + count % 254) as u8))
}

/// A free port at a fresh address. Nobody else asks for ports there, so it stays free until the server takes it.
pub fn fresh_address() -> Result<SocketAddr> {
    free_port(fresh_ip())
}

/// Ports that servers are given: below those that the system takes for outgoing connections, so that a server that was
/// killed finds its port free when it starts again.
const PORTS: std::ops::Range<u32> = 10_000..20_000;

/// A free port at `ip`, and another one each time: a port is not taken before its server starts.
pub fn free_port(ip: IpAddr) -> Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + std::process::id().wrapping_add(count) % PORTS.len() as u32;
        let address = SocketAddr::new(ip, port as u16);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no port is free at {ip}")
}

/// So many free ports at `ip`.
pub fn free_ports<const N: usize>(ip: IpAddr) -> Result<[SocketAddr; N]> {
    let ports = some_free_ports(ip, N)?;
    ports.try_into().map_err(|ports| anyhow::anyhow!("{N} were asked for: {ports:?}"))
}

/// The same, where the number is known only at run time.
pub fn some_free_ports(ip: IpAddr, count: usize) -> Result<Vec<SocketAddr>> {
    (0..count).map(|_| free_port(ip)).collect()
}
