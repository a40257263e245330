//! Backend connect: dial, send the PROXY header, start TLS, announce the client, log the user in.
//!
//! Called by `session` after placement. Never picks another backend: that is for the store to decide. What may pass by
//! itself (refused connects, a backend that closes before it has answered) is tried again within a budget.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::dial::dial;
use super::fault::{ConnectError, Outcome, Seen, Witness};
use super::offers::Offers;
use super::table::{Road, Server, Tls};
use crate::model::{Ending, Protocol, Secret};
use crate::net::{DriveError, OutgoingProxyHeader, ProxyTls, Stream, drive, emit_proxy_header, flush};
use crate::protocol::{
    Announcement, Backend, BackendLogin, BackendWish, Errand, Handover, Input, Means, Output, Stage, Violation, spoken,
};

/// Bytes of a backend's line before login; Dovecot's longest is its capabilities, below 1 KiB.
const LINE: usize = 16 * 1024;
/// First pause before another try; doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// What a login brings.
pub struct Request<'a> {
    /// By which protocol.
    pub protocol: Protocol,
    /// Name at the backend.
    pub user: &'a str,
    /// The user who logs in on the user's behalf, if any.
    pub master: Option<&'a str>,
    /// The password of whoever logs in, or the token.
    pub password: &'a Secret,
    /// Which of them it is.
    pub means: Means,
    /// The true client, for a backend that is told.
    pub announcement: &'a Announcement,
    /// The client's own TLS, for a PROXY header to tell of.
    pub tls: Option<&'a ProxyTls>,
    /// The backend may be told who the client is.
    pub trusted: bool,
    /// Our own steps may be sent without waiting, where the server copes.
    pub pipelining: bool,
    /// The passdb says that the backend takes our word for who logs in.
    pub noauth: bool,
    /// What the passdb wants the backend to know of the user, names and values.
    pub forward: &'a [(String, String)],
    /// The client has asked for UTF-8 (POP3).
    pub utf8: bool,
    /// The name of this proxy, for protocols that greet with one.
    pub host: &'a str,
    /// How long the backend may take to close a connection that is given up.
    pub close_timeout: Duration,
    /// Instead of the server's `login_timeout`.
    pub limit: Option<Duration>,
    /// Addresses that must not be dialled: our own listeners.
    pub own: &'a [SocketAddr],
    /// Who is told how it went.
    pub witness: &'a dyn Witness,
    /// Where it is noted what the backend offers.
    pub offers: &'a Offers,
}

/// What one connection needs to know besides what is said on it.
pub(super) struct Trip<'a> {
    /// The way.
    pub(super) road: &'a Road,
    /// From connect to the end of the dialogue.
    pub(super) limit: Duration,
    /// How long the backend may take to close a connection that is given up.
    pub(super) close_timeout: Duration,
    /// Addresses that must not be dialled.
    pub(super) own: &'a [SocketAddr],
    /// What goes before all else.
    pub(super) header: Option<Vec<u8>>,
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
    /// What the server said that it offers, as its protocol's machine has it.
    pub offers: Vec<String>,
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
    connect_as(server, request, |login| spoken::backend(request.protocol, Errand::Session, login), interrupt).await
}

