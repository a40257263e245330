//! From a name and a password to a connection that is logged in: passdb, home, backend.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tracing::{error, info, warn};

use super::door::Guest;
use super::ending::Record;
use super::guarding::{self, Try};
use super::refusing::Failure;
use super::{Ender, Services};
use crate::auth::penalty::Seat;
use crate::auth::{Circumstances, Fields, Grant, Question, Recalled};
use crate::backend::{Arrival, Request, Server, Servers, StrangerTls, connect};
use crate::ledger::Slot;
use crate::model::{
    BackendId, Credentials, Ending, Key, Mechanism, Phase, Proof, Protocol, Refusal, ScramHash, Secret, SessionId,
    boottime_ms,
};
use crate::placement::Wanted;
use crate::protocol::sasl::{self, ScramGift};
use crate::protocol::{Announcement, BackendRefusal, Frontend, Means, Referral, refusal_in_words};
use crate::relay::{StopHandle, StopSignal, stop_pair};

/// How many proxies may follow one another (as Dovecot's `login_proxy_max_hops`).
const PROXY_TTL: u32 = 5;

/// A user who is in.
pub(super) struct Entry {
    pub(super) user: Box<str>,
    pub(super) key: Key,
    pub(super) mechanism: Mechanism,
    pub(super) backend: BackendId,
    pub(super) arrival: Arrival,
    /// The place in the ledger; `None` at a host that the passdb named and the table lacks.
    pub(super) slot: Option<Slot>,
    /// The place among the sessions of the user at the address, where those are limited.
    pub(super) seat: Option<Seat>,
    pub(super) stop: StopSignal,
    /// The other end of `stop`; the ledger has one, too.
    pub(super) handle: StopHandle,
    /// The isolation deadline of the key's shard.
    pub(super) isolation: Arc<AtomicU64>,
}

/// Where a user belongs.
struct Found {
    key: Key,
    server: Arc<Server>,
    slot: Option<Slot>,
    seat: Option<Seat>,
}

/// Checks, places, connects. `over` resolves when the connection is, whatever the login is doing then.
///
/// A backend may refer the user to another of the table. That is where the table has the user from then on, unless
/// sessions are open at the old home.
pub(super) async fn enter(
    services: &Services,
    guest: &Guest,
    tried: &Try<'_>,
    recalled: Option<Recalled>,
    announcement: &Announcement,
    mut over: Pin<&mut impl Future<Output = Ending>>,
    record: &mut Record,
) -> Result<Entry, Failure> {
    let mut grant = tokio::select! {
        biased;
        why = over.as_mut() => return Err(Failure::Over(why)),
        grant = check(guest, tried, recalled, announcement, record) => grant?,
    };
    let unproven = grant.unproven;
    record.proven = !unproven;
    let settle = |success: bool, record: &Record| {
        if unproven {
            tried.chain.settle(&question(guest, tried.credentials, &announcement.client_id, record), success);
        }
    };
    let mut referrals = services.limits.load().max_referrals;
    loop {
        let failure = match enter_home(services, guest, tried, announcement, &grant, over.as_mut(), record).await {
            Ok(entry) => {
                settle(true, record);
                return Ok(entry);
            }
            Err(failure) => failure,
        };
        if matches!(&failure, Failure::Backend(words) if words.referral.is_none() && !words.temporary) {
            settle(false, record);
        }
        let Failure::Backend(BackendRefusal { referral: Some(referral), .. }) = failure else { return Err(failure) };
        if referrals == 0 {
            error!(session = %guest.session, user = %grant.user.as_str(), host = referral.host, "referred once too often; see limits.max_referrals");
            return Err(Refusal::BackendUnavailable.into());
        }
        if services.servers.load().named(&referral.host, record.protocol, referral.port).is_none() {
            // Whoever speaks for one mail server must not send users' passwords wherever it likes.
            error!(
                session = %guest.session, user = %grant.user.as_str(), host = referral.host, port = referral.port,
                "the backend refers the user to a server that is not in the fleet's table"
            );
            return Err(Refusal::BackendUnavailable.into());
        }
        referrals -= 1;
        info!(session = %guest.session, user = %grant.user.as_str(), host = referral.host, "the backend refers the user");
        follow(&mut grant, referral);
    }
}

