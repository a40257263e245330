//! A recipient on the way to the right backend: who it is, and where at home.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::Barrier;
use tracing::info;

use super::turns::Turn;
use super::watch::stopped_by;
use crate::auth::{Grant, Lookup};
use crate::backend::Server;
use crate::ledger::Slot;
use crate::model::{Ending, Key, Protocol, boottime_ms};
use crate::protocol::Announcement;
use crate::protocol::lmtp::{Mailbox, Rcpt, Reply, reply};
use crate::relay::{StopSignal, stop_pair};
use crate::session::entry::home;
use crate::session::{Ender, Services};
use crate::telemetry::names;

/// A recipient whose home is known, and for whom a session is counted there.
pub(super) struct Delivery {
    /// In the order of the RCPTs: first among those of one go, then among all that were accepted.
    pub(super) number: usize,
    /// It has no number among all yet.
    pub(super) is_new: bool,
    /// Canonical name.
    pub(super) user: String,
    pub(super) key: Key,
    /// The address that the backend is told, and NOTIFY and ORCPT.
    pub(super) address: String,
    pub(super) dsn: Vec<String>,
    /// What the passdb wants the backend to know of the user, names and values.
    pub(super) forward: Vec<(String, String)>,
    /// What the backend says of the message.
    pub(super) verdict: Option<Reply>,
    /// The place in the ledger; `None` at a host that the passdb named and the table lacks.
    slot: Option<Slot>,
    stop: StopSignal,
    isolation: Arc<AtomicU64>,
    began: Instant,
    /// The place among the deliveries to this user.
    turn: Option<Turn>,
}

/// What a delivery takes up while it lasts. Free when this is dropped.
pub(super) struct Taken {
    _slot: Option<Slot>,
    _turn: Option<Turn>,
}

/// Where a recipient belongs.
pub(super) struct Placed {
    pub(super) delivery: Delivery,
    pub(super) server: Arc<Server>,
    /// The backend may be told who the client is.
    pub(super) trusted: bool,
}

/// Looks recipients up, all at once, and asks for their homes. One may have to wait long for his; others who must go
/// meanwhile do.
pub(super) async fn find_all(services: &Services, client: &Announcement, list: &[Rcpt]) -> Vec<Result<Placed, Reply>> {
    let all = Barrier::new(list.len());
    let find_one = |(number, rcpt)| {
        let all = &all;
        async move {
            let found = find(services, client, rcpt, number).await;
            let mut others = pin!(all.wait());
            let Ok(placed) = found else {
                others.await;
                return found;
            };
            let why = tokio::select! {
                biased;
                _ = others.as_mut() => return Ok(placed),
                why = stopped(std::slice::from_ref(&placed.delivery)) => why,
            };
            drop(placed);
            others.await;
            Err(stopped_by(why))
        }
    };
    join_all(list.iter().enumerate().map(find_one)).await
}

/// Looks a recipient up, and asks for the home.
async fn find(services: &Services, client: &Announcement, rcpt: &Rcpt, number: usize) -> Result<Placed, Reply> {
    let lmtp = services.lmtp.load_full();
    let began = Instant::now();
    let (name, detail) = rcpt.mailbox.user(lmtp.recipient_delimiter.0);
    let lookup = Lookup {
        user: &name,
        service: Protocol::Lmtp,
        client: client.client,
        local: client.local,
        session: &client.session,
    };
    let grant = services.passdb.load_full().find(&lookup).await?.ok_or(reply::UNKNOWN_USER)?;
    let key = services.placement.key_of(grant.home_name());
    let turn = services.deliveries.begin(&key, lmtp.user_concurrency).ok_or(reply::TOO_MANY_DELIVERIES)?;
    let (handle, stop) = stop_pair();
    let ender = Ender { handle, client: client.client.ip() };
    // A user's sessions do not keep mail away: there is a limit of its own.
    let (server, slot) = home(services, Protocol::Lmtp, &grant, &key, 0, ender).await?;
    let isolation = slot.as_ref().map_or_else(Arc::default, |_| services.placement.isolation(&key));
    let address = address(&grant, &rcpt.mailbox, detail);
    let (user, dsn) = (grant.user.as_str().to_owned(), rcpt.dsn.clone());
    let (trusted, forward) = (!grant.fields.not_trusted, grant.fields.forward);
    let delivery = Delivery {
        number,
        is_new: true,
        user,
        key,
        address,
        dsn,
        forward,
        verdict: None,
        slot,
        stop,
        isolation,
        began,
        turn: Some(turn),
    };
    Ok(Placed { delivery, server, trusted })
}

