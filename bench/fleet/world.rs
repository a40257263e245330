//! What all proxies share: a directory, a certificate, users, and the mail servers, which run in a thread of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::tls::Certificate;
use crate::{auth_http, fake_backend};

/// In the certificate, and asked for by clients.
pub(crate) const TLS_NAME: &str = "imap.bench.example";

/// Everybody's.
pub(crate) const PASSWORD: &str = "correct-horse";

/// As many as make tables and caches work, few enough for a quick start.
pub(crate) const USERS: usize = 10_000;

/// Several, so that there is a choice to make, and enough free ports towards them.
const BACKENDS: u8 = 4;

/// See the module.
pub(crate) struct World {
    dir: TempDir,
    /// Shown by every proxy.
    pub(crate) certificate: Certificate,
    /// The mail servers.
    pub(crate) backends: Vec<SocketAddr>,
    /// Where nginx asks.
    pub(crate) auth_http: SocketAddr,
}

/// The name of the user with this number.
pub(crate) fn user_name(number: usize) -> String {
    format!("user{}@bench.example", number % USERS)
}

impl World {
    /// Makes everything and starts the mail servers.
    pub(crate) fn create() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("homing-bench-").tempdir()?;
        open_to_others(dir.path())?;
        let certificate = Certificate::make(dir.path())?;
        let mut listeners = Vec::new();
        for number in 0..BACKENDS {
            listeners.push(listen(Ipv4Addr::new(127, 77, 0, 10 + number))?);
        }
        let oracle = listen(Ipv4Addr::new(127, 77, 0, 1))?;
        let backends = listeners.iter().map(std::net::TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        let auth_http = oracle.local_addr()?;
        let homes = backends.clone();
        std::thread::Builder::new()
            .name("backends".to_owned())
            .spawn(move || run_servers(listeners, oracle, &homes))?;
        Ok(Self { dir, certificate, backends, auth_http })
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

/// With a backlog that a burst of logins does not fill.
fn listen(address: Ipv4Addr) -> std::io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// One thread: with a second one, the fake servers would take cores from the proxies.
fn run_servers(
    listeners: Vec<std::net::TcpListener>,
    oracle: std::net::TcpListener,
    homes: &[SocketAddr],
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let homes: Rc<[SocketAddr]> = homes.into();
    tasks.block_on(&runtime, async {
        for listener in listeners {
            tokio::task::spawn_local(fake_backend::serve(TcpListener::from_std(listener)?));
        }
        auth_http::serve(TcpListener::from_std(oracle)?, homes).await;
        Ok(())
    })
}
