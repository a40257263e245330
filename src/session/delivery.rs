//! The story of an LMTP connection: identify, greet, then one transaction after the other: find each recipient's home, name
//! it at its own backend, stream the message to all of these, and pass on what each says.
//!
//! `recipient.rs` finds a home; `way.rs` connects to a backend, and `upstream.rs` is that connection, kept for the client's next
//! transaction; `leg.rs` is one backend's part of a transaction, `naming.rs` how recipients are named to it, `form.rs` how it is
//! sent the message, `patience.rs` for how long; `message.rs` streams, and `watch.rs` has an eye on legs that wait; `turns.rs`
//! counts what a user gets at once. A session is counted for a recipient from the RCPT to the backend's answer to the message,
//! and none while no transaction runs.
//!
//! Nothing is added to the message, no trace either: homing is as transparent here as for those who read mail, and loops
//! are found by the TTL of XCLIENT.

mod form;
mod leg;
mod message;
mod naming;
mod patience;
mod recipient;
mod turns;
mod upstream;
mod watch;
mod way;

use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;

use futures_util::future::{Either, join_all};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::Counted;
use super::door::{Door, Guest, LAST_WORDS};
use super::ending::{End, Mailed, Record};
use super::entry::hops_left;
use crate::model::{Ending, Phase};
use crate::net::{DriveError, Stream, canonical, drive, flush};
use crate::protocol::lmtp::{Frontend, Limits, Rcpt, Reply, Transaction, Wish, reply};
use crate::protocol::{Announcement, Farewell, Input, Output};
use leg::Leg;
use message::closed;
use recipient::{Placed, find_all, tell_refused};
pub use turns::Deliveries;
use upstream::Upstream;
use watch::{all_of, at_rest};
use way::{Shared, Way};

/// Bytes read at once, and so about what is held of a message for each backend.
const PIECE: usize = 32 * 1024;
/// Connections kept for the next transaction. More backends than that are dialled anew.
const KEPT: usize = 64;

/// Serves one client from accept to close.
pub(super) async fn serve(door: &Door, tcp: TcpStream, peer: SocketAddr, counted: Counted) {
    let deadline = Instant::now() + door.services.limits.load().login_timeout;
    let mut record = Record::new(door.listener.protocol, canonical(peer), door.address());
    let guest = tokio::select! {
        guest = door.identify(tcp, peer, &mut record) => guest,
        why = door.over(deadline) => Err((why, None)),
    };
    match guest {
        Ok(guest) => converse(door, guest, record, counted).await,
        Err(end) => record.end(end),
    }
}

/// Serves one client that is known, to the end.
pub(super) async fn converse(door: &Door, guest: Guest, mut record: Record, _counted: Counted) {
    record.reached(Phase::Preauth);
    let mut visit = Visit::new(door, &guest);
    let mut guest = guest;
    let end = loop {
        match visit.next_wish(&mut guest.stream).await {
            Ok(Wish::StartTls) => {
                guest = match door.encrypt(guest, &mut record).await {
                    Ok(secured) => secured,
                    Err(end) => {
                        visit.leave();
                        return record.end(end);
                    }
                };
                visit.secured(&guest);
                record.reached(Phase::Preauth);
            }
            Ok(Wish::Recipients(list)) => visit.recipients(list).await,
            Ok(Wish::Forget) => visit.forget().await,
            Ok(Wish::Quit) => break (Ending::ClientClosed, None),
            Ok(wish) => {
                record.reached(Phase::Relay);
                if let Err(end) = visit.message(&mut guest.stream, wish).await {
                    break end;
                }
                record.reached(Phase::Preauth);
            }
            Err(end) => break end,
        }
    };
    record.mailed = Some(visit.mailed);
    record.end(end);
    visit.leave();
    guest.stream.part(LAST_WORDS).await;
}