/// From now on it is as if the passdb had named that server.
fn follow(grant: &mut Grant, referral: Referral) {
    grant.fields.host = Some(referral.host);
    grant.fields.hostip = None;
    grant.fields.port = referral.port;
    if let Some(user) = referral.user.filter(|user| !user.eq_ignore_ascii_case(grant.home_name())) {
        // The password was checked for somebody else, if at all: now that is for the server named.
        grant.unproven = true;
        grant.fields.destuser = Some(user);
    }
}

/// Places and connects.
async fn enter_home(
    services: &Services,
    guest: &Guest,
    tried: &Try<'_>,
    announcement: &Announcement,
    grant: &Grant,
    mut over: Pin<&mut impl Future<Output = Ending>>,
    record: &mut Record,
) -> Result<Entry, Failure> {
    let (handle, stop) = stop_pair();
    // Up to here a login may be dropped anywhere; a connect may not.
    let Found { key, server, slot, seat } = tokio::select! {
        biased;
        why = over.as_mut() => return Err(Failure::Over(why)),
        found = find(services, guest, tried, grant, &handle, record) => found?,
    };
    record.reached(Phase::Connect);
    must_be_proven(&server, grant, guest, record.protocol)?;
    let (master, password, means) = backend_identity(&server, grant, tried.credentials, guest, record.protocol)?;
    let request = Request {
        protocol: record.protocol,
        user: grant.home_name(),
        master: master.as_deref(),
        password: &password,
        means,
        announcement,
        tls: guest.tls.as_ref(),
        trusted: !grant.fields.not_trusted,
        pipelining: !grant.fields.no_pipelining,
        noauth: grant.fields.no_auth,
        forward: &grant.fields.forward,
        utf8: guest.utf8,
        host: &services.host,
        limit: grant.fields.timeout,
        close_timeout: services.limits.load().close_timeout,
        own: &services.own,
        witness: services.witness.as_ref(),
        offers: &services.offers,
    };
    let isolation = slot.as_ref().map_or_else(Arc::default, |_| services.placement.isolation(&key));
    let interrupt = async {
        tokio::select! {
            why = stop.stopped() => why,
            why = over => why,
            why = isolated(&isolation) => why,
        }
    };
    let arrival =
        connect(&server, &request, interrupt).await.map_err(|error| Failure::at_backend(error, &guest.session))?;
    if let Some(slot) = &slot {
        slot.prove();
    }
    let (user, mechanism) = (grant.user.as_str().into(), tried.credentials.mechanism);
    Ok(Entry { user, key, mechanism, backend: server.id.clone(), arrival, slot, seat, stop, handle, isolation })
}

/// A submission server that takes our word, and the password of a passdb's `pass`, are only for those whose own password
/// was checked here: nobody would check it there.
fn must_be_proven(server: &Server, grant: &Grant, guest: &Guest, protocol: Protocol) -> Result<(), Refusal> {
    let noauth = grant.fields.no_auth || server.road(protocol).is_some_and(|road| road.noauth);
    let trusts_us = (protocol == Protocol::Submission && noauth) || grant.fields.pass.is_some();
    if !trusts_us || !grant.unproven {
        return Ok(());
    }
    error!(
        session = %guest.session, user = %grant.user.as_str(), backend = %server.id,
        "nobody would check the password: submission_noauth, proxy_noauth and pass need a passdb that does; neither the kind \"backend\" nor the field nopassword does"
    );
    Err(Refusal::BackendUnavailable)
}

/// Resolves once the deadline has passed. Wakes nobody: whoever is woken, as after the machine has slept, looks before
/// anything else is done, so that no password goes to a home that may be another's by now.
pub(super) async fn isolated(deadline: &AtomicU64) -> Ending {
    poll_fn(|_| {
        let deadline = deadline.load(Ordering::Relaxed);
        if deadline != 0 && boottime_ms() >= deadline { Poll::Ready(Ending::Isolated) } else { Poll::Pending }
    })
    .await
}

