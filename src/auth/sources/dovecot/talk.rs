//! One persistent connection with many questions under way, each by its number.
//!
//! The connection is made when a question comes, and belongs to a task that ends with the last handle. A server that
//! cannot be reached is tried again after a pause that grows; meanwhile every question is told so at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::road::{Lines, Road, Role};
use super::text::{Answer, Line, Request, Word, read_auth_line};
use crate::config::AuthSocket;
use crate::model::Mechanism;
use crate::net::Stream;

/// Questions that may wait to be written.
const QUEUE: usize = 1024;

/// Questions that are written at once.
const BATCH: usize = 64;

/// How long a write may take, when the server does not read.
const WRITE: Duration = Duration::from_secs(5);

/// A question was given up after so long, and nothing at all was said since it was put: the connection is dead.
const SILENCE: Duration = Duration::from_secs(3);

/// Pauses between attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3)];

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection ended under way.
    Lost,
    /// There is no connection; the text is for the operator.
    Unreachable(String),
    /// The question is longer than a line may be.
    TooLong,
}

/// A handle to the connection.
pub(super) struct Talk {
    calls: mpsc::Sender<Call>,
    next: AtomicU32,
    offered: Arc<Offered>,
}

/// The mechanisms that the server offers; `None` before it was first connected.
type Offered = ArcSwapOption<Vec<Mechanism>>;

struct Call {
    id: u32,
    request: Arc<Request>,
    answer: oneshot::Sender<Result<Answer, Fault>>,
}

/// What both directions of a connection know.
struct Shared {
    role: Role,
    state: Mutex<State>,
}

struct State {
    waiting: HashMap<u32, Waiting>,
    heard: Instant,
}

struct Waiting {
    answer: oneshot::Sender<Result<Answer, Fault>>,
    asked: Instant,
}

impl Talk {
    /// Needs a runtime. Nothing is dialled before the first question.
    pub(super) fn new(socket: AuthSocket, role: Role) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE);
        let offered = Arc::new(Offered::empty());
        tokio::spawn(run(socket, role, queue, Arc::clone(&offered)));
        Self { calls, next: AtomicU32::new(1), offered }
    }

    /// It has not said that it lacks this mechanism.
    pub(super) fn may_offer(&self, mechanism: Mechanism) -> bool {
        self.offered.load().as_ref().is_none_or(|offered| offered.contains(&mechanism))
    }

    /// Puts a question. If the connection ends under way, as when the server reloads, it is put once more.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer, Fault> {
        let request = Arc::new(request);
        match self.once(&request).await {
            Err(Fault::Lost) => self.once(&request).await,
            other => other,
        }
    }

    async fn once(&self, request: &Arc<Request>) -> Result<Answer, Fault> {
        let (answer, heard) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let call = Call { id, request: Arc::clone(request), answer };
        self.calls.send(call).await.map_err(|_| Fault::Lost)?;
        heard.await.map_err(|_| Fault::Lost)?
    }
}

/// Connects for each question that finds no connection, and serves it as long as it lasts.
async fn run(socket: AuthSocket, role: Role, mut calls: mpsc::Receiver<Call>, offered: Arc<Offered>) {
    let mut pause = PAUSES[0];
    let mut closed: Option<(Instant, String)> = None;
    while let Some(call) = calls.recv().await {
        if let Some((until, why)) = &closed
            && Instant::now() < *until
        {
            let _ = call.answer.send(Err(Fault::Unreachable(why.clone()))); // whoever asked may be gone
            continue;
        }
        match Road::open(&socket, role).await {
            Ok(mut road) => {
                offered.store(Some(Arc::new(std::mem::take(&mut road.mechanisms))));
                (pause, closed) = (PAUSES[0], None);
                let why = serve(road, role, call, &mut calls).await;
                tracing::debug!("passdb dovecot {}: the connection has ended: {why}", super::road::place(&socket));
            }
            Err(why) => {
                closed = Some((Instant::now() + pause, why.clone()));
                pause = (pause * 2).min(PAUSES[1]);
                let _ = call.answer.send(Err(Fault::Unreachable(why)));
            }
        }
    }
}