/// The same with a conversation of the caller's own.
pub async fn connect_as(
    server: &Server,
    request: &Request<'_>,
    machine: impl Fn(BackendLogin) -> Option<Box<dyn Backend>>,
    interrupt: impl Future<Output = Ending>,
) -> Result<Arrival, ConnectError> {
    let no_road = || ConnectError::NoRoad { backend: server.id.clone(), protocol: request.protocol };
    let trip = Trip {
        road: server.road(request.protocol).ok_or_else(no_road)?,
        limit: request.limit.unwrap_or(server.login_timeout),
        close_timeout: request.close_timeout,
        own: request.own,
        header: (server.announce.proxy && request.trusted).then(|| proxy_header(request)),
    };
    let mut interrupt = pin!(interrupt);
    let budget = Instant::now() + server.retry_budget;
    let mut pause = PAUSE;
    loop {
        let mut machine = machine(login(server, request, trip.road)).ok_or_else(no_road)?;
        let outcome = attempt(server, &trip, machine.as_mut(), interrupt.as_mut()).await;
        request.offers.saw(request.protocol, &server.id, machine.offers());
        testify(server, request, outcome.as_ref().err(), machine.stage());
        match outcome {
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

/// Tells the witness. What was given up for a reason of ours or the client's says nothing about the backend.
fn testify(server: &Server, request: &Request<'_>, error: Option<&ConnectError>, stage: Stage) {
    let outcome = match error {
        // That a server greets whoever brings mail shows no more than a probe does; the mail will show it.
        None if request.protocol == Protocol::Lmtp => return,
        None => Outcome::LoggedIn,
        Some(ConnectError::Refused { words, .. }) if words.temporary => Outcome::Postponed,
        Some(ConnectError::Refused { .. }) => Outcome::Refused,
        Some(error) if error.is_ours() => return,
        Some(error) => Outcome::Failed { error, login_sent: stage == Stage::Login },
    };
    request.witness.saw(Seen { backend: &server.id, service: request.protocol, user: request.user, outcome });
}

/// One connection, within its limit, up to what the machine is made for.
pub(super) async fn attempt(
    server: &Server,
    trip: &Trip<'_>,
    machine: &mut dyn Backend,
    interrupt: Pin<&mut impl Future<Output = Ending>>,
) -> Result<Arrival, ConnectError> {
    let limit = trip.limit;
    let mut held = None;
    let in_time = tokio::select! {
        biased; // who is told to stop must not come in by chance
        why = interrupt => Some(Err(ConnectError::Interrupted { backend: server.id.clone(), why })),
        outcome = talk(server, trip, machine, &mut held) => Some(outcome),
        () = sleep(limit) => None,
    };
    let error = match in_time {
        Some(Ok(arrival)) => return Ok(arrival),
        Some(Err(error)) => error,
        None => ConnectError::Slow { backend: server.id.clone(), awaited: awaited(machine.stage(), &held), limit },
    };
    if let Some(mut stream) = held {
        // Past the isolation deadline there is no time left to be polite.
        let isolated = matches!(error, ConnectError::Interrupted { why: Ending::Isolated, .. });
        let refused = matches!(error, ConnectError::Refused { .. });
        if isolated || (!refused && !stream.part(trip.close_timeout).await) {
            stream.reset_on_drop();
        }
    }
    Err(error)
}

/// What a backend that is too slow owes us, in words.
fn awaited(stage: Stage, held: &Option<Stream>) -> &'static str {
    match stage {
        Stage::Greeting if held.is_none() => "connection",
        Stage::Greeting => "greeting",
        Stage::Dialogue => "answer before the login",
        Stage::Login => "answer to the login",
    }
}

/// One connection. It is in `held` while the backend may be logging the user in.
async fn talk(
    server: &Server,
    trip: &Trip<'_>,
    machine: &mut dyn Backend,
    held: &mut Option<Stream>,
) -> Result<Arrival, ConnectError> {
    let (tcp, address) = dial(server, trip.road, trip.own, trip.limit).await?;
    let mut stream = Stream::Plain(tcp);
    if let Some(header) = &trip.header {
        let mut out = Output::new();
        out.put(header);
        flush(&mut stream, &mut out).await.map_err(|error| lost(server, Some(error)))?;
    }
    if let Some(tls) = trip.road.tls.as_ref().filter(|tls| !tls.starttls) {
        stream = encrypt(server, tls, stream).await?;
    }
    *held = Some(stream);
    let (handover, early) = converse(server, trip.road, machine, held).await?;
    let stream = held.take().ok_or_else(|| lost(server, None))?;
    Ok(Arrival { stream, handover, early, address, offers: machine.offers().to_vec() })
}

/// Runs the dialogue. The stream is out of its place only during a TLS handshake, and then
/// no password has been sent.
async fn converse(
    server: &Server,
    road: &Road,
    machine: &mut dyn Backend,
    held: &mut Option<Stream>,
) -> Result<(Handover, Vec<u8>), ConnectError> {
    let (mut input, mut out) = (Input::with_capacity(LINE), Output::new());
    loop {
        let stream = held.as_mut().ok_or_else(|| lost(server, None))?;
        let wish = drive(machine, stream, &mut input, &mut out).await.map_err(|error| match error {
            DriveError::Closed => lost(server, None),
            DriveError::Violation(away @ Violation::TurnedAway) => lost(server, Some(io::Error::other(away))),
            DriveError::Broken(error) => lost(server, Some(error)),
            DriveError::Violation(violation) => ConnectError::Protocol { backend: server.id.clone(), violation },
        })?;
        match wish {
            BackendWish::StartTls => {
                // The machine asks for TLS only where the configuration demands it.
                let (Some(tls), Some(plain)) = (&road.tls, held.take()) else { return Err(lost(server, None)) };
                *held = Some(encrypt(server, tls, plain).await?);
                machine.secured(&mut out);
            }
            BackendWish::LoggedIn(handover) => return Ok((handover, input.filled().to_vec())),
            // Nobody stays to hear what it says to the goodbye.
            BackendWish::Seen => return Ok((Handover::default(), Vec::new())),
            BackendWish::Refused(words) => return Err(ConnectError::Refused { backend: server.id.clone(), words }),
        }
    }
}

fn login(server: &Server, request: &Request<'_>, road: &Road) -> BackendLogin {
    let announces = if request.protocol == Protocol::Imap { server.announce.id } else { server.announce.xclient };
    BackendLogin {
        user: request.user.to_owned(),
        master: request.master.map(str::to_owned),
        password: request.password.duplicate(),
        means: request.means,
        announce: (announces && request.trusted).then(|| request.announcement.clone()),
        starttls: road.tls.as_ref().is_some_and(|tls| tls.starttls),
        pipelining: server.pipelining && request.pipelining,
        host: request.host.to_owned(),
        noauth: road.noauth || request.noauth,
        forward: request.forward.to_vec(),
        utf8: request.utf8,
    }
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

async fn encrypt(server: &Server, tls: &Tls, stream: Stream) -> Result<Stream, ConnectError> {
    let Stream::Plain(tcp) = stream else { return Ok(stream) };
    tls.client.connect(tcp, &tls.name).await.map_err(|source| ConnectError::Tls { backend: server.id.clone(), source })
}

fn lost(server: &Server, source: Option<io::Error>) -> ConnectError {
    ConnectError::Lost { backend: server.id.clone(), source }
}
