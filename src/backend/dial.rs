//! A TCP connection to a mail server: its addresses one after the other, and never ourselves.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fault::ConnectError;
use super::table::{Road, Server};
use crate::net::{canonical, tune};

/// Connects to the first address that answers. `limit` is the time for all that is to follow, too; of several addresses
/// each gets its share of it, so that a dead one does not use up the time of those behind it.
pub(super) async fn dial(
    server: &Server,
    road: &Road,
    own: &[SocketAddr],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let failed =
        |source| ConnectError::Dial { backend: server.id.clone(), host: server.host.clone(), port: road.port, source };
    let addresses = in_time(server.connect_timeout, resolve(&server.host, road.port)).await.map_err(failed)?;
    let patience = server.connect_timeout.min(share(limit, addresses.len()));
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match in_time(patience, TcpStream::connect(address)).await {
            Ok(tcp) if loops_back(&tcp, address, own) => {
                return Err(ConnectError::Loop { backend: server.id.clone(), address });
            }
            Ok(tcp) => {
                tune(&tcp);
                return Ok((tcp, address));
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// What of `limit` each of so many addresses may use up, so that something is left for the dialogue with the last. One
/// alone may use up all: the caller has an eye on that.
fn share(limit: Duration, addresses: usize) -> Duration {
    match u32::try_from(addresses) {
        Ok(0 | 1) => Duration::MAX,
        Ok(several) => limit / several.saturating_add(1),
        Err(_) => Duration::ZERO,
    }
}

async fn in_time<T>(patience: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// An address is taken as it is; a name costs a look-up.
/// The name could not be looked up. That says something about the resolver, which all backends share, not about the
/// backend.
#[derive(Debug, thiserror::Error)]
#[error("its name cannot be looked up: {0}")]
pub(super) struct LookupFault(io::Error);

fn unknown(error: io::Error) -> io::Error {
    io::Error::other(LookupFault(error))
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => Ok(tokio::net::lookup_host((host, port)).await.map_err(unknown)?.collect()),
    }
}

/// One of our own listeners. One on the wildcard address is behind every address of this machine: loopback, and those
/// that the kernel connects to from themselves.
fn loops_back(tcp: &TcpStream, address: SocketAddr, own: &[SocketAddr]) -> bool {
    let address = canonical(address);
    let from_itself = tcp.local_addr().is_ok_and(|local| canonical(local).ip() == address.ip());
    let here = from_itself || address.ip().is_loopback();
    own.iter().any(|listener| {
        // A listener on [::] takes IPv6 only.
        let behind_all = listener.ip().is_unspecified() && listener.is_ipv4() == address.is_ipv4();
        listener.port() == address.port() && (listener.ip() == address.ip() || (behind_all && here))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_addresses_leave_time_for_the_last_and_for_what_follows() {
        let limit = Duration::from_secs(6);
        assert_eq!(share(limit, 1), Duration::MAX);
        assert_eq!([share(limit, 2), share(limit, 5)], [limit / 3, limit / 6]);
    }
}
