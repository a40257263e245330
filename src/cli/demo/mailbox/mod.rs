//! A small IMAP server for the demo: one INBOX per user, held in memory, shared by all servers that are started over the
//! same [`MailStore`], as a site's backends share their mail storage. It speaks enough of RFC 3501 (with LITERAL+, SASL-IR,
//! ID, IDLE, UIDPLUS and UNSELECT) for curl, mbsync, Python's imaplib and a person with `openssl s_client`.
//!
//! It is not a mail server: nothing survives the process. But it trusts its peer no more than a real one would: every
//! line, literal, mailbox and wait is bounded.

mod command;
mod date;
mod fetch;
mod mail;
mod message;
mod samples;
mod search;
mod sequence;
mod session;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

pub(super) use mail::MailStore;
pub(super) use samples::samples;

/// Connections at once; more are closed before the greeting.
const CONNECTIONS: usize = 1000;

/// A running server. Dropping it closes its listener and resets its connections.
pub(super) struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: AbortHandle,
}

/// What all connections of one server know.
struct Shared {
    /// The backend's name, which it tells everybody who asks.
    name: String,
    mail: Arc<MailStore>,
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Live>>,
}

/// A logged-in session as this server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// Who.
    pub(super) user: String,
    /// From where, as the proxy announced by ID; empty for a direct connection.
    pub(super) client: String,
    /// The proxy's name of the session, likewise.
    pub(super) session: String,
}

impl Server {
    /// Listens on a free port of the loopback address.
    pub(super) async fn start(name: &str, mail: Arc<MailStore>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { name: name.to_owned(), mail, next: AtomicU64::new(0), live: Mutex::default() });
        let task = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Ok(Self { shared, address, task })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sessions logged in now.
    pub(super) fn live(&self) -> Vec<Live> {
        self.shared.live().values().cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort(); // the task owns the connections
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session until the guard is dropped.
    fn enter(self: &Arc<Self>, live: Live) -> Entered {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.live().insert(number, live);
        Entered { shared: self.clone(), number }
    }
}

/// Keeps a session counted.
struct Entered {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.live().remove(&self.number);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS => {
                    connections.spawn(serve(stream, shared.clone()));
                }
                Ok(_) => {}
                // Out of file descriptors, most likely: they come back when connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Fails only on a dead socket, as the first write will.
    let _ = stream.set_nodelay(true);
    if let Err(error) = session::Session::new(stream, shared).run().await {
        tracing::debug!(%error, "a connection to a demo backend broke");
    }
}
