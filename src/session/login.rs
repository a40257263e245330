//! The story of a connection: identify, greet, authenticate, enter, answer; then the relay takes over.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::door::{Door, Guest, LAST_WORDS};
use super::ending::{End, Login, Record};
use super::entry::{Entry, announce, enter, scram_keys};
use super::guarding::{self, Try};
use super::refusing::Failure;
use super::{Counted, Services};
use crate::auth::penalty::Standing;
use crate::model::{Credentials, Ending, Phase, Proof};
use crate::net::{DriveError, canonical, drive, flush};
use crate::protocol::sasl::KeysWanted;
use crate::protocol::{Announcement, ClientWish, Farewell, Frontend, Input, Output, Violation, spoken};
use crate::relay::{RelaySession, StopHandle, relay};
use crate::telemetry::names;

/// How long an answer may take to send, when the client does not read.
const ANSWER: Duration = Duration::from_secs(10);

/// The dialogue before login.
struct Dialogue {
    guest: Guest,
    frontend: Box<dyn Frontend>,
    input: Input,
    out: Output,
    /// How a SCRAM exchange stands that is under way: it has waited for what failed before when it was given its keys.
    waited: Option<Standing>,
}

/// Serves one client from accept until its relay has started, or until it is gone.
pub(super) async fn serve(door: &Door, tcp: TcpStream, peer: SocketAddr, counted: Counted) {
    let deadline = Instant::now() + door.services.limits.load().login_timeout;
    let mut record = Record::new(door.listener.protocol, canonical(peer), door.address());
    let guest = tokio::select! {
        guest = door.identify(tcp, peer, &mut record) => guest,
        why = door.over(deadline) => Err((why, None)),
    };
    match guest {
        Ok(guest) => {
            if let Some((dialogue, entry)) = log_in(door, guest, deadline, &mut record).await {
                hand_over(&door.services, dialogue, entry, record, counted).await;
            }
        }
        Err(end) => record.end(end),
    }
}

/// The dialogue, until somebody is logged in, or the connection is over.
async fn log_in(door: &Door, guest: Guest, deadline: Instant, record: &mut Record) -> Option<(Dialogue, Box<Entry>)> {
    let mut dialogue = Dialogue::begin(door, guest)?;
    let end = loop {
        record.reached(Phase::Preauth);
        match next_wish(door, &mut dialogue, deadline).await {
            Ok(ClientWish::StartTls) => {
                let secured = tokio::select! {
                    guest = door.encrypt(dialogue.guest, record) => guest,
                    why = door.over(deadline) => Err((why, None)),
                };
                match secured {
                    Ok(guest) => dialogue.guest = guest,
                    Err(end) => {
                        record.end(end);
                        return None;
                    }
                }
                dialogue.frontend.secured();
                dialogue.frontend.set_terms(door.terms(&dialogue.guest));
            }
            Ok(ClientWish::Authenticate(credentials)) => {
                match authenticate(door, &mut dialogue, &credentials, deadline, record).await {
                    Ok(entry) => return Some((dialogue, entry)),
                    Err(Some(end)) => break end,
                    Err(None) => {}
                }
            }
            Ok(ClientWish::Keys(wanted)) => {
                if let Some(end) = give_keys(door, &mut dialogue, wanted, deadline, record).await {
                    break end;
                }
            }
            Ok(ClientWish::Logout) => break (Ending::ClientClosed, None),
            Err(end) => break end,
        }
    };
    record.end(end);
    dialogue.guest.stream.part(LAST_WORDS).await;
    None
}

impl Dialogue {
    /// None where nobody logs in.
    fn begin(door: &Door, guest: Guest) -> Option<Self> {
        let mut frontend = door.frontend(&guest)?;
        let mut out = Output::new();
        frontend.greet(&mut out);
        Some(Self { guest, frontend, input: Input::with_capacity(door.services.limits.load().line), out, waited: None })
    }

    /// Sends what is to be said, to whoever still listens: false if it could not be sent in time.
    async fn say(&mut self, patience: Duration) -> bool {
        matches!(timeout(patience, flush(&mut self.guest.stream, &mut self.out)).await, Ok(Ok(())))
    }

    /// Tells the client that this is the end; a client that is gone does not matter any more.
    async fn bid_farewell(&mut self, why: Farewell) {
        self.frontend.farewell(why, &mut self.out);
        self.say(LAST_WORDS).await;
    }
}