/// One client's connection, but for the connection itself.
struct Visit<'a> {
    shared: Shared<'a>,
    frontend: Frontend,
    input: Input,
    out: Output,
    /// The backends of the transaction under way.
    legs: Vec<Leg>,
    /// Connections for the next one.
    kept: Vec<(Way, Upstream)>,
    /// The backends were asked for the go-ahead to the message.
    begun: bool,
    /// Bytes of the present message.
    size: u64,
    mailed: Mailed,
}

impl<'a> Visit<'a> {
    fn new(door: &'a Door, guest: &Guest) -> Self {
        let services = door.services.as_ref();
        let lmtp = services.lmtp.load_full();
        let limits =
            Limits { recipients: lmtp.max_recipients, messages: lmtp.max_messages, size: lmtp.max_message_size };
        let settings = door.settings(guest);
        let input = Input::with_capacity(settings.bounds.line.max(PIECE));
        let (mut frontend, mut out) = (Frontend::new(settings, limits), Output::new());
        frontend.greet(&mut out);
        let (announcement, tls) = (announce(guest), guest.tls.clone());
        let shared = Shared { services, lmtp, announcement, tls, connections: AtomicU32::new(0) };
        let (legs, kept, mailed) = (Vec::new(), Vec::new(), Mailed::default());
        Self { shared, frontend, input, out, legs, kept, begun: false, size: 0, mailed }
    }

    fn secured(&mut self, guest: &Guest) {
        self.frontend.secured();
        (self.shared.announcement, self.shared.tls) = (announce(guest), guest.tls.clone());
    }

    /// Runs the dialogue until the client wants something done. Recipients that must go meanwhile do.
    async fn next_wish(&mut self, stream: &mut Stream) -> Result<Wish, End> {
        let outcome = {
            let Self { shared, frontend, input, out, legs, .. } = self;
            // Chunks of a message that has begun may go on for a while.
            let over = if frontend.is_chunking() {
                Either::Left(closed(shared.services))
            } else {
                Either::Right(shared.services.closing.cancelled())
            };
            let conversation = async {
                tokio::select! {
                    biased; // a proxy that goes down begins nothing that has come already
                    () = over => Err((Ending::Shutdown, Farewell::ShuttingDown)),
                    outcome = drive(frontend, stream, input, out) => Ok(outcome),
                    () = sleep(shared.lmtp.client_timeout) => Err((Ending::ClientIdle, Farewell::TimedOut)),
                }
            };
            at_rest(shared.services, legs, conversation).await
        };
        let (why, farewell) = match outcome {
            Ok(outcome) => return outcome.map_err(end_of),
            Err(why) => why,
        };
        self.bid_farewell(stream, farewell).await;
        Err((why, None))
    }

    /// Tells the client that this is the end, if it still listens.
    async fn bid_farewell(&mut self, stream: &mut Stream, why: Farewell) {
        self.frontend.farewell(why, &mut self.out);
        let _ = timeout(LAST_WORDS, flush(stream, &mut self.out)).await;
    }

    /// Finds the recipients' homes and names them there, all at once.
    async fn recipients(&mut self, list: Vec<Rcpt>) {
        let hops =
            hops_left(&self.shared.announcement.session, self.shared.announcement.client, self.frontend.proxy_ttl());
        let replies = match hops {
            Ok(ttl) => {
                self.shared.announcement.ttl = ttl;
                self.shared.announcement.helo = self.frontend.helo().map(str::to_owned);
                self.name(list).await
            }
            Err(why) => vec![why.into(); list.len()],
        };
        self.number(&replies);
        self.frontend.answer(&replies, &mut self.out);
    }

