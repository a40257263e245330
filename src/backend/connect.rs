//! Backend connect: dial, send the PROXY header, start TLS, announce the client, log the user in.
//!
//! Called by `session` after placement. Never picks another backend: that is for the store to decide. What may pass by
//! itself (refused connects, a backend that closes before it has answered) is tried again within a budget.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::table::Server;
use crate::model::{BackendId, Ending, Secret};
use crate::net::{
    DriveError, OutgoingProxyHeader, ProxyTls, Stream, TlsFault, canonical, drive, emit_proxy_header, flush, tune,
};
use crate::protocol::{
    Announcement, Backend, BackendLogin, BackendRefusal, BackendWish, Handover, Input, Output, Violation, imap,
};

/// Bytes of a backend's line before login; Dovecot's longest is its capabilities, below 1 KiB.
const LINE: usize = 16 * 1024;
/// First pause before another try; doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// What a login brings.
pub struct Request<'a> {
    /// Name at the backend.
    pub user: &'a str,
    /// The user who logs in on the user's behalf, if any.
    pub master: Option<&'a str>,
    /// The password of whoever logs in.
    pub password: &'a Secret,
    /// The true client, for a backend that is told.
    pub announcement: &'a Announcement,
    /// The client's own TLS, for a PROXY header to tell of.
    pub tls: Option<&'a ProxyTls>,
    /// The backend may be told who the client is.
    pub trusted: bool,
    /// Our own steps may be sent without waiting, where the server copes.
    pub pipelining: bool,
    /// How long the backend may take to close a connection that is given up.
    pub close_timeout: Duration,
    /// Instead of the server's `login_timeout`.
    pub limit: Option<Duration>,
    /// Addresses that must not be dialled: our own listeners.
    pub own: &'a [SocketAddr],
}

/// A connection that is logged in.
pub struct Arrival {
    /// The connection.
    pub stream: Stream,
    /// What the backend said, for the client.
    pub handover: Handover,
    /// Bytes that came behind that; they belong to the client.
    pub early: Vec<u8>,
    /// The address that was dialled.
    pub address: SocketAddr,
}

/// Why a backend could not be used. `Lost` and `Dial` are tried again on the same backend; the rest needs the
/// operator or the user.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TCP connection.
    #[error("backend {backend} cannot be reached at {host}:{port}")]
    Dial {
        /// Which.
        backend: BackendId,
        /// Configured host.
        host: String,
        /// Configured port.
        port: u16,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the login was answered.
    #[error("backend {backend} closed before it had answered the login")]
    Lost {
        /// Which.
        backend: BackendId,
        /// Cause, unless it closed in good order.
        #[source]
        source: Option<io::Error>,
    },
    /// It did not answer in time.
    #[error("backend {backend} gave no answer within {limit:?}")]
    Slow {
        /// Which.
        backend: BackendId,
        /// The limit.
        limit: Duration,
    },
    /// TLS could not be had.
    #[error("backend {backend}: TLS failed; check tls, tls_ca and tls_name in [backend.{backend}]")]
    Tls {
        /// Which.
        backend: BackendId,
        /// Cause.
        #[source]
        source: TlsFault,
    },
    /// It does not speak as it should, or does not offer what the configuration demands.
    #[error("backend {backend}: {violation}")]
    Protocol {
        /// Which.
        backend: BackendId,
        /// What it did.
        violation: Violation,
    },
    /// It refused the user, in its own words.
    #[error("backend {backend} refused the login")]
    Refused {
        /// Which.
        backend: BackendId,
        /// What it said.
        words: BackendRefusal,
    },
    /// The caller needs it no more.
    #[error("interrupted: {}", why.word())]
    Interrupted {
        /// Which.
        backend: BackendId,
        /// Why.
        why: Ending,
    },
    /// It is this proxy itself.
    #[error("backend {backend} is this proxy's own listener {address}; correct host and port in [backend.{backend}]")]
    Loop {
        /// Which.
        backend: BackendId,
        /// Where.
        address: SocketAddr,
    },
}

impl ConnectError {
    /// Trying again may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Dial { .. } | Self::Lost { .. })
    }
}

/// Connects and logs in. Tries again, within the server's `retry_budget`, what may pass by itself. Gives up when
/// `interrupt` resolves.
///
/// Whatever the failure, no login is under way at the backend when this returns: a connection that is given up after the
/// password may have been sent is closed, and the backend's FIN awaited, for up to `close_timeout`. (If the future is
/// dropped instead, that is not so.)
pub async fn connect(
    server: &Server,
    request: &Request<'_>,
    interrupt: impl Future<Output = Ending>,
) -> Result<Arrival, ConnectError> {
    let mut interrupt = pin!(interrupt);
    let budget = Instant::now() + server.retry_budget;
    let mut pause = PAUSE;
    loop {
        match attempt(server, request, interrupt.as_mut()).await {
            Err(error) if error.may_pass() && Instant::now() + pause < budget => {
                debug!(backend = %server.id, %error, "trying again");
                tokio::select! {
                    biased;
                    why = interrupt.as_mut() => return Err(ConnectError::Interrupted { backend: server.id.clone(), why }),
                    () = sleep(pause) => pause *= 2,
                }
            }
            outcome => return outcome,
        }
    }
}

