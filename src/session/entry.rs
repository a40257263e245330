//! From a name and a password to a connection that is logged in: passdb, home, backend.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tracing::{info, warn};

use super::Services;
use super::door::Guest;
use crate::auth::{Fields, Grant, Question};
use crate::backend::{Arrival, ConnectError, Request, Server, connect};
use crate::ledger::Slot;
use crate::model::{BackendId, Credentials, Ending, Key, Refusal, Secret};
use crate::placement::Wanted;
use crate::protocol::{Announcement, BackendRefusal};
use crate::relay::{StopHandle, StopSignal, stop_pair};

/// How many proxies may follow one another (as Dovecot's `login_proxy_max_hops`).
const PROXY_TTL: u32 = 5;

/// A user who is in.
pub(super) struct Entry {
    pub(super) user: Box<str>,
    pub(super) key: Key,
    pub(super) backend: BackendId,
    pub(super) arrival: Arrival,
    /// The place in the ledger; `None` at a host that the passdb named and the table lacks.
    pub(super) slot: Option<Slot>,
    pub(super) stop: StopSignal,
    /// The isolation deadline of the key's shard.
    pub(super) isolation: Arc<AtomicU64>,
}

/// Why a login failed.
pub(super) enum Failure {
    /// In our words.
    Refused(Refusal),
    /// In the backend's.
    Backend(BackendRefusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Checks, places, connects.
pub(super) async fn enter(
    services: &Services,
    guest: &Guest,
    credentials: &Credentials,
    client_id: &[(String, Option<String>)],
) -> Result<Entry, Failure> {
    let question = Question {
        credentials,
        service: "imap",
        client: guest.client,
        local: guest.local,
        secured: guest.secured,
        session: &guest.session,
    };
    let grant = services.passdb.load_full().authenticate(&question).await?;
    let key = grant.key();
    let (handle, stop) = stop_pair();
    let (server, slot) = home(services, &grant, &key, handle).await?;
    let announcement = announce(guest, client_id);
    let arrival = arrive(services, &server, &grant, credentials, &announcement, &stop).await?;
    if let Some(slot) = &slot {
        slot.prove();
    }
    let isolation = match &slot {
        Some(_) => services.placement.isolation(&key),
        None => Arc::default(),
    };
    Ok(Entry { user: grant.user.as_str().into(), key, backend: server.id.clone(), arrival, slot, stop, isolation })
}

/// The server where the user is at home, and the place in the ledger.
async fn home(
    services: &Services,
    grant: &Grant,
    key: &Key,
    stop: StopHandle,
) -> Result<(Arc<Server>, Option<Slot>), Failure> {
    let servers = services.servers.load_full();
    let fields = &grant.fields;
    let pin = match &fields.host {
        Some(host) => match servers.named(host, fields.port) {
            Some(server) => Some(server.id.clone()),
            None => return Ok((Arc::new(stranger(host, fields)?), None)),
        },
        None => None,
    };
    let wanted = Wanted {
        key: key.clone(),
        pool: fields.pool.clone().unwrap_or_default(),
        pin,
        limit: services.limits.load().sessions_per_key,
        unproven: grant.unproven,
    };
    let slot = services.placement.place(&wanted, Arc::new(stop)).await?;
    // A reload may have come meanwhile.
    let Some(server) = services.servers.load().get(&slot.place().backend).cloned() else {
        warn!(backend = %slot.place().backend, "the fleet's table has a backend that this proxy's file lacks");
        return Err(Refusal::BackendUnavailable.into());
    };
    Ok((server, Some(slot)))
}

/// A host that the passdb names and the table lacks: obeyed, and never stored.
fn stranger(host: &str, fields: &Fields) -> Result<Server, Failure> {
    let tls = fields.tls.map(|tls| (tls.starttls, tls.verify));
    Server::stranger(host, fields.port, tls, fields.timeout).map_err(|fault| {
        warn!(host, %fault, "the passdb's host cannot be used");
        Refusal::BackendUnavailable.into()
    })
}

fn announce(guest: &Guest, client_id: &[(String, Option<String>)]) -> Announcement {
    Announcement {
        client: guest.client,
        local: guest.local,
        session: guest.session.clone(),
        ttl: PROXY_TTL - 1,
        secured: guest.secured,
        server_name: guest.server_name.clone(),
        client_id: client_id.to_vec(),
    }
}

/// Connects and logs in, unless the session is stopped meanwhile.
async fn arrive(
    services: &Services,
    server: &Server,
    grant: &Grant,
    credentials: &Credentials,
    announcement: &Announcement,
    stop: &StopSignal,
) -> Result<Arrival, Failure> {
    let (master, password) = backend_identity(server, &grant.fields, credentials);
    let request = Request {
        user: grant.fields.destuser.as_deref().unwrap_or(grant.user.as_str()),
        master: master.as_deref(),
        password: &password,
        announcement,
        trusted: !grant.fields.not_trusted,
        pipelining: !grant.fields.no_pipelining,
        limit: grant.fields.timeout,
        close_timeout: services.limits.load().close_timeout,
        own: &services.own,
    };
    match connect(server, &request, stop.stopped()).await {
        Ok(arrival) => Ok(arrival),
        Err(ConnectError::Interrupted { why, .. }) => Err(interrupted(why).into()),
        Err(ConnectError::Refused { words, backend }) => {
            info!(session = %announcement.session, user = %grant.user, %backend, "the backend refused the login");
            Err(Failure::Backend(words))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            warn!(session = %announcement.session, backend = %server.id, %error, cause, "backend login");
            Err(Refusal::BackendUnavailable.into())
        }
    }
}

/// Who logs in at the backend, and with which password: the passdb's word, else the backend's master user, else the client.
fn backend_identity(server: &Server, fields: &Fields, credentials: &Credentials) -> (Option<String>, Secret) {
    if let Some(password) = &fields.pass {
        return (fields.master.clone(), password.duplicate());
    }
    match server.master() {
        Some((master, password)) => (Some(master), password),
        None => (fields.master.clone(), credentials.password.duplicate()),
    }
}

fn interrupted(why: Ending) -> Refusal {
    match why {
        Ending::Shutdown => Refusal::ShuttingDown,
        Ending::Isolated => Refusal::StoreUnavailable,
        _ => Refusal::HomeUnsettled,
    }
}
