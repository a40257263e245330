//! A visit: a connection that nobody stays on, to see whether a backend is fit. The road is that of a login (the same dial,
//! TLS and dialogue), so a visit finds what a login would find.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{Trip, attempt};
use super::fault::ConnectError;
use super::offers::Offers;
use super::table::{Road, Server};
use crate::model::{Ending, Protocol, Secret};
use crate::net::emit_local_proxy_header;
use crate::protocol::{Backend, BackendLogin, Errand, spoken};

/// How long a backend may take to close after our goodbye, before the connection is reset.
const PARTING: Duration = Duration::from_secs(1);

/// What to look at.
pub struct Visit<'a> {
    /// Log in, too; without, the goodbye is said where the login would be.
    pub login: Option<VisitLogin<'a>>,
    /// From connect to the last answer.
    pub limit: Duration,
    /// Addresses that must not be dialled: our own listeners.
    pub own: &'a [SocketAddr],
    /// The name of this proxy, for protocols that greet with one.
    pub host: &'a str,
    /// Where it is noted what the backend offers.
    pub offers: &'a Offers,
}

/// Who visits.
#[derive(Clone, Copy)]
pub struct VisitLogin<'a> {
    /// Name at the backend.
    pub user: &'a str,
    /// The user's own password; without, the backend's master user logs in.
    pub password: Option<&'a Secret>,
}

/// Connects once, looks, says goodbye. Gives the time until all was seen; an error means that a login would have failed.
/// The backend is told of no client: no ID, and a PROXY header that says LOCAL.
pub async fn visit(server: &Server, protocol: Protocol, visit: &Visit<'_>) -> Result<Duration, ConnectError> {
    let began = Instant::now();
    let no_road = || ConnectError::NoRoad { backend: server.id.clone(), protocol };
    let road = server.road(protocol).ok_or_else(no_road)?;
    let trip = Trip {
        road,
        limit: visit.limit,
        close_timeout: Duration::ZERO, // nobody waits for the end of what has failed
        own: visit.own,
        header: server.announce.proxy.then(emit_local_proxy_header),
    };
    let mut machine = machine(server, road, protocol, visit).ok_or_else(no_road)?;
    let mut arrival = attempt(server, &trip, machine.as_mut(), pin!(pending::<Ending>())).await?;
    visit.offers.saw(protocol, &server.id, machine.offers());
    let seen = began.elapsed();
    if !arrival.stream.part(PARTING).await {
        arrival.stream.reset_on_drop();
    }
    Ok(seen)
}

/// The conversation of a protocol, if it has one.
fn machine(server: &Server, road: &Road, protocol: Protocol, visit: &Visit<'_>) -> Option<Box<dyn Backend>> {
    let master = server.master();
    let (errand, user, (master, password)) = match (visit.login, master) {
        (Some(VisitLogin { user, password: Some(own) }), _) => (Errand::Try, user, (None, own.duplicate())),
        (Some(VisitLogin { user, password: None }), Some((master, password))) => {
            (Errand::Try, user, (Some(master), password))
        }
        // A master's login needs more of the server than a user's: who only looks must know that as well.
        (_, master) => (Errand::Look, "", master.map_or_else(Default::default, |(user, word)| (Some(user), word))),
    };
    let login = BackendLogin {
        user: user.to_owned(),
        master,
        password,
        announce: None,
        starttls: road.tls.as_ref().is_some_and(|tls| tls.starttls),
        pipelining: false,
        noauth: road.noauth,
        host: visit.host.to_owned(),
        ..BackendLogin::default()
    };
    spoken::backend(protocol, errand, login)
}