/// Both directions, until one ends; says why. Whoever still waits then is told by the end of its channel.
async fn serve(road: Road, role: Role, first: Call, calls: &mut mpsc::Receiver<Call>) -> String {
    let Road { mut lines, mut write, minor, .. } = road;
    let shared = Shared { role, state: Mutex::new(State { waiting: HashMap::new(), heard: Instant::now() }) };
    tokio::select! {
        why = put_questions(&mut write, minor, first, calls, &shared) => why,
        why = read_answers(&mut lines, &shared) => why,
    }
}

async fn put_questions(
    write: &mut WriteHalf<Stream>,
    minor: u32,
    first: Call,
    calls: &mut mpsc::Receiver<Call>,
    shared: &Shared,
) -> String {
    let mut batch = vec![first];
    loop {
        let Some(bytes) = shared.note(&mut batch, minor) else {
            return "it has said nothing for a while".to_owned();
        };
        match timeout(WRITE, write.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "it does not read".to_owned(),
        }
        if calls.recv_many(&mut batch, BATCH).await == 0 {
            return "nobody asks any more".to_owned();
        }
    }
}

async fn read_answers(lines: &mut Lines, shared: &Shared) -> String {
    loop {
        match lines.next(read_auth_line).await {
            Ok(Ok(Line::Answer(answer))) => shared.answered(answer),
            Ok(Ok(_)) => {}
            Ok(Err(garbled)) => return garbled.to_string(),
            Err(why) => return why,
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the questions down as asked, and those that were given up as cancelled. `None` if the connection is dead.
    fn note(&self, batch: &mut Vec<Call>, minor: u32) -> Option<Zeroizing<Vec<u8>>> {
        let mut state = self.state();
        let (now, heard) = (Instant::now(), state.heard);
        let mut cancelled = Vec::new();
        let mut dead = false;
        state.waiting.retain(|id, waiting| {
            let gone = waiting.answer.is_closed();
            dead |= gone && waiting.asked >= heard && now - waiting.asked >= SILENCE;
            cancelled.extend(gone.then_some(*id));
            !gone
        });
        if dead {
            return None;
        }
        let mut lines = Vec::with_capacity(batch.len());
        for Call { id, request, answer } in batch.drain(..) {
            match request.line(id, minor) {
                Some(line) => {
                    lines.push(line);
                    state.waiting.insert(id, Waiting { answer, asked: now });
                }
                None => drop(answer.send(Err(Fault::TooLong))),
            }
        }
        Some(self.bytes(&lines, &cancelled))
    }

    /// One buffer that never grows, so that no copy of a password stays behind.
    fn bytes(&self, lines: &[Zeroizing<Vec<u8>>], cancelled: &[u32]) -> Zeroizing<Vec<u8>> {
        let cancels = match self.role {
            Role::Client => cancelled.iter().map(|id| format!("CANCEL\t{id}\n")).collect(),
            Role::Master => String::new(), // it has no such word
        };
        let length = cancels.len() + lines.iter().map(|line| line.len()).sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(cancels.as_bytes());
        lines.iter().for_each(|line| bytes.extend_from_slice(line));
        bytes
    }

    fn answered(&self, answer: Answer) {
        let mut state = self.state();
        state.heard = Instant::now();
        if let Some(waiting) = state.waiting.remove(&answer.id) {
            if answer.word == Word::Cont {
                // It waits for more, which nobody has to say: the next words are that this is given up.
                let (given_up, _) = oneshot::channel();
                state.waiting.insert(answer.id, Waiting { answer: given_up, asked: waiting.asked });
            }
            let _ = waiting.answer.send(Ok(answer)); // whoever asked may be gone
        }
    }
}
