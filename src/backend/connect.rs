//! Backend connect: dial, send the PROXY header, start TLS, announce the client, log the user in.
//!
//! Called by `session` after placement. Never picks another backend: that is for the store to decide. What may pass by
//! itself (refused connects, a backend that closes before it has answered) is tried again within a budget.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use super::table::Server;
use crate::model::{BackendId, Ending, Phase, Secret};
use crate::net::{DriveError, OutgoingProxyHeader, ProxyTls, Stream, TlsFault, drive, emit_proxy_header, flush, tune};
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
    #[error("backend {backend} closed during {}", phase.word())]
    Lost {
        /// Which.
        backend: BackendId,
        /// When.
        phase: Phase,
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
    fn may_pass(&self) -> bool {
        matches!(self, Self::Dial { .. } | Self::Lost { .. })
    }
}

/// Connects and logs in. Tries again, within the server's `retry_budget`, what may pass by itself. Gives up when
/// `interrupt` resolves.
///
/// Whatever the outcome, no login is under way at the backend when this returns: a connection that is given up after the
/// password has been sent is closed, and the backend's FIN awaited, for up to `close_timeout`. (If the future is dropped
/// instead, that is not so.)
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
                    () = sleep(pause) => pause *= 2,
                    why = interrupt.as_mut() => return Err(ConnectError::Interrupted { backend: server.id.clone(), why }),
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
    let given_up = tokio::select! {
        outcome = talk(server, request, &mut held) => return outcome,
        () = sleep(limit) => ConnectError::Slow { backend: server.id.clone(), limit },
        why = interrupt => ConnectError::Interrupted { backend: server.id.clone(), why },
    };
    if let Some(stream) = held {
        part(stream, request.close_timeout).await;
    }
    Err(given_up)
}

/// Closes our side and waits for the backend's FIN; a backend that takes too long is reset.
async fn part(mut stream: Stream, close_timeout: Duration) {
    let mut discarded = [0; 1024];
    let farewell = async {
        stream.shutdown().await?;
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    if timeout(close_timeout, farewell).await.is_err() {
        stream.reset_on_drop();
    }
}

/// One connection, up to the answer to the login. It is in `held` while the backend may be logging the user in.
async fn talk(server: &Server, request: &Request<'_>, held: &mut Option<Stream>) -> Result<Arrival, ConnectError> {
    let (tcp, address) = dial(server, request.own).await?;
    let mut stream = Stream::Plain(tcp);
    if server.announce.proxy && request.trusted {
        let mut out = Output::new();
        out.put(proxy_header(request.announcement));
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

/// Connects to the first address that answers.
async fn dial(server: &Server, own: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let failed = |source| ConnectError::Dial {
        backend: server.id.clone(),
        host: server.host.clone(),
        port: server.port,
        source,
    };
    let deadline = Instant::now() + server.connect_timeout;
    let too_slow = |_| failed(io::ErrorKind::TimedOut.into());
    let addresses =
        timeout_at(deadline, resolve(&server.host, server.port)).await.map_err(too_slow)?.map_err(failed)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        if loops_back(address, own) {
            return Err(ConnectError::Loop { backend: server.id.clone(), address });
        }
        match timeout_at(deadline, TcpStream::connect(address)).await.map_err(too_slow)? {
            Ok(tcp) => {
                tune(&tcp);
                return Ok((tcp, address));
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// An address is taken as it is; a name costs a look-up.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
    }
}

/// One of our own listeners, also one on the wildcard address reached over loopback.
fn loops_back(address: SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|listener| {
        let wildcard =
            [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)].contains(&listener.ip());
        listener.port() == address.port() && (listener.ip() == address.ip() || (wildcard && address.ip().is_loopback()))
    })
}

/// The client's addresses, and what else a PROXY v2 header can say of it.
fn proxy_header(announcement: &Announcement) -> Vec<u8> {
    let tls = announcement.secured.then(ProxyTls::default);
    emit_proxy_header(&OutgoingProxyHeader {
        source: announcement.client,
        destination: announcement.local,
        tls: tls.as_ref(),
        authority: announcement.server_name.as_deref(),
        unique_id: announcement.session.as_str().as_bytes(),
    })
}

async fn encrypt(server: &Server, tls: &super::table::Tls, stream: Stream) -> Result<Stream, ConnectError> {
    let Stream::Plain(tcp) = stream else { return Ok(stream) };
    tls.client.connect(tcp, &tls.name).await.map_err(|source| ConnectError::Tls { backend: server.id.clone(), source })
}

fn lost(server: &Server, source: Option<io::Error>) -> ConnectError {
    ConnectError::Lost { backend: server.id.clone(), phase: Phase::Connect, source }
}
