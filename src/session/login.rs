//! The story of a connection: identify, greet, authenticate, enter, answer; then the relay takes over.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::info;

use super::door::{Door, Guest};
use super::ending::{Login, Record};
use super::entry::{Entry, Failure, enter};
use super::{Counted, Services};
use crate::model::{Credentials, Ending, Phase, Refusal};
use crate::net::{DriveError, canonical, drive, flush};
use crate::protocol::{ClientWish, Farewell, Frontend, Input, Output, Violation};
use crate::relay::{RelaySession, relay};

/// How long an answer may take to send, when the client does not read.
const ANSWER: Duration = Duration::from_secs(10);

/// The dialogue before login.
struct Dialogue {
    guest: Guest,
    frontend: Box<dyn Frontend>,
    input: Input,
    out: Output,
}

/// Serves one client from accept until its relay has started, or until it is gone.
pub(super) async fn serve(door: &Door, tcp: TcpStream, peer: SocketAddr, counted: Counted) {
    let deadline = Instant::now() + door.services.limits.load().login_timeout;
    let mut record = Record::new(canonical(peer), door.listener.address);
    let Some(guest) = door.identify(tcp, peer, &mut record).await else { return };
    let mut frontend = door.frontend(&guest);
    let mut out = Output::new();
    frontend.greet(&mut out);
    let input = Input::with_capacity(door.services.limits.load().line);
    let mut dialogue = Dialogue { guest, frontend, input, out };
    loop {
        let wish = match next_wish(door, &mut dialogue, deadline).await {
            Ok(wish) => wish,
            Err((ending, detail)) => return record.end(ending, Phase::Preauth, detail),
        };
        match wish {
            ClientWish::Logout => return record.end(Ending::ClientClosed, Phase::Preauth, None),
            ClientWish::StartTls => {
                let Some(guest) = door.encrypt(dialogue.guest, &mut record).await else { return };
                dialogue.guest = guest;
                dialogue.frontend.secured();
            }
            ClientWish::Authenticate(credentials) => {
                match authenticate(door, &mut dialogue, &credentials, &mut record).await {
                    Ok(entry) => {
                        return hand_over(&door.services, dialogue, entry, &credentials, record, counted).await;
                    }
                    Err(Some((ending, detail))) => return record.end(ending, Phase::Auth, detail),
                    Err(None) => {}
                }
            }
        }
    }
}

/// An end, and what the operator should know about it.
type End = (Ending, Option<String>);

/// Runs the dialogue until the client wants something done.
async fn next_wish(door: &Door, dialogue: &mut Dialogue, deadline: Instant) -> Result<ClientWish, End> {
    let Dialogue { guest, frontend, input, out } = dialogue;
    let farewell = tokio::select! {
        outcome = drive(frontend.as_mut(), &mut guest.stream, input, out) => return outcome.map_err(end_of),
        () = tokio::time::sleep_until(deadline) => Farewell::TimedOut,
        () = door.services.closing.cancelled() => Farewell::ShuttingDown,
    };
    // What was to be sent and was not is of no use to a client that is told to go.
    out.clear();
    frontend.farewell(farewell, out);
    say(dialogue).await;
    Err((if farewell == Farewell::TimedOut { Ending::ClientIdle } else { Ending::Shutdown }, None))
}

fn end_of(error: DriveError) -> End {
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
    record: &mut Record,
) -> Result<Box<Entry>, Option<End>> {
    let client_id = dialogue.frontend.client_id();
    let failure = match Box::pin(enter(&door.services, &dialogue.guest, credentials, client_id)).await {
        Ok(entry) => return Ok(Box::new(entry)),
        Err(failure) => failure,
    };
    let (refusal, outcome) = match failure {
        Failure::Refused(why) => (why, dialogue.frontend.refuse(why, &mut dialogue.out)),
        Failure::Backend(words) => {
            let why = if words.temporary { Refusal::BackendUnavailable } else { Refusal::BadCredentials };
            (why, dialogue.frontend.relay_refusal(&words, &mut dialogue.out))
        }
    };
    record.refusal = Some(refusal);
    info!(
        session = %record.session,
        user = credentials.user.escape_debug().to_string(),
        mechanism = credentials.mechanism.name(),
        client = %record.client,
        refusal = refusal.word(),
        "login refused"
    );
    say(dialogue).await;
    Err(outcome.err().map(|violation| end_of(violation.into())))
}

/// Sends what is to be said, to whoever still listens.
async fn say(dialogue: &mut Dialogue) {
    // A client that is gone, or does not read, shows at the next read; nothing is owed to it.
    let _ = timeout(ANSWER, flush(&mut dialogue.guest.stream, &mut dialogue.out)).await;
}

/// The answer, and the relay in a task of its own.
async fn hand_over(
    services: &Services,
    mut dialogue: Dialogue,
    entry: Box<Entry>,
    credentials: &Credentials,
    mut record: Record,
    counted: Counted,
) {
    let Entry { user, key, backend, arrival, slot, stop, isolation } = *entry;
    let address = arrival.address;
    record.login = Some(Login { user, key, mechanism: credentials.mechanism, backend, address });
    dialogue.frontend.welcome(&arrival.handover, &mut dialogue.out);
    dialogue.out.put(&arrival.early);
    // If it fails, the relay finds the client gone, and waits for the backend's FIN as it must.
    say(&mut dialogue).await;
    let session = RelaySession {
        settings: services.relay.load_full(),
        stop,
        isolation,
        leftover: dialogue.input.filled().to_vec(),
    };
    let mut record = Box::new(record);
    let relay = relay(dialogue.guest.stream, arrival.stream, session, move |outcome| {
        record.relayed(outcome);
        drop(record);
        drop(slot);
    });
    services.tasks.spawn(async move {
        relay.await;
        drop(counted);
    });
}
