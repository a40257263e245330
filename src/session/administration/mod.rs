//! Somebody administers mailboxes: a listener of doveadm, for its TCP protocol and its HTTP API alike.
//!
//! `tcp.rs` and `http.rs` face the client. `home.rs` finds out where a user belongs, `one.rs` has a command carried out
//! for one user, at home and with a session counted there while it runs; `many.rs` for many users, or by all servers, and
//! joins what they say. `call.rs` and `api.rs` do the same by HTTP.
//!
//! What comes by one way goes on by the same: what is positional there has names here, and a result has columns that only
//! Dovecot's own table of commands knows.

mod api;
mod call;
mod home;
mod http;
mod many;
mod one;
mod patient;
mod spool;
mod tcp;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::info;

use super::door::{Door, Guest};
use super::ending::{End, Record};
use super::{Counted, Services};
use crate::backend::Server;
use crate::config::{DoveadmConfig, DoveadmDoorConfig};
use crate::doveadm::{Doveadm, DoveadmFault};
use crate::model::{BackendId, Ending, Exit, Phase, Protocol, Refusal, Secret, SessionId};
use crate::net::canonical;
use crate::protocol::Input;
use crate::telemetry::names;

/// Bytes of a command over TCP; also the first read of either way.
const COMMAND_MAX: usize = 64 * 1024;

/// What clients must know, and the mail servers' own doveadms, made ready once.
pub struct Administration {
    settings: ArcSwap<DoveadmDoorConfig>,
    roads: Mutex<Roads>,
}

/// By backend, and whether over HTTP: made from which settings.
type Roads = BTreeMap<(BackendId, bool), (DoveadmConfig, Arc<Doveadm>)>;

/// Who gives a command.
#[derive(Clone)]
struct Caller {
    services: Arc<Services>,
    session: SessionId,
    client: SocketAddr,
    local: SocketAddr,
}

/// Why a command was not carried out.
#[derive(Debug)]
struct Trouble {
    exit: Exit,
    text: String,
}

impl Administration {
    /// As configured.
    pub fn new(settings: DoveadmDoorConfig) -> Self {
        Self { settings: ArcSwap::from_pointee(settings), roads: Mutex::default() }
    }

    /// The configuration has changed.
    pub fn set(&self, settings: DoveadmDoorConfig) {
        self.settings.store(Arc::new(settings));
    }

    fn knows_password(&self, given: &Secret) -> bool {
        self.settings.load().password.as_deref().is_some_and(|password| password == given)
    }

    fn knows_key(&self, given: &Secret) -> bool {
        self.settings.load().api_key.as_deref().is_some_and(|key| key == given)
    }

    /// The doveadm of a mail server. What its TLS needs is read once.
    fn road(&self, server: &Server, http: bool) -> Result<Arc<Doveadm>, Trouble> {
        let none = |what: &str| Trouble::temporary(format!("[backend.{}] has no {what}", server.id));
        let config = server.doveadm.as_ref().ok_or_else(|| none("doveadm, so its users cannot be administered"))?;
        let what = if http { "doveadm_http for the HTTP API" } else { "doveadm = \"tcp://...\" for the TCP protocol" };
        let config = config.speaking(http).ok_or_else(|| none(what))?;
        let mut roads = self.roads.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (server.id.clone(), http);
        if let Some((_, road)) = roads.get(&at).filter(|(made_of, _)| *made_of == config) {
            return Ok(road.clone());
        }
        let road =
            Doveadm::new(&config).map_err(|fault| Trouble::temporary(format!("[backend.{}] {fault}", server.id)))?;
        let road = Arc::new(road);
        roads.insert(at, (config, road.clone()));
        Ok(road)
    }
}

impl Caller {
    fn settings(&self) -> Arc<DoveadmDoorConfig> {
        self.services.administration.settings.load_full()
    }

    /// What stands between a user's name and a master's.
    fn separator(&self) -> Option<char> {
        self.services.passdb.load().separator()
    }

    /// Servers where sessions may be opened, in order.
    fn servers(&self) -> Vec<Arc<Server>> {
        let servers = self.services.servers.load();
        servers.all().filter(|server| self.services.placement.usable(&server.id)).cloned().collect()
    }

    /// The one line about a command.
    fn tell(&self, command: &str, user: Option<&str>, backend: Option<&BackendId>, began: Instant, exit: Exit) {
        info!(
            { names::SESSION } = %self.session,
            { names::PROTOCOL } = Protocol::Doveadm.word(),
            { names::USER } = user.unwrap_or("none"),
            { names::CLIENT } = %self.client,
            { names::COMMAND } = command,
            { names::BACKEND } = backend.map_or("none", BackendId::as_str),
            { names::EXIT } = exit.code(),
            { names::DURATION_MS } = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "command"
        );
    }
}

impl Trouble {
    fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    fn temporary(text: impl Into<String>) -> Self {
        Self::new(Exit::TEMPORARY, text)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let text = match refusal {
            Refusal::BadCredentials | Refusal::Forbidden => return Self::new(Exit::NOT_PERMITTED, "not permitted"),
            Refusal::PassdbUnavailable => "the passdb gives no answer",
            Refusal::StoreUnavailable => "the fleet's store gives no answer",
            Refusal::NoBackend => "no backend can take the user",
            Refusal::BackendUnavailable => "the user's backend cannot be used",
            Refusal::BackendFull => "the user's backend has as many sessions as it may",
            Refusal::HomeUnsettled => "the user is held, or being moved",
            Refusal::TooManySessions => "the user has too many sessions",
            Refusal::TooManyFromAddress => "the user has too many sessions from one address",
            Refusal::TooManyLogins => "there are too many logins",
            Refusal::ShuttingDown => "this proxy is going down",
        };
        Self::temporary(text)
    }
}

impl From<DoveadmFault> for Trouble {
    fn from(fault: DoveadmFault) -> Self {
        Self::temporary(fault.to_string())
    }
}

/// Serves one client from accept to close.
pub(super) async fn serve(door: &Door, tcp: TcpStream, peer: SocketAddr, counted: Counted) {
    let _counted = counted;
    let deadline = Instant::now() + door.services.limits.load().login_timeout;
    let mut record = Record::new(Protocol::Doveadm, canonical(peer), door.address());
    let guest = tokio::select! {
        guest = door.identify(tcp, peer, &mut record) => guest,
        why = door.over(deadline) => Err((why, None)),
    };
    let end = match guest {
        Ok(guest) => attend(door, guest, deadline, &mut record).await,
        Err(end) => end,
    };
    record.end(end);
}

/// Finds out what the client speaks, and serves that. Its first byte tells: no method of HTTP begins as VERSION does.
async fn attend(door: &Door, mut guest: Guest, deadline: Instant, record: &mut Record) -> End {
    record.reached(Phase::Preauth);
    let mut input = Input::with_capacity(COMMAND_MAX);
    let read = tokio::select! {
        read = guest.stream.read(input.spare()) => read,
        why = door.over(deadline) => return idle(why),
    };
    match read {
        Ok(0) => return (Ending::ClientClosed, None),
        Ok(count) => input.advance(count),
        Err(error) => return (Ending::ClientLost, Some(error.to_string())),
    }
    match input.filled().first() {
        Some(b'V') => Box::pin(tcp::serve(door, guest, input, deadline, record)).await,
        _ => Box::pin(http::serve(door, guest, &input, record)).await,
    }
}

/// It is the client that was waited for.
fn idle(why: Ending) -> End {
    (if why == Ending::LoginTimeout { Ending::ClientIdle } else { why }, None)
}