    /// A reply for each.
    async fn name(&mut self, list: Vec<Rcpt>) -> Vec<Reply> {
        let found = {
            let Self { shared, legs, .. } = self;
            at_rest(shared.services, legs, find_all(shared.services, &shared.announcement, &list)).await
        };
        let mut replies = vec![reply::BACKEND_LOST; list.len()];
        let mut asked: Vec<Vec<_>> = Vec::new();
        for (number, found) in found.into_iter().enumerate() {
            match found {
                Ok(Placed { delivery, server, trusted }) => {
                    let leg = self.leg(Way { server, trusted });
                    asked.resize_with(self.legs.len(), Vec::new);
                    asked[leg].push(delivery);
                }
                Err(refusal) => {
                    tell_refused(&self.shared.announcement, &list[number], &refusal);
                    replies[number] = refusal;
                }
            }
        }
        let Self { shared, frontend, legs, .. } = self;
        let Some(transaction) = frontend.transaction() else { return replies };
        asked.resize_with(legs.len(), Vec::new);
        let all = all_of(legs);
        let legs = legs.iter_mut().zip(asked);
        let answers = join_all(legs.map(|(leg, more)| leg.ask(shared, &all, &transaction.mail, more))).await;
        for (number, reply) in answers.into_iter().flatten() {
            replies[number] = reply;
        }
        replies
    }

    /// Those that were accepted count on from those before.
    fn number(&mut self, replies: &[Reply]) {
        let first = self.frontend.transaction().map_or(0, Transaction::accepted);
        let rank = |number: usize| first + replies[..number].iter().filter(|reply| reply.is_good()).count();
        for delivery in self.legs.iter_mut().flat_map(|leg| &mut leg.deliveries).filter(|delivery| delivery.is_new) {
            (delivery.number, delivery.is_new) = (rank(delivery.number), false);
        }
    }

    /// The place of a backend's part.
    fn leg(&mut self, way: Way) -> usize {
        if let Some(at) = self.legs.iter().position(|leg| leg.way.is(&way)) {
            return at;
        }
        let kept = self.kept.iter().position(|(known, _)| known.is(&way));
        let kept = kept.map(|at| self.kept.swap_remove(at).1);
        self.legs.push(Leg::new(way, kept));
        self.legs.len() - 1
    }

    /// The client has given up the transaction.
    async fn forget(&mut self) {
        self.tell(&mut |verdict| verdict.clone().unwrap_or(reply::GIVEN_UP));
        let Self { shared, legs, .. } = self;
        let all = all_of(legs);
        join_all(legs.iter_mut().map(|leg| leg.reset(shared, &all))).await;
        self.end_transaction();
    }

    /// Connections are kept, all else is over.
    fn end_transaction(&mut self) {
        (self.begun, self.size) = (false, 0);
        let legs = std::mem::take(&mut self.legs);
        self.kept.extend(legs.into_iter().filter_map(Leg::into_kept));
        self.kept.truncate(KEPT);
    }

    /// Ends all connections to backends. What was not sent to its end is forgotten there.
    fn leave(&mut self) {
        self.tell(&mut |verdict| verdict.clone().unwrap_or(reply::GIVEN_UP));
        for leg in &mut self.legs {
            leg.hang_up(self.shared.services, reply::GIVEN_UP);
        }
        self.legs.clear();
        for (_, mut up) in self.kept.drain(..) {
            self.shared.services.tasks.spawn(async move {
                let parting = async {
                    up.write(b"QUIT\r\n").await.ok()?;
                    up.into_stream().part(LAST_WORDS).await.then_some(())
                };
                timeout(LAST_WORDS * 2, parting).await
            });
        }
    }
}

fn end_of(error: DriveError) -> End {
    match error {
        DriveError::Closed => (Ending::ClientClosed, None),
        DriveError::Broken(error) => (Ending::ClientLost, Some(error.to_string())),
        DriveError::Violation(violation) => (Ending::ClientFault, Some(violation.to_string())),
    }
}

/// What backends are told about the client.
fn announce(guest: &Guest) -> Announcement {
    Announcement {
        client: guest.client,
        local: guest.local,
        session: guest.session.clone(),
        ttl: 0, // known when recipients come
        secured: guest.is_secured(),
        server_name: guest.server_name.clone(),
        helo: None,
        client_id: Vec::new(),
    }
}
