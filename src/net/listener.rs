//! Listening sockets, and how every connection is set up.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

/// Connections that wait in the kernel: a whole fleet's clients may return at once. The kernel cuts it to
/// `net.core.somaxconn`, which is 4096 as well.
const BACKLOG: i32 = 4096;
/// Silence before the first keepalive probe. Short enough to keep the state of usual NAT boxes alive.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
/// Time between probes that get no answer. Linux gives up after nine by default, which is left alone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long accepting pauses while the process or the host lacks descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);
/// The same complaint is logged at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    complaints: Mutex<Complaints>,
}

/// Keeps a fault that repeats itself from filling the log.
#[derive(Debug, Default)]
struct Complaints {
    silent_until: Option<Instant>,
    withheld: u64,
}

impl Listener {
    /// Listens on `address`, port 0 for one that the system chooses. An IPv6 address takes IPv6 only, so that `0.0.0.0`
    /// can stand beside `[::]` on the same port. Needs a tokio runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections of the process before us may still be in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // Accepted sockets inherit it: four system calls less for each.
        set_up(&SockRef::from(&socket));
        socket.listen(BACKLOG)?;
        Ok(Self { tcp: TcpListener::from_std(socket.into())?, complaints: Mutex::default() })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection, tuned, and its peer's [`canonical`] address. Never fails: a connection that broke while it
    /// waited is skipped, and when descriptors or memory run out it is logged and tried again a little later, for the
    /// sessions that live will end and free some. Dropping the future loses no connection.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok((tcp, peer)) => return (tcp, canonical(peer)),
                Err(error) if concerns_one_connection(&error) => tracing::debug!(%error, "a connection broke early"),
                Err(error) => {
                    self.complain(&error);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn complain(&self, error: &io::Error) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if complaints.silent_until.is_some_and(|until| now < until) {
            complaints.withheld += 1;
            return;
        }
        let address = self.tcp.local_addr().ok();
        tracing::error!(%error, ?address, withheld = complaints.withheld, "cannot accept; clients wait (descriptor limit?)");
        *complaints = Complaints { silent_until: Some(now + COMPLAIN_EVERY), withheld: 0 };
    }
}

/// accept(2): Linux reports what already happened to the new connection as an error of accept, and says which errors
/// these are. The listener itself is sound.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
                | Errno::TIMEDOUT
                | Errno::PERM
        )
    )
}

/// Sets up a connection, either side: no Nagle (a dialogue of short lines would wait for delayed acknowledgements), and
/// keepalive, for an idle session hears nothing from a peer that lost its power.
pub fn tune(tcp: &TcpStream) {
    set_up(&SockRef::from(tcp));
}

fn set_up(socket: &SockRef<'_>) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    // These fail only on a socket whose peer is gone already, which the first read will tell.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// The form in which addresses are compared, counted and logged: IPv4 inside IPv6 (`::ffff:192.0.2.1`) becomes IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address, // keeps the scope of a link-local address
        ip => SocketAddr::new(ip, address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_inside_ipv6_becomes_ipv4_and_others_stay() {
        let of = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(of("[::ffff:192.0.2.1]:993"), "192.0.2.1:993");
        assert_eq!(of("192.0.2.1:993"), "192.0.2.1:993");
        assert_eq!(of("[2001:db8::1]:993"), "[2001:db8::1]:993");
        assert_eq!(of("[fe80::1%3]:993"), "[fe80::1%3]:993");
    }

    #[test]
    fn only_errors_of_the_listener_itself_make_accepting_pause() {
        for errno in [Errno::CONNABORTED, Errno::PROTO, Errno::NETUNREACH] {
            assert!(concerns_one_connection(&errno.into()), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INVAL] {
            assert!(!concerns_one_connection(&errno.into()), "{errno}");
        }
    }
}
