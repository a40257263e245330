//! What all proxies share: a directory, a certificate, users, and the mail servers, which run in a thread of their own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use tempfile::TempDir;
use tokio::task::LocalSet;

use crate::auth_http;
use crate::servers::lmtp::Taken;
use crate::servers::{imap, lmtp, pop3};
use crate::tls::Certificate;

/// In the certificate, and asked for by clients.
pub(crate) const TLS_NAME: &str = "imap.bench.example";

/// Everybody's.
pub(crate) const PASSWORD: &str = "correct-horse";

/// As many as make tables and caches work, few enough for a quick start.
pub(crate) const USERS: usize = 10_000;

/// Several, so that there is a choice to make, and enough free ports towards them.
pub(crate) const BACKENDS: u8 = 5;

/// The last byte of the first server's address, 127.77.0.10; the others follow.
const FIRST_BACKEND: u8 = 10;

/// See the module.
pub(crate) struct World {
    dir: TempDir,
    /// Shown by every proxy.
    pub(crate) certificate: Certificate,
    /// The mail servers, by IMAP.
    pub(crate) backends: Vec<SocketAddr>,
    /// Where all of them speak POP3.
    pub(crate) pop3_port: u16,
    /// Where all of them speak LMTP.
    pub(crate) lmtp_port: u16,
    /// What each of them has got of long messages.
    pub(crate) taken: Vec<Taken>,
    /// Where nginx asks.
    pub(crate) auth_http: SocketAddr,
}

/// The name of the user with this number.
pub(crate) fn user_name(number: usize) -> String {
    format!("user{}@bench.example", number % USERS)
}

/// Users beside these whose password is kept as a bcrypt hash: as many as log in at once.
pub(crate) const HASHED_USERS: usize = 50;

/// The name of one of them.
pub(crate) fn hashed_user_name(number: usize) -> String {
    format!("hashed{}@bench.example", number % HASHED_USERS)
}

impl World {
    /// Makes everything and starts the mail servers.
    pub(crate) fn create() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("homing-bench-").tempdir()?;
        open_to_others(dir.path())?;
        let certificate = Certificate::make(dir.path())?;
        let servers = Servers::listen()?;
        let oracle = listen(Ipv4Addr::new(127, 77, 0, 1), 0)?;
        let backends = addresses(&servers.imap)?;
        let (pop3_port, lmtp_port) = (port(&servers.pop3)?, port(&servers.lmtp)?);
        let auth_http = oracle.local_addr()?;
        let (homes, taken) = (backends.clone(), servers.taken.clone());
        std::thread::Builder::new().name("backends".to_owned()).spawn(move || servers.run(oracle, &homes))?;
        Ok(Self { dir, certificate, backends, pop3_port, lmtp_port, taken, auth_http })
    }

    /// Everything here goes when the bench ends.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Dovecot's login processes run as another user.
fn open_to_others(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).context("chmod of the temporary directory")
}

/// The mail servers' doors, one of each kind at every server.
struct Servers {
    imap: Vec<TcpListener>,
    pop3: Vec<TcpListener>,
    lmtp: Vec<TcpListener>,
    taken: Vec<Taken>,
}

impl Servers {
    fn listen() -> anyhow::Result<Self> {
        let taken = (0..BACKENDS).map(|_| Taken::default()).collect();
        Ok(Self { imap: listen_everywhere()?, pop3: listen_everywhere()?, lmtp: listen_everywhere()?, taken })
    }

    /// One thread: with a second one, the fake servers would take cores from the proxies.
    fn run(self, oracle: TcpListener, homes: &[SocketAddr]) -> std::io::Result<()> {
        use tokio::task::spawn_local;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let homes: Rc<[SocketAddr]> = homes.into();
        LocalSet::new().block_on(&runtime, async {
            for listener in self.imap {
                spawn_local(imap::serve(listener.try_into()?));
            }
            for listener in self.pop3 {
                spawn_local(pop3::serve(listener.try_into()?));
            }
            for (number, (listener, count)) in self.lmtp.into_iter().zip(self.taken).enumerate() {
                spawn_local(lmtp::serve(listener.try_into()?, number == 0, count));
            }
            auth_http::serve(oracle.try_into()?, homes).await;
            Ok(())
        })
    }
}

/// At every server's address, and at the same port: Dovecot's static passdb knows but one.
fn listen_everywhere() -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for number in 0..BACKENDS {
        let port = if listeners.is_empty() { 0 } else { port(&listeners)? };
        listeners.push(listen(Ipv4Addr::new(127, 77, 0, FIRST_BACKEND + number), port)?);
    }
    Ok(listeners)
}

fn addresses(listeners: &[TcpListener]) -> std::io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

fn port(listeners: &[TcpListener]) -> anyhow::Result<u16> {
    Ok(listeners.first().context("there is no server")?.local_addr()?.port())
}

/// With a backlog that a burst of logins does not fill. Port 0 is chosen by the system.
fn listen(address: Ipv4Addr, port: u16) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((address, port)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
