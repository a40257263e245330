//! One backend's part of a transaction: its recipients, and the message on its way to it.
//!
//! Until the last byte of the message has been sent, anything may end a leg: its connection is closed before the end of
//! the message, so the backend forgets all of it, and its recipients get a temporary failure. From then on the backend's
//! answer is awaited, whatever happens: it alone knows whether the message was stored. If the backend dies before it has
//! answered, its recipients get a temporary failure, too. The client brings the mail again, and if it had been stored
//! it is there twice; LMTP has no way to tell, and the other choice would be to lose it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::form::Form;
use super::recipient::{Delivery, stopped, stopped_at_once};
use super::upstream::{Answers, Lost, Upstream};
use crate::backend::{ConnectError, Request, Server, connect_as};
use crate::config::LmtpConfig;
use crate::model::{Ending, Protocol, Refusal, Secret, SessionId};
use crate::net::ProxyTls;
use crate::protocol::Announcement;
use crate::protocol::lmtp::{Backend, Mail, Reply, reply};
use crate::session::Services;
use crate::session::refusing::Failure;

/// How long a backend that has answered too early is listened to.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What all legs of a client's connection share.
pub(super) struct Road<'a> {
    pub(super) services: &'a Services,
    pub(super) lmtp: Arc<LmtpConfig>,
    /// The client, as backends are told of it; the session's name is without the number of the connection.
    pub(super) announcement: Announcement,
    /// Its TLS.
    pub(super) tls: Option<ProxyTls>,
    /// Connections made so far.
    pub(super) connections: AtomicU32,
}

/// A way to a mail server. Connections are kept by it.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) server: Arc<Server>,
    pub(super) trusted: bool,
}

impl Way {
    /// The port tells strangers of one host apart.
    pub(super) fn is(&self, other: &Self) -> bool {
        let port = |way: &Self| way.server.road(Protocol::Lmtp).map(|road| road.port);
        self.server.id == other.server.id && self.trusted == other.trusted && port(self) == port(other)
    }
}

/// One backend's part.
pub(super) struct Leg {
    pub(super) way: Way,
    pub(super) deliveries: Vec<Delivery>,
    /// None before the first connect, and once it was given up.
    up: Option<Upstream>,
    /// The sender was named there.
    has_sender: bool,
    /// What all its recipients get, once it has failed.
    fate: Option<Reply>,
    /// When it must be over, once it was told to stop.
    doom: Option<Instant>,
    form: Form,
}

/// Why a step did not come to its end.
enum Stop {
    Told(Ending),
    Lost(Lost),
    Slow,
}

impl Leg {
    /// `kept`: a connection of an earlier transaction.
    pub(super) fn new(way: Way, kept: Option<Upstream>) -> Self {
        Self { way, deliveries: Vec::new(), up: kept, has_sender: false, fate: None, doom: None, form: Form::chunks() }
    }

    /// Whether its recipients may still get the message.
    pub(super) fn is_alive(&self) -> bool {
        self.fate.is_none() && !self.deliveries.is_empty()
    }

    /// What its recipients get, if it has failed.
    pub(super) fn fate(&self) -> Option<&Reply> {
        self.fate.as_ref()
    }

    /// What is left of it when the transaction is over: a connection for the next one.
    pub(super) fn into_kept(self) -> Option<(Way, Upstream)> {
        let mut up = self.up?;
        up.is_used = true;
        Some((self.way, up))
    }

    /// Names more recipients there. Gives each one's reply by its number; those that are refused are forgotten.
    pub(super) async fn ask(&mut self, road: &Road<'_>, mail: &Mail, more: Vec<Delivery>) -> Vec<(usize, Reply)> {
        let known = self.deliveries.len();
        self.deliveries.extend(more);
        let answers = match &self.fate {
            Some(fate) => Err(fate.clone()),
            None => self.name(road, mail, known).await,
        };
        let asked = self.deliveries.split_off(known);
        let replies: Vec<Reply> = match answers {
            Ok(replies) => replies.into_iter().map(Reply::for_recipient).collect(),
            Err(refusal) => vec![refusal; asked.len()],
        };
        let told: Vec<_> =
            asked.iter().zip(&replies).map(|(delivery, reply)| (delivery.number, reply.clone())).collect();
        for (delivery, reply) in asked.into_iter().zip(replies) {
            if reply.is_good() {
                delivery.prove();
                self.deliveries.push(delivery);
            } else {
                delivery.tell(&road.announcement, &self.way.server, &reply, 0);
            }
        }
        told
    }