/// Runs the dialogue until the client wants something done.
async fn next_wish(door: &Door, dialogue: &mut Dialogue, deadline: Instant) -> Result<ClientWish, End> {
    let Dialogue { guest, frontend, input, out, .. } = dialogue;
    let why = tokio::select! {
        outcome = drive(frontend.as_mut(), &mut guest.stream, input, out) => return outcome.map_err(end_of),
        why = door.over(deadline) => why,
    };
    // Here it is the client that was waited for.
    let (ending, farewell) = match why {
        Ending::LoginTimeout => (Ending::ClientIdle, Farewell::TimedOut),
        other => (other, Farewell::ShuttingDown),
    };
    dialogue.bid_farewell(farewell).await;
    Err((ending, None))
}

pub(super) fn end_of(error: DriveError) -> End {
    match error {
        DriveError::Closed => (Ending::ClientClosed, None),
        DriveError::Broken(error) => (Ending::ClientLost, Some(error.to_string())),
        DriveError::Violation(Violation::TooManyFailures) => (Ending::TooManyFailures, None),
        DriveError::Violation(violation) => (Ending::ClientFault, Some(violation.to_string())),
    }
}

/// One try to log in. `Err(None)`: refused, and the dialogue goes on.
async fn authenticate(
    door: &Door,
    dialogue: &mut Dialogue,
    credentials: &Credentials,
    deadline: Instant,
    record: &mut Record,
) -> Result<Box<Entry>, Option<End>> {
    let announcement = announce(&dialogue.guest, dialogue.frontend.as_ref());
    dialogue.guest.utf8 = dialogue.frontend.utf8();
    dialogue.guest.origin = dialogue.frontend.origin();
    let waited = dialogue.waited.take().filter(|_| credentials.mechanism.scram().is_some());
    let outcome = match announcement {
        Ok(announcement) => {
            try_to_enter(door, &dialogue.guest, credentials, &announcement, waited, deadline, record).await
        }
        Err(refusal) => Err(refusal.into()),
    };
    match outcome {
        Ok(entry) => Ok(Box::new(entry)),
        Err(failure) => Err(refuse(dialogue, credentials, &failure, record).await),
    }
}

/// Looks up what a SCRAM exchange needs, and goes on with it. Gives the end, unless the dialogue goes on. What failed before is
/// waited for here: with the keys the exchange itself tells whether the password is right, before anybody else is asked.
async fn give_keys(
    door: &Door,
    dialogue: &mut Dialogue,
    wanted: KeysWanted,
    deadline: Instant,
    record: &mut Record,
) -> Option<End> {
    let KeysWanted { user, authzid, mechanism, hash } = wanted;
    // As if it were proven: what is known of whoever that would be.
    let credentials = Credentials { user, authzid, proof: Proof::Proven, mechanism };
    dialogue.guest.origin = dialogue.frontend.origin();
    let keys = {
        let (services, guest) = (&door.services, &dialogue.guest);
        let mut over = pin!(async {
            tokio::select! {
                why = door.over(deadline) => why,
                () = guest.stream.broken() => Ending::ClientLost,
            }
        });
        let client = guarding::counted(services, guest);
        let chain = services.passdb.load_full();
        let tried = Try { credentials: &credentials, protocol: record.protocol, client, chain };
        record.reached(Phase::Auth);
        match guarding::wait_out(services, &tried, over.as_mut()).await {
            Err(failure) => Err(failure),
            Ok((standing, _)) => tokio::select! {
                biased;
                why = over => Err(Failure::Over(why)),
                keys = scram_keys(services, guest, &credentials, hash, record) => {
                    keys.map(|gift| (gift, standing)).map_err(Failure::from)
                }
            },
        }
    };
    match keys {
        Ok((gift, standing)) => {
            dialogue.waited = Some(standing);
            dialogue.frontend.give_keys(gift, &mut dialogue.out);
            None
        }
        Err(failure) => refuse(dialogue, &credentials, &failure, record).await,
    }
}

