//! Listening sockets.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};
use std::time::Duration;

use homing::net::Listener;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::PATIENCE;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn an_accepted_connection_sends_at_once_and_notices_a_dead_peer() {
    let listener = Listener::bind(loopback()).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, peer) = listener.accept().await;
    assert_eq!(peer, client.local_addr().unwrap());
    let socket = SockRef::from(&tcp);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(120));
}

#[tokio::test]
async fn ipv4_can_stand_beside_ipv6_on_the_same_port() {
    let together = || {
        let six = Listener::bind("[::]:0".parse().unwrap())?;
        let port = six.local_addr()?.port();
        Listener::bind(SocketAddr::from(([0, 0, 0, 0], port)))
    };
    if Listener::bind("[::]:0".parse().unwrap()).is_ok() {
        // Somebody else may hold the IPv4 port that the system chose for IPv6, but not time and again.
        assert!((0..10).any(|_| together().is_ok()));
    } // else a host without IPv6
}

#[tokio::test]
// An address of its own, so that no other test is given the port meanwhile.
async fn a_port_is_free_again_as_soon_as_its_listener_is_gone() {
    let listener = Listener::bind(SocketAddr::from(([127, 83, 12, 7], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    drop(listener.accept().await); // closing first leaves this side in TIME_WAIT
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    drop(client);
    drop(listener);
    Listener::bind(address).unwrap();
}

/// Set in the process that runs out of descriptors, so that no other test does.
const CHILD: &str = "HOMING_TEST_FEW_DESCRIPTORS";

#[test]
fn without_descriptors_accepting_waits_and_goes_on_when_there_are_some() {
    if std::env::var_os(CHILD).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(run_out_of_descriptors());
    }
    let name = "listener::without_descriptors_accepting_waits_and_goes_on_when_there_are_some";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

async fn run_out_of_descriptors() {
    let listener = Listener::bind(loopback()).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(64), ..limit }).unwrap();
    let hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(hoard.len() < 64);

    let mut accepting = pin!(listener.accept());
    assert!(timeout(Duration::from_millis(150), accepting.as_mut()).await.is_err(), "nothing to accept with");
    let woken = Arc::new(Woken::default());
    assert!(accepting.as_mut().poll(&mut Context::from_waker(&Arc::clone(&woken).into())).is_pending());
    assert!(!woken.0.load(Ordering::Relaxed), "it waits for its time instead of asking to run on");

    drop(hoard);
    let (_, peer) = timeout(PATIENCE, accepting).await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}

/// Whether a future asked to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