/// What the backend is told: the address as it came, unless the passdb has another name for the user there. The detail
/// stays with it.
fn address(grant: &Grant, given: &Mailbox, detail: &str) -> String {
    grant.fields.destuser.as_ref().map_or_else(|| given.as_given().to_owned(), |name| Mailbox::of(name, detail))
}

impl Delivery {
    /// The backend has taken the recipient.
    pub(super) fn prove(&self) {
        if let Some(slot) = &self.slot {
            slot.prove();
        }
    }

    /// The places, to be kept until the backend has ended its part.
    pub(super) fn take_place(&mut self) -> Taken {
        Taken { _slot: self.slot.take(), _turn: self.turn.take() }
    }

    fn poll_stop(&self, cx: &mut Context<'_>) -> Poll<Ending> {
        let deadline = self.isolation.load(Ordering::Relaxed);
        if deadline != 0 && boottime_ms() >= deadline {
            return Poll::Ready(Ending::Isolated);
        }
        self.stop.poll(cx)
    }

    /// The one line about a recipient whose home was known.
    pub(super) fn tell(&self, client: &Announcement, server: &Server, reply: &Reply, bytes: u64) {
        info!(
            { names::SESSION } = %client.session,
            { names::PROTOCOL } = Protocol::Lmtp.word(),
            { names::USER } = %self.user,
            { names::KEY } = %self.key,
            { names::CLIENT } = %client.client,
            { names::BACKEND } = %server.id,
            { names::REPLY } = reply.code(),
            { names::DETAIL } = reply.first_line(),
            { names::BYTES } = bytes,
            { names::DURATION_MS } = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "delivery"
        );
    }
}

/// The one line about a recipient whose home is not known.
pub(super) fn tell_refused(client: &Announcement, rcpt: &Rcpt, reply: &Reply) {
    info!(
        { names::SESSION } = %client.session,
        { names::PROTOCOL } = Protocol::Lmtp.word(),
        { names::USER } = rcpt.mailbox.as_given(), // no control characters: the parser sees to that
        { names::CLIENT } = %client.client,
        { names::REPLY } = reply.code(),
        { names::DETAIL } = reply.first_line(),
        "recipient refused"
    );
}

/// Resolves once any of them must end, with the reason. One that cannot wait goes first.
pub(super) async fn stopped(deliveries: &[Delivery]) -> Ending {
    poll_fn(|cx| poll_stopped(deliveries, cx)).await
}

/// Resolves once any of them must end for a reason that cannot wait.
pub(super) async fn stopped_at_once(deliveries: &[Delivery]) -> Ending {
    poll_fn(|cx| match poll_stopped(deliveries, cx) {
        Poll::Ready(why) if !why.may_wait() => Poll::Ready(why),
        _ => Poll::Pending,
    })
    .await
}

fn poll_stopped(deliveries: &[Delivery], cx: &mut Context<'_>) -> Poll<Ending> {
    let mut found = Poll::Pending;
    // All are asked, for each must know whom to wake.
    for delivery in deliveries {
        match (delivery.poll_stop(cx), &found) {
            (Poll::Ready(why), Poll::Pending) => found = Poll::Ready(why),
            (Poll::Ready(why), Poll::Ready(_)) if !why.may_wait() => found = Poll::Ready(why),
            _ => {}
        }
    }
    found
}