/// Looks up what a SCRAM exchange needs.
pub(super) async fn scram_keys(
    services: &Services,
    guest: &Guest,
    credentials: &Credentials,
    hash: ScramHash,
    record: &mut Record,
) -> Result<ScramGift, Refusal> {
    record.reached(Phase::Auth);
    let keys = services.passdb.load_full().scram_keys(&question(guest, credentials, &[], record), hash).await?;
    let mut random = [0; 18];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Refusal::PassdbUnavailable)?;
    Ok(ScramGift { keys, nonce: sasl::encode(&random).to_string() })
}

/// What is asked about a login.
fn question<'a>(
    guest: &'a Guest,
    credentials: &'a Credentials,
    client_id: &'a [(String, Option<String>)],
    record: &Record,
) -> Question<'a> {
    Question {
        credentials,
        service: record.protocol,
        client: guest.client,
        local: guest.local,
        secured: guest.is_secured(),
        session: &guest.session,
        around: Circumstances {
            tls: guest.tls.as_ref(),
            server_name: guest.server_name.as_deref(),
            via: guest.via,
            attempt: record.attempt,
            client_id,
        },
    }
}

/// Asks the passdb.
async fn check(
    guest: &Guest,
    tried: &Try<'_>,
    recalled: Option<Recalled>,
    announcement: &Announcement,
    record: &mut Record,
) -> Result<Grant, Failure> {
    record.reached(Phase::Auth);
    record.attempt += 1;
    record.proven = false;
    let question = question(guest, tried.credentials, &announcement.client_id, record);
    let refused = match tried.chain.authenticate_knowing(&question, recalled).await {
        Ok(grant) => return Ok(grant),
        Err(refused) => refused,
    };
    let words = refused.words.and_then(|words| refusal_in_words(record.protocol, refused.refusal, &words));
    Err(words.map_or(Failure::Refused(refused.refusal), |words| Failure::Told(refused.refusal, words)))
}

/// Asks for the user's home.
async fn find(
    services: &Services,
    guest: &Guest,
    tried: &Try<'_>,
    grant: &Grant,
    stop: &StopHandle,
    record: &mut Record,
) -> Result<Found, Refusal> {
    let key = services.placement.key_of(grant.home_name());
    record.reached(Phase::Placement);
    let ender = Ender { handle: stop.clone(), client: guest.client.ip() };
    let limit = services.limits.load().sessions_per_key;
    // At the same time: neither is to cost a round trip of its own.
    let (home, seat) = tokio::join!(
        home(services, record.protocol, grant, &key, limit, ender),
        guarding::sit(services, grant.user.as_str(), tried.client)
    );
    let ((server, slot), seat) = (home?, seat?);
    Ok(Found { key, server, slot, seat })
}

/// The server where the user is at home, and the place in the ledger. `limit`: the most sessions of the key; 0 for any number.
pub(super) async fn home(
    services: &Services,
    protocol: Protocol,
    grant: &Grant,
    key: &Key,
    limit: u32,
    ender: Ender,
) -> Result<(Arc<Server>, Option<Slot>), Refusal> {
    let servers = services.servers.load_full();
    let fields = &grant.fields;
    let address = fields.hostip.map(|address| address.to_string());
    let pin = match fields.host.as_ref().or(address.as_ref()) {
        Some(host) => match named(&servers, [Some(host), address.as_ref()], protocol, fields.port) {
            Some(server) => Some(server.id.clone()),
            None => return Ok((Arc::new(stranger(&servers, protocol, host, fields)?), None)),
        },
        None => None,
    };
    let wanted = Wanted {
        key: key.clone(),
        pool: fields.pool.clone().unwrap_or_default(),
        pin,
        limit,
        unproven: grant.unproven,
    };
    let slot = services.placement.place(&wanted, Arc::new(ender)).await?;
    // A reload may have come meanwhile.
    let Some(server) = services.servers.load().get(&slot.place().backend).cloned() else {
        warn!(backend = %slot.place().backend, "the fleet's table has a backend that this proxy cannot dial: its file lacks it");
        return Err(Refusal::BackendUnavailable);
    };
    Ok((server, Some(slot)))
}