async fn attempt(
    server: &Server,
    request: &Request<'_>,
    interrupt: Pin<&mut impl Future<Output = Ending>>,
) -> Result<Arrival, ConnectError> {
    let limit = request.limit.unwrap_or(server.login_timeout);
    let mut held = None;
    let error = tokio::select! {
        biased; // who is told to stop must not come in by chance
        why = interrupt => ConnectError::Interrupted { backend: server.id.clone(), why },
        outcome = talk(server, request, &mut held) => match outcome {
            Ok(arrival) => return Ok(arrival),
            Err(error) => error,
        },
        () = sleep(limit) => ConnectError::Slow { backend: server.id.clone(), limit },
    };
    if let Some(mut stream) = held {
        // Past the isolation deadline there is no time left to be polite.
        let isolated = matches!(error, ConnectError::Interrupted { why: Ending::Isolated, .. });
        let refused = matches!(error, ConnectError::Refused { .. });
        if isolated || (!refused && !stream.part(request.close_timeout).await) {
            stream.reset_on_drop();
        }
    }
    Err(error)
}

/// One connection, up to the answer to the login. It is in `held` while the backend may be logging the user in.
async fn talk(server: &Server, request: &Request<'_>, held: &mut Option<Stream>) -> Result<Arrival, ConnectError> {
    let (tcp, address) = dial(server, request.own).await?;
    let mut stream = Stream::Plain(tcp);
    if server.announce.proxy && request.trusted {
        let mut out = Output::new();
        out.put(proxy_header(request));
        flush(&mut stream, &mut out).await.map_err(|error| lost(server, Some(error)))?;
    }
    if let Some(tls) = server.tls.as_ref().filter(|tls| !tls.starttls) {
        stream = encrypt(server, tls, stream).await?;
    }
    let mut machine = imap::Backend::new(login(server, request));
    *held = Some(stream);
    let (handover, early) = converse(server, &mut machine, held).await?;
    let stream = held.take().ok_or_else(|| lost(server, None))?;
    Ok(Arrival { stream, handover, early, address })
}

/// Runs the dialogue up to the answer to the login. The stream is out of its place only during a TLS handshake, and then
/// no password has been sent.
async fn converse(
    server: &Server,
    machine: &mut dyn Backend,
    held: &mut Option<Stream>,
) -> Result<(Handover, Vec<u8>), ConnectError> {
    let (mut input, mut out) = (Input::with_capacity(LINE), Output::new());
    loop {
        let stream = held.as_mut().ok_or_else(|| lost(server, None))?;
        let wish = drive(machine, stream, &mut input, &mut out).await.map_err(|error| match error {
            DriveError::Closed | DriveError::Violation(Violation::TurnedAway) => lost(server, None),
            DriveError::Broken(error) => lost(server, Some(error)),
            DriveError::Violation(violation) => ConnectError::Protocol { backend: server.id.clone(), violation },
        })?;
        match wish {
            BackendWish::StartTls => {
                // The machine asks for TLS only where the configuration demands it.
                let (Some(tls), Some(plain)) = (&server.tls, held.take()) else { return Err(lost(server, None)) };
                *held = Some(encrypt(server, tls, plain).await?);
                machine.secured(&mut out);
            }
            BackendWish::LoggedIn(handover) => return Ok((handover, input.filled().to_vec())),
            BackendWish::Refused(words) => return Err(ConnectError::Refused { backend: server.id.clone(), words }),
        }
    }
}

fn login(server: &Server, request: &Request<'_>) -> BackendLogin {
    BackendLogin {
        user: request.user.to_owned(),
        master: request.master.map(str::to_owned),
        password: request.password.duplicate(),
        announce: (server.announce.id && request.trusted).then(|| request.announcement.clone()),
        starttls: server.tls.as_ref().is_some_and(|tls| tls.starttls),
        pipelining: server.pipelining && request.pipelining,
    }
}

/// Connects to the first address that answers; each gets `connect_timeout`, so that a dead one does not use up the time
/// of those behind it.
async fn dial(server: &Server, own: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let failed = |source| ConnectError::Dial {
        backend: server.id.clone(),
        host: server.host.clone(),
        port: server.port,
        source,
    };
    let addresses = in_time(server, resolve(&server.host, server.port)).await.map_err(failed)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match in_time(server, TcpStream::connect(address)).await {
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

async fn in_time<T>(server: &Server, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(server.connect_timeout, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// An address is taken as it is; a name costs a look-up.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
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

/// The client's addresses, and what else a PROXY v2 header can say of it.
fn proxy_header(request: &Request<'_>) -> Vec<u8> {
    let announcement = request.announcement;
    emit_proxy_header(&OutgoingProxyHeader {
        source: announcement.client,
        destination: announcement.local,
        tls: request.tls,
        authority: announcement.server_name.as_deref(),
        unique_id: announcement.session.as_str().as_bytes(),
    })
}

async fn encrypt(server: &Server, tls: &super::table::Tls, stream: Stream) -> Result<Stream, ConnectError> {
    let Stream::Plain(tcp) = stream else { return Ok(stream) };
    tls.client.connect(tcp, &tls.name).await.map_err(|source| ConnectError::Tls { backend: server.id.clone(), source })
}

fn lost(server: &Server, source: Option<io::Error>) -> ConnectError {
    ConnectError::Lost { backend: server.id.clone(), source }
}