    /// The replies to those behind the first `known`; or the one for all of them.
    async fn name(&mut self, road: &Road<'_>, mail: &Mail, known: usize) -> Result<Vec<Reply>, Reply> {
        loop {
            if self.up.is_none() {
                self.up = Some(self.connect(road).await.inspect_err(|refusal| self.end_with(refusal.clone()))?);
            }
            let sender = (!self.has_sender).then_some(mail);
            let stale = self.up.as_ref().is_some_and(|up| up.is_used) && sender.is_some();
            let (Some(mut up), to) = (self.up.take(), &self.deliveries[known..]) else {
                return Err(reply::BACKEND_LOST);
            };
            let answers = within(road, &self.deliveries, &mut self.doom, up.envelope(sender, to)).await;
            match answers {
                Ok(Answers::Recipients(replies)) => {
                    (self.up, self.has_sender) = (Some(up), true);
                    return Ok(replies);
                }
                Ok(Answers::Sender(refusal)) => {
                    self.up = Some(up);
                    return Err(refusal.for_recipient());
                }
                // It was idle since the last message, and may have been closed: that is no trouble of the backend's.
                Err(Stop::Lost(lost)) if stale => debug!(backend = %self.way.server.id, %lost, "connecting again"),
                Err(stop) => return Err(self.give_up(road, up, stop)),
            }
        }
    }

    /// Connects, up to where envelopes are taken.
    async fn connect(&self, road: &Road<'_>) -> Result<Upstream, Reply> {
        let services = road.services;
        let number = road.connections.fetch_add(1, Ordering::Relaxed) + 1;
        // As Dovecot names the connections of one client.
        let session = SessionId::new(format!("{}:P{number}", road.announcement.session));
        let announcement = Announcement { session, ..road.announcement.clone() };
        let request = Request {
            protocol: Protocol::Lmtp,
            user: self.deliveries.last().map_or("", |delivery| &delivery.user),
            master: None,
            password: &Secret::default(),
            announcement: &announcement,
            tls: road.tls.as_ref(),
            trusted: self.way.trusted,
            pipelining: true,
            noauth: false,
            forward: &[],
            utf8: false,
            host: &services.host,
            close_timeout: services.limits.load().close_timeout,
            limit: None,
            own: &services.own,
            witness: services.witness.as_ref(),
            offers: &services.offers,
        };
        let machine = |login| -> Option<Box<dyn crate::protocol::Backend>> {
            Some(Box::new(Backend::new(login, &services.host, road.lmtp.backend_timeout)))
        };
        match connect_as(&self.way.server, &request, machine, stopped(&self.deliveries)).await {
            Ok(arrival) => Ok(Upstream::new(arrival)),
            Err(ConnectError::Interrupted { .. }) => Err(reply::STOPPED),
            Err(error) => match Failure::at_backend(error, &road.announcement.session) {
                Failure::Refused(why) => Err(why.into()),
                _ => Err(Refusal::BackendUnavailable.into()),
            },
        }
    }

    /// Asks for the go-ahead to a message. By chunks if it comes by chunks and the backend takes them.
    pub(super) async fn begin(&mut self, road: &Road<'_>, by_chunks: bool) {
        if !self.is_alive() {
            return;
        }
        let Some(mut up) = self.up.take() else { return };
        if by_chunks && up.takes_chunks() {
            (self.form, self.up) = (Form::chunks(), Some(up));
            return;
        }
        self.form = Form::dotted(by_chunks);
        match within(road, &self.deliveries, &mut self.doom, up.data()).await {
            Ok(reply) if reply.code() == 354 => self.up = Some(up),
            Ok(reply) => {
                let refusal = if reply.is_good() { reply::BACKEND_LOST } else { reply.for_message() };
                self.end_with(refusal);
                // It has given up the transaction itself.
                up.is_done();
                self.up = Some(up);
            }
            Err(stop) => drop(self.give_up(road, up, stop)),
        }
    }