/// Enters, unless the connection is over before.
async fn try_to_enter(
    door: &Door,
    guest: &Guest,
    credentials: &Credentials,
    announcement: &Announcement,
    waited: Option<Standing>,
    deadline: Instant,
    record: &mut Record,
) -> Result<Entry, Failure> {
    let mut over = pin!(async {
        tokio::select! {
            why = door.over(deadline) => why,
            () = guest.stream.broken() => Ending::ClientLost,
        }
    });
    record.reached(Phase::Auth);
    let services = &door.services;
    let client = guarding::counted(services, guest);
    let tried = Try { credentials, protocol: record.protocol, client, chain: services.passdb.load_full() };
    let (standing, recalled) = match waited {
        Some(standing) => (standing, None),
        None => guarding::wait_out(services, &tried, over.as_mut()).await?,
    };
    // Boxed: it is the largest of the states, and seldom the present one.
    let outcome = Box::pin(enter(services, guest, &tried, recalled, announcement, over, record)).await;
    guarding::settle(services, &tried, &standing, &outcome, record).await;
    outcome
}

/// Tells the client, and the log, why it is not in. Gives the end, unless the dialogue goes on.
async fn refuse(
    dialogue: &mut Dialogue,
    credentials: &Credentials,
    failure: &Failure,
    record: &mut Record,
) -> Option<End> {
    let Some(refusal) = failure.refusal(record.phase()) else { return Some((Ending::ClientLost, None)) };
    record.refusal = Some(refusal);
    info!(
        { names::SESSION } = %record.session,
        { names::USER } = %credentials.user, // no control characters: the frontends see to that
        { names::MECHANISM } = credentials.mechanism.name(),
        { names::CLIENT } = %record.client,
        { names::REFUSAL } = refusal.word(),
        { names::PHASE } = record.phase().word(),
        "login refused"
    );
    let outcome = match failure {
        Failure::Backend(words) | Failure::Told(_, words) => dialogue.frontend.relay_refusal(words, &mut dialogue.out),
        _ => dialogue.frontend.refuse(refusal, &mut dialogue.out),
    };
    match (failure, outcome) {
        (Failure::Over(why), Ok(())) => {
            let shutdown = *why == Ending::Shutdown;
            dialogue.bid_farewell(if shutdown { Farewell::ShuttingDown } else { Farewell::TimedOut }).await;
            Some((*why, None))
        }
        (_, outcome) => {
            dialogue.say(ANSWER).await;
            outcome.err().map(|violation| end_of(violation.into()))
        }
    }
}

/// The answer, and the relay in a task of its own.
async fn hand_over(
    services: &Services,
    mut dialogue: Dialogue,
    entry: Box<Entry>,
    mut record: Record,
    counted: Counted,
) {
    let Entry { user, key, mechanism, backend, arrival, slot, seat, stop, handle, isolation } = *entry;
    record.reached(Phase::Relay);
    record.login = Some(Login { user, key, mechanism, backend, address: arrival.address });
    dialogue.frontend.welcome(&arrival.handover, &mut dialogue.out);
    dialogue.out.put(&arrival.early);
    // Who is told to end meanwhile does so at once, however slowly the client reads.
    let said = tokio::select! {
        said = dialogue.say(ANSWER) => said,
        _ = stop.stopped() => true,
    };
    if !said {
        // Nothing can follow half an answer; but the backend's FIN is awaited as ever.
        handle.stop(Ending::ClientLost);
    }
    let session = RelaySession {
        settings: services.relay.load_full(),
        stop,
        isolation,
        leftover: dialogue.input.filled().to_vec(),
        last_words: spoken::last_words(record.protocol),
    };
    let is_stranger = slot.is_none();
    let mut record = Box::new(record);
    let place = dialogue.guest.place;
    let relay = relay(dialogue.guest.stream, arrival.stream, session, move |outcome| {
        record.relayed(outcome);
        drop(slot);
    });
    let relay = async move {
        relay.await;
        drop((counted, seat, place));
    };
    if is_stranger {
        services.tasks.spawn(outside_the_ledger(relay, handle, services.closing.clone()));
    } else {
        services.tasks.spawn(relay);
    }
}

/// Runs the relay of a session that the ledger does not know, and so cannot end when the proxy goes down.
async fn outside_the_ledger(relay: impl Future<Output = ()>, handle: StopHandle, closing: CancellationToken) {
    let mut relay = pin!(relay);
    tokio::select! {
        () = relay.as_mut() => return,
        () = closing.cancelled() => handle.stop(Ending::Shutdown),
    };
    relay.await;
}
