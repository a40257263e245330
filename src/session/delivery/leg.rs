//! One backend's part of a transaction: its recipients, and the message on its way to it.
//!
//! Until the end of the message has been sent, anything may end a leg: its connection is closed before that end, so the
//! backend forgets all of it, and its recipients get a temporary failure. From then on the backend's answer is awaited,
//! whatever happens: it alone knows whether the message was stored. If the backend dies before it has answered, its
//! recipients get a temporary failure, too. The client brings the mail again, and if it had been stored it is there twice;
//! LMTP has no way to tell, and the other choice would be to lose it.
//!
//! A leg that is over holds no place in the ledger but until the backend's FIN, however long the others take.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::form::Form;
use super::patience::{Stop, doomed, in_time, within};
use super::recipient::{Delivery, stopped};
use super::upstream::{Lost, Upstream};
use super::watch::stopped_by;
use super::way::{Shared, Way};
use crate::model::Ending;
use crate::protocol::lmtp::{Reply, reply};
use crate::session::Services;

/// How long a backend that has answered too early is listened to.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One backend's part.
pub(super) struct Leg {
    pub(super) way: Way,
    pub(super) deliveries: Vec<Delivery>,
    /// None before the first connect, and once it was given up.
    pub(super) up: Option<Upstream>,
    /// The sender was named there.
    pub(super) has_sender: bool,
    /// A part of the message may have been sent.
    begun: bool,
    /// What all its recipients get, once it has failed.
    pub(super) fate: Option<Reply>,
    /// When it must be over, once it was told to stop.
    pub(super) doom: Option<Instant>,
    form: Form,
}