/// The first of these hosts that is of the table.
fn named<'a>(
    servers: &'a Servers,
    hosts: [Option<&String>; 2],
    protocol: Protocol,
    port: Option<u16>,
) -> Option<&'a Arc<Server>> {
    hosts.into_iter().flatten().find_map(|host| servers.named(host, protocol, port))
}

/// A host that the passdb names and the table lacks: obeyed, and never stored.
fn stranger(servers: &Servers, protocol: Protocol, host: &str, fields: &Fields) -> Result<Server, Refusal> {
    let tls = fields.tls.map(|tls| StrangerTls { starttls: tls.starttls, verify: tls.verify });
    let mut server = servers.stranger(host, protocol, fields.port, tls, fields.timeout).map_err(|fault| {
        error!(host, %fault, "the passdb's host cannot be used");
        Refusal::BackendUnavailable
    })?;
    if let Some(address) = fields.hostip {
        server.host = address.to_string(); // the certificate bears the other name
    }
    Ok(server)
}

/// What backends are told about the client. A TTL is believed from anybody, for it can only shorten the way.
pub(super) fn announce(guest: &Guest, frontend: &dyn Frontend) -> Result<Announcement, Refusal> {
    let ttl = hops_left(&guest.session, guest.client, frontend.proxy_ttl())?;
    Ok(Announcement {
        client: guest.client,
        local: guest.local,
        session: guest.session.clone(),
        ttl,
        secured: guest.is_secured(),
        server_name: guest.server_name.clone(),
        helo: frontend.helo().map(str::to_owned),
        client_id: frontend.client_id().to_vec(),
    })
}

/// How many more proxies may follow behind this one, of as many as the client allows.
pub(super) fn hops_left(session: &SessionId, client: SocketAddr, ttl: Option<u32>) -> Result<u32, Refusal> {
    let ttl = ttl.unwrap_or(PROXY_TTL).min(PROXY_TTL);
    ttl.checked_sub(1).ok_or_else(|| {
        error!(%session, %client, "proxies in a loop: a backend leads back to a proxy");
        Refusal::BackendUnavailable
    })
}

/// Who logs in at the backend, and with which password or token: the passdb's word, else the backend's master user, else the
/// client. Whom nobody has checked is for the backend to check, by the client's own password.
fn backend_identity(
    server: &Server,
    grant: &Grant,
    credentials: &Credentials,
    guest: &Guest,
    protocol: Protocol,
) -> Result<(Option<String>, Secret, Means), Refusal> {
    let fields = &grant.fields;
    if let Some(password) = &fields.pass {
        return Ok((fields.master.clone(), password.duplicate(), Means::Password));
    }
    if let Some((master, password)) = server.master().filter(|_| !grant.unproven) {
        return Ok((Some(master), password, Means::Password));
    }
    if server.external && !grant.unproven && fields.master.is_none() {
        return Ok((None, Secret::default(), Means::Certificate));
    }
    let takes_our_word = fields.no_auth || server.road(protocol).is_some_and(|road| road.noauth);
    if protocol == Protocol::Submission && takes_our_word && !grant.unproven {
        return Ok((None, Secret::default(), Means::Password)); // XCLIENT says who it is
    }
    let own = match &credentials.proof {
        Proof::Password(password) => Some((password, Means::Password)),
        Proof::Token(token) => Some((token, Means::Token)),
        Proof::Proven | Proof::Failed(_) => None,
    };
    let Some((own, means)) = own else {
        error!(
            session = %guest.session, user = %grant.user.as_str(), backend = %server.id,
            mechanism = credentials.mechanism.name(),
            "who logs in like this has no password that could be passed on: the backend needs master_user or login_external, or the passdb must give pass"
        );
        return Err(Refusal::BackendUnavailable);
    };
    Ok((fields.master.clone().or(grant.master.clone()), own.duplicate(), means))
}