    /// A chunk of so many bytes comes.
    pub(super) fn chunk(&mut self, size: u64, last: bool) {
        self.form.announce(size, last);
    }

    /// Sends a part of the message on.
    pub(super) async fn feed(&mut self, road: &Road<'_>, content: &[u8]) {
        if !self.is_alive() {
            return;
        }
        self.form.put(content);
        let Some(mut up) = self.up.take() else { return };
        let (wire, mut owed) = (self.form.take_wire(), self.form.owed);
        let outcome = within(road, &self.deliveries, &mut self.doom, up.feed(&wire, &mut owed)).await;
        self.form.owed = owed;
        self.form.sent(wire);
        match outcome {
            Ok(None) => self.up = Some(up),
            Ok(Some(early)) => self.answered_early(road, up, early).await,
            Err(stop) => drop(self.give_up(road, up, stop)),
        }
    }

    /// It has answered before the end. What it says of each recipient counts, if that is no; a yes to a part of a message is
    /// none.
    async fn answered_early(&mut self, road: &Road<'_>, mut up: Upstream, first: Reply) {
        let no = |reply: Reply| if reply.is_good() { reply::BACKEND_LOST } else { reply.for_message() };
        if self.form.is_chunks() {
            self.end_with(no(first)); // a chunk is refused for all
            drop(self.give_up(road, up, Stop::Lost(Lost::Early)));
            return;
        }
        let mut replies = vec![no(first)];
        let awaited = self.deliveries.len();
        let listening = async {
            while replies.len() < awaited {
                match up.reply().await {
                    Ok(reply) => replies.push(no(reply)),
                    Err(_) => return,
                }
            }
        };
        // Who says no more has said it of the first alone.
        let _ = timeout(LAST_WORDS, listening).await;
        let mut replies = replies.into_iter();
        for delivery in &mut self.deliveries {
            delivery.verdict = replies.next();
        }
        drop(self.give_up(road, up, Stop::Lost(Lost::Early)));
    }

    /// Sends the end of the message, and passes on the answers, each recipient's by its number. From here on nothing but
    /// the backend's silence ends the wait.
    pub(super) async fn finish(&mut self, road: &Road<'_>, told: UnboundedSender<(usize, Reply)>) {
        if self.is_alive()
            && let Some(mut up) = self.up.take()
        {
            match self.last_bytes(road, &mut up, &told).await {
                Ok(()) => {
                    up.is_done();
                    self.up = Some(up);
                }
                Err(stop) => drop(self.give_up(road, up, stop)),
            }
        }
        let fate = self.fate.clone().unwrap_or(reply::BACKEND_LOST);
        for delivery in &mut self.deliveries {
            let verdict = delivery.verdict.get_or_insert_with(|| fate.clone()).clone();
            // It was told already if it came from the backend; the first word counts.
            let _ = told.send((delivery.number, verdict));
        }
    }

    async fn last_bytes(
        &mut self,
        road: &Road<'_>,
        up: &mut Upstream,
        told: &UnboundedSender<(usize, Reply)>,
    ) -> Result<(), Stop> {
        let patience = road.lmtp.backend_timeout;
        self.form.end();
        in_time(patience, up.write(&self.form.take_wire())).await?;
        for _ in 0..std::mem::take(&mut self.form.owed) {
            let reply = in_time(patience, up.reply()).await?;
            if !reply.is_good() {
                self.end_with(reply.for_message()); // a chunk is refused for all
                return Err(Stop::Lost(Lost::Early));
            }
        }
        for delivery in &mut self.deliveries {
            let reply = in_time(patience, up.reply()).await?;
            if reply.code() == 421 {
                return Err(Stop::Lost(Lost::Closed));
            }
            let reply = reply.for_message();
            delivery.verdict = Some(reply.clone());
            // Nobody listens any more if the client's task is being dropped.
            let _ = told.send((delivery.number, reply));
        }
        Ok(())
    }