impl Leg {
    /// `kept`: a connection of an earlier transaction.
    pub(super) fn new(way: Way, kept: Option<Upstream>) -> Self {
        let (deliveries, form) = (Vec::new(), Form::chunks());
        Self { way, deliveries, up: kept, has_sender: false, begun: false, fate: None, doom: None, form }
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

    /// Asks for the go-ahead to a message. By chunks if it comes by chunks and the backend takes them.
    pub(super) async fn begin(&mut self, shared: &Shared<'_>, all: &Barrier, by_chunks: bool) {
        if self.is_alive()
            && let Some(up) = self.up.take()
        {
            self.begun = true;
            self.ask_to_go_on(shared, up, by_chunks).await;
        }
        self.await_others(shared.services, all).await;
    }

    async fn ask_to_go_on(&mut self, shared: &Shared<'_>, mut up: Upstream, by_chunks: bool) {
        let chunks = by_chunks && up.takes_chunks();
        self.form = if chunks { Form::chunks() } else { Form::dotted(by_chunks) };
        let asking = async { if chunks { up.silence().await.map(|()| None) } else { up.data().await.map(Some) } };
        match within(shared, &self.deliveries, &mut self.doom, asking).await {
            Ok(None) => self.up = Some(up),
            Ok(Some(reply)) if reply.code() == 354 => self.up = Some(up),
            Ok(Some(reply)) if reply.is_refusal() => {
                self.end_with(reply.for_message());
                (self.up, self.begun) = (Some(up), false);
                self.release();
            }
            // What it waits for now nobody knows.
            Ok(Some(_)) => drop(self.give_up(shared, up, Stop::Lost(Lost::Unasked))),
            Err(stop) => drop(self.give_up(shared, up, stop)),
        }
    }

    /// A chunk of so many bytes comes.
    pub(super) fn chunk(&mut self, size: u64, last: bool) {
        self.form.announce(size, last);
    }

    /// Sends a part of the message on.
    pub(super) async fn feed(&mut self, shared: &Shared<'_>, all: &Barrier, content: &[u8]) {
        self.send(shared, content).await;
        self.await_others(shared.services, all).await;
    }

    async fn send(&mut self, shared: &Shared<'_>, content: &[u8]) {
        if self.is_alive() {
            self.form.put(content);
            let wire = self.form.take_wire();
            self.exchange(shared, &wire).await;
            self.form.sent(wire);
        }
    }

    /// Sends, with a look at who must go and at what the backend says too early.
    async fn exchange(&mut self, shared: &Shared<'_>, wire: &[u8]) {
        let Some(mut up) = self.up.take() else { return };
        let mut owed = self.form.owed;
        let outcome = within(shared, &self.deliveries, &mut self.doom, up.feed(wire, &mut owed)).await;
        self.form.owed = owed;
        match outcome {
            Ok(None) => self.up = Some(up),
            Ok(Some(early)) => self.answered_early(shared.services, up, early).await,
            Err(stop) => drop(self.give_up(shared, up, stop)),
        }
    }

    /// It has answered before the end. What it says of each recipient counts, if that is no; a yes to a part of a message is
    /// none.
    async fn answered_early(&mut self, services: &Services, mut up: Upstream, first: Reply) {
        let no = |reply: Reply| if reply.is_good() { reply::BACKEND_LOST } else { reply.for_message() };
        if self.form.is_chunks() {
            self.end_with(no(first)); // a chunk is refused for all
            return self.close(services, up, false);
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
        self.end_with(reply::BACKEND_LOST);
        self.close(services, up, false);
    }

    /// Sends the `rest` of the message and its end, and passes on the answers, each recipient's by its number. From there on
    /// nothing but the backend's silence ends the wait.
    pub(super) async fn finish(&mut self, shared: &Shared<'_>, rest: &[u8], told: UnboundedSender<(usize, Reply)>) {
        if self.is_alive() {
            self.exchange(shared, &[]).await; // the last look
        }
        if self.is_alive()
            && let Some(mut up) = self.up.take()
        {
            match self.end_message(shared, &mut up, rest, &told).await {
                Ok(None) => {
                    up.is_done();
                    self.up = Some(up);
                    self.release();
                    self.testify(shared, Ok(()));
                }
                Ok(Some(refusal)) => {
                    self.end_with(refusal);
                    self.close(shared.services, up, false);
                }
                Err(stop) => drop(self.give_up(shared, up, stop)),
            }
        }
        let fate = self.fate.clone().unwrap_or(reply::BACKEND_LOST);
        for delivery in &mut self.deliveries {
            let verdict = delivery.verdict.get_or_insert_with(|| fate.clone()).clone();
            // It was told already if it came from the backend; the first word counts.
            let _ = told.send((delivery.number, verdict));
        }
    }

    /// The end, and an answer for each recipient; or the refusal of a chunk, which is one for all.
    async fn end_message(
        &mut self,
        shared: &Shared<'_>,
        up: &mut Upstream,
        rest: &[u8],
        told: &UnboundedSender<(usize, Reply)>,
    ) -> Result<Option<Reply>, Stop> {
        let patience = shared.lmtp.backend_timeout;
        self.form.put(rest);
        self.form.end();
        in_time(patience, up.write(&self.form.take_wire())).await?;
        for _ in 0..std::mem::take(&mut self.form.owed) {
            let reply = in_time(patience, up.reply()).await?;
            if !reply.is_good() {
                return Ok(Some(reply.for_message()));
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
        Ok(None)
    }

    /// Gives up the envelope, and keeps the connection. In the middle of a message that cannot be: RSET would be taken for a
    /// part of it, or its answer for one to a chunk.
    pub(super) async fn reset(&mut self, shared: &Shared<'_>, all: &Barrier) {
        if self.begun {
            self.hang_up(shared.services, reply::GIVEN_UP);
        } else if let Some(mut up) = self.up.take() {
            match within(shared, &self.deliveries, &mut self.doom, up.reset()).await {
                Ok(()) => {
                    self.up = Some(up);
                    self.end_with(reply::GIVEN_UP);
                    self.release();
                }
                Err(stop) => drop(self.give_up(shared, up, stop)),
            }
        }
        self.await_others(shared.services, all).await;
    }

    /// Waits for the other legs to have taken the same step. Recipients that must go meanwhile do.
    pub(super) async fn await_others(&mut self, services: &Services, all: &Barrier) {
        let mut others = pin!(all.wait());
        if self.is_alive() {
            tokio::select! {
                biased;
                _ = others.as_mut() => return,
                why = doomed(&self.deliveries, &mut self.doom, services) => self.abort(services, why),
            }
        }
        others.await;
    }

    /// Resolves when its recipients must be given up at once, in the time between two commands of the client.
    pub(super) async fn stopped(&self) -> Ending {
        stopped(&self.deliveries).await
    }

    /// Resolves when the message must be given up: who may finish what he is at has a while for it.
    pub(super) async fn doomed(&mut self, services: &Services) -> Ending {
        doomed(&self.deliveries, &mut self.doom, services).await
    }

    /// Closes the connection, because its recipients must go.
    pub(super) fn abort(&mut self, services: &Services, why: Ending) {
        if let Some(up) = self.up.take() {
            self.close(services, up, why == Ending::Isolated);
        }
        self.end_with(stopped_by(why));
    }

    /// Closes the connection in good order.
    pub(super) fn hang_up(&mut self, services: &Services, fate: Reply) {
        if let Some(up) = self.up.take() {
            self.close(services, up, false);
        }
        self.end_with(fate);
    }

    /// The connection is of no use any more. Gives what its recipients get.
    pub(super) fn give_up(&mut self, shared: &Shared<'_>, up: Upstream, stop: Stop) -> Reply {
        let (backend, session) = (&self.way.server.id, &shared.announcement.session);
        let fate = match &stop {
            Stop::Told(why) => stopped_by(*why),
            Stop::Lost(lost) => {
                warn!(%session, %backend, %lost, "the backend broke off a delivery");
                self.testify(shared, Err(&lost.to_string()));
                reply::BACKEND_LOST
            }
            Stop::Slow => {
                warn!(%session, %backend, "the backend was silent for lmtp.backend_timeout");
                self.testify(shared, Err("it was silent for lmtp.backend_timeout"));
                reply::BACKEND_LOST
            }
        };
        self.close(shared.services, up, matches!(stop, Stop::Told(Ending::Isolated)));
        self.end_with(fate.clone());
        fate
    }

    fn testify(&self, shared: &Shared<'_>, outcome: Result<(), &str>) {
        let user = self.deliveries.first().map_or("", |delivery| delivery.user.as_str());
        self.way.testify(shared, user, outcome);
    }

    /// The first fate counts.
    pub(super) fn end_with(&mut self, fate: Reply) {
        self.fate.get_or_insert(fate);
    }

    /// Its recipients are there no more: the backend has said its last word about them.
    fn release(&mut self) {
        self.deliveries.iter_mut().for_each(|delivery| drop(delivery.take_place()));
    }

    /// Ends the connection; until the backend has ended its side, the recipients count as being there.
    fn close(&mut self, services: &Services, up: Upstream, at_once: bool) {
        let places: Vec<_> = self.deliveries.iter_mut().map(Delivery::take_place).collect();
        let patience = services.limits.load().close_timeout;
        let mut stream = up.into_stream();
        services.tasks.spawn(async move {
            if at_once || !stream.part(patience).await {
                stream.reset_on_drop();
            }
            drop(stream);
            drop(places);
        });
    }
}
