//! Addresses that collide with nobody: the process picks two octets, a counter the last, the kernel the port.

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

/// A free port at `ip`.
pub fn free_port(ip: IpAddr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((ip, 0))?.local_addr()?)
}

/// So many free ports at `ip`, each another: asked for one by one, the system may give one of them twice.
pub fn free_ports<const N: usize>(ip: IpAddr) -> Result<[SocketAddr; N]> {
    let ports = some_free_ports(ip, N)?;
    ports.try_into().map_err(|ports| anyhow::anyhow!("{N} were asked for: {ports:?}"))
}

/// The same, where the number is known only at run time.
pub fn some_free_ports(ip: IpAddr, count: usize) -> Result<Vec<SocketAddr>> {
    let listeners = (0..count).map(|_| Ok(TcpListener::bind((ip, 0))?)).collect::<Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?)).collect()
}