    /// Gives up the envelope, and keeps the connection.
    pub(super) async fn reset(&mut self, road: &Road<'_>) {
        let Some(mut up) = self.up.take() else { return };
        match in_time(road.lmtp.backend_timeout, up.reset()).await {
            Ok(()) => self.up = Some(up),
            Err(stop) => drop(self.give_up(road, up, stop)),
        }
    }

    /// Resolves when its recipients must be given up at once, in the time between two commands of the client.
    pub(super) async fn stopped(&self) -> Ending {
        stopped(&self.deliveries).await
    }

    /// Resolves when the message must be given up: who may finish what he is at has a while for it.
    pub(super) async fn doomed(&mut self, services: &Services) -> Ending {
        doomed(&self.deliveries, &mut self.doom, services).await
    }

    /// Closes the connection, and tells all recipients so.
    pub(super) fn abort(&mut self, services: &Services, why: Option<Ending>, fate: Reply) {
        if let Some(up) = self.up.take() {
            self.close(services, up, why == Some(Ending::Isolated));
        }
        self.end_with(fate);
    }

    /// The connection is of no use any more. Gives what its recipients get.
    fn give_up(&mut self, road: &Road<'_>, up: Upstream, stop: Stop) -> Reply {
        let backend = &self.way.server.id;
        let fate = match &stop {
            Stop::Told(Ending::Shutdown) => Refusal::ShuttingDown.into(),
            Stop::Told(_) => reply::STOPPED,
            Stop::Lost(lost) => {
                warn!(session = %road.announcement.session, %backend, %lost, "the backend broke off a delivery");
                reply::BACKEND_LOST
            }
            Stop::Slow => {
                warn!(session = %road.announcement.session, %backend, "the backend was silent for lmtp.backend_timeout");
                reply::BACKEND_LOST
            }
        };
        self.close(road.services, up, matches!(stop, Stop::Told(Ending::Isolated)));
        self.end_with(fate.clone());
        fate
    }

    /// The first fate counts.
    fn end_with(&mut self, fate: Reply) {
        self.fate.get_or_insert(fate);
    }

    /// Ends the connection; until the backend has ended its side, the recipients count as being there.
    fn close(&mut self, services: &Services, up: Upstream, at_once: bool) {
        let slots: Vec<_> = self.deliveries.iter_mut().filter_map(Delivery::take_slot).collect();
        let patience = services.limits.load().close_timeout;
        let mut stream = up.into_stream();
        services.tasks.spawn(async move {
            if at_once || !stream.part(patience).await {
                stream.reset_on_drop();
            }
            drop(stream);
            drop(slots);
        });
    }
}

/// A step with a backend, unless it takes too long or a recipient must go.
async fn within<T>(
    road: &Road<'_>,
    deliveries: &[Delivery],
    doom: &mut Option<Instant>,
    step: impl Future<Output = Result<T, Lost>>,
) -> Result<T, Stop> {
    tokio::select! {
        biased; // what must not go on does not by chance
        why = doomed(deliveries, doom, road.services) => Err(Stop::Told(why)),
        outcome = in_time(road.lmtp.backend_timeout, step) => outcome,
    }
}

async fn in_time<T>(patience: Duration, step: impl Future<Output = Result<T, Lost>>) -> Result<T, Stop> {
    match timeout(patience, step).await {
        Ok(outcome) => outcome.map_err(Stop::Lost),
        Err(_) => Err(Stop::Slow),
    }
}

async fn doomed(deliveries: &[Delivery], doom: &mut Option<Instant>, services: &Services) -> Ending {
    let why = stopped(deliveries).await;
    if !why.may_wait() {
        return why;
    }
    let limits = services.limits.load_full();
    let grace =
        if why == Ending::Shutdown { limits.shutdown_grace.max(limits.kick_deadline) } else { limits.kick_deadline };
    let until = *doom.get_or_insert_with(|| Instant::now() + grace);
    tokio::select! {
        biased;
        urgent = stopped_at_once(deliveries) => urgent,
        () = sleep_until(until) => why,
    }
}
