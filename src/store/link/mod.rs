//! A proxy's one line to a shard: says hello, numbers the calls, and knows what no answer means.
//!
//! Calls are numbered while a pipeline is built, and one pipeline is under way at a time: calls that several tasks
//! numbered would overtake each other. Whatever goes wrong, the caller hears [`NoAnswer`]. Unless the call was never sent,
//! that says nothing about whether it was applied; the key's present count must be declared later.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Call, Connection, Hello, Reply, Request, Store, StoreError, Welcome};
use crate::model::{Clock, Incarnation, Tasks};

/// The most calls in one pipeline.
const PIPELINE: usize = 100;
/// First pause before connecting anew; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
/// Longest pause before connecting anew.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Who speaks over a link.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This run of the proxy.
    pub incarnation: Incarnation,
    /// Its configured name.
    pub name: String,
    /// Version of homing.
    pub version: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The line was down, so the call was never sent and changed nothing.
    #[error("the store cannot be asked")]
    Unsent,
    /// Nothing is known about the call: not whether it was applied, nor in which order with later ones.
    #[error("the store gave no answer")]
    Unknown,
}

/// An answer and how old it may be.
#[derive(Debug)]
pub struct Answer {
    /// What the store said. Never `Lost` or `Stale`: those are no answer.
    pub reply: Reply,
    /// When the call was sent, by a clock that runs on while the machine sleeps.
    pub sent_boottime_ms: u64,
}

/// Whether a link is up, and what its hellos demanded.
#[derive(Clone, Debug, Default)]
pub struct LinkState {
    /// The answer to the hello of the present connection; `None` while there is none.
    pub welcome: Option<Welcome>,
    /// Hellos answered so far.
    pub hellos: u64,
    /// Number of the last hello that was told to re-assert; 0 for none.
    pub assert_owed: u64,
    /// When the last hello was sent: it renews the lease, too.
    pub hello_boottime_ms: u64,
}

/// A line to one shard. Cheap to clone; the task behind it ends with the last clone.
#[derive(Clone)]
pub struct Link {
    queue: mpsc::UnboundedSender<Job>,
    state: watch::Receiver<LinkState>,
}

/// The answer to a call that was queued.
pub type Pending = oneshot::Receiver<Result<Answer, NoAnswer>>;

struct Job {
    request: Request,
    /// Only under this hello, if any.
    hello: Option<u64>,
    /// Nothing is to be sent after it.
    last: bool,
    answer: oneshot::Sender<Result<Answer, NoAnswer>>,
}

impl Link {
    /// Starts the task that keeps the line. `patience`: how long an answer may take (1 s by default).
    pub fn start(
        store: Arc<dyn Store>,
        shard: u16,
        identity: Identity,
        patience: Duration,
        clock: Clock,
        tasks: &Tasks,
    ) -> Self {
        let (queue, jobs) = mpsc::unbounded_channel();
        let (news, state) = watch::channel(LinkState::default());
        let keeper =
            Keeper { store, shard, identity, patience, clock, news, seq: 0, acked: 0, errand: 0, run: String::new() };
        tasks.spawn(keeper.run(jobs));
        Self { queue, state }
    }

    /// Queues a call. The order of `send`s is the order in which the store applies them. Never blocks, so it may be
    /// called under the ledger's lock. While the line is down the answer is [`NoAnswer::Unsent`], at once.
    pub fn send(&self, request: Request) -> Pending {
        self.queue(request, None, false)
    }

    /// Queues a call and waits for its answer.
    pub async fn call(&self, request: Request) -> Result<Answer, NoAnswer> {
        answer(self.send(request)).await
    }

    /// Like [`Link::call`], but only under that hello: what is said is true of no other.
    pub async fn call_under(&self, hello: u64, request: Request) -> Result<Answer, NoAnswer> {
        answer(self.queue(request, Some(hello), false)).await
    }

    /// The last call: with it the line closes for good, whatever other tasks still want to say. A hello that followed it
    /// would undo a farewell.
    pub async fn part_with(&self, request: Request) -> Result<Answer, NoAnswer> {
        answer(self.queue(request, None, true)).await
    }

    fn queue(&self, request: Request, hello: Option<u64>, last: bool) -> Pending {
        let (answer, pending) = oneshot::channel();
        // If the task is gone, the dropped sender says so to `pending`.
        let _ = self.queue.send(Job { request, hello, last, answer });
        pending
    }

    /// News of the line.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }
}

/// Waits for a queued call's answer.
pub async fn answer(pending: Pending) -> Result<Answer, NoAnswer> {
    pending.await.unwrap_or(Err(NoAnswer::Unknown))
}

/// Why a connection was given up.
enum Parting {
    /// The last call was sent, or every handle of the link is gone.
    Over,
    /// The store does not know us any more: hello at once.
    Lost,
    /// It broke.
    Broken(StoreError),
}

struct Keeper {
    store: Arc<dyn Store>,
    shard: u16,
    identity: Identity,
    patience: Duration,
    clock: Clock,
    news: watch::Sender<LinkState>,
    /// The highest number sent.
    seq: u64,
    /// The highest number answered.
    acked: u64,
    /// The highest errand that an answer has brought: whoever asked takes it on, unless it has gone meanwhile.
    errand: u64,
    /// The server run of the last hello.
    run: String,
}

impl Keeper {
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        let mut pause = PAUSE;
        let mut told = false;
        // Nobody waits for a server that may not answer, also while it is being dialled.
        while let Some(connected) = refusing(&mut jobs, self.connect()).await {
            let parting = match connected {
                Ok(connection) => {
                    info!(shard = self.shard, "store link up");
                    (pause, told) = (PAUSE, false);
                    self.serve(connection, &mut jobs).await
                }
                Err(error) => Parting::Broken(error),
            };
            self.news.send_modify(|state| state.welcome = None);
            match parting {
                Parting::Over => return,
                Parting::Lost => info!(shard = self.shard, "the store has lost this proxy; saying hello again"),
                Parting::Broken(error) if !told => {
                    warn!(shard = self.shard, %error, "store link down; live sessions go on, reconnecting");
                    told = true;
                }
                Parting::Broken(_) => {}
            }
            if refusing(&mut jobs, sleep(jittered(pause, &self.identity.incarnation, self.seq))).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Connects and says hello.
    async fn connect(&mut self) -> Result<Box<dyn Connection>, StoreError> {
        let give_up = self.no_answer("no connection within the time-out");
        let mut connection =
            timeout(self.patience * 2, self.store.connect(self.shard)).await.map_err(|_| give_up)??;
        self.seq += 1;
        let sent = self.clock.now_ms();
        let Identity { name, version, .. } = self.identity.clone();
        let hello = Hello { acked: self.acked, errand: self.errand, name, version };
        let call = self.number(self.seq, String::new(), Request::Hello(hello));
        let give_up = self.no_answer("no answer to hello within the time-out");
        let replies =
            timeout(self.patience, connection.exchange(std::slice::from_ref(&call))).await.map_err(|_| give_up)??;
        let Some(Reply::Hello(welcome)) = replies.into_iter().next() else {
            return Err(self.no_answer("a hello was not answered as one"));
        };
        self.acked = self.seq;
        self.run.clone_from(&welcome.run);
        self.news.send_modify(|state| {
            state.hellos += 1;
            if welcome.assert {
                state.assert_owed = state.hellos;
            }
            state.hello_boottime_ms = sent;
            state.welcome = Some(welcome);
        });
        Ok(connection)
    }

    /// Sends pipelines, one at a time, until the line must be given up.
    async fn serve(&mut self, mut connection: Box<dyn Connection>, jobs: &mut mpsc::UnboundedReceiver<Job>) -> Parting {
        let mut batch = Vec::with_capacity(PIPELINE);
        while jobs.recv_many(&mut batch, PIPELINE).await > 0 {
            let hello = self.news.borrow().hellos;
            // Whoever meant another hello hears of it by the dropped sender.
            batch.retain(|job: &Job| job.hello.is_none_or(|wanted| wanted == hello));
            let last = batch.iter().position(|job| job.last);
            batch.truncate(last.map_or(PIPELINE, |last| last + 1));
            if batch.is_empty() {
                continue;
            }
            let (calls, askers) = self.number_all(std::mem::take(&mut batch));
            let sent_boottime_ms = self.clock.now_ms();
            let outcome = timeout(self.patience, connection.exchange(&calls)).await;
            let replies = match outcome {
                Ok(Ok(replies)) => replies,
                Ok(Err(error)) => return Parting::Broken(error),
                Err(_) => return Parting::Broken(self.no_answer("the time-out has passed")),
            };
            let mut lost = replies.len() != calls.len();
            for ((call, asker), reply) in calls.iter().zip(askers).zip(replies) {
                let answer = match reply {
                    Reply::Lost => {
                        lost = true;
                        Err(NoAnswer::Unknown)
                    }
                    Reply::Stale => Err(NoAnswer::Unknown),
                    reply => {
                        self.acked = call.seq;
                        self.note_errands(&reply);
                        Ok(Answer { reply, sent_boottime_ms })
                    }
                };
                // Nobody may be waiting any more; whoever asked has marked the key dirty then.
                let _ = asker.send(answer);
            }
            if last.is_some() {
                return Parting::Over;
            }
            if lost {
                return Parting::Lost;
            }
        }
        Parting::Over
    }

    fn note_errands(&mut self, reply: &Reply) {
        if let Reply::Heartbeat(beat) = reply {
            self.errand = beat.errands.iter().map(|(number, _)| *number).fold(self.errand, u64::max);
        }
    }

    fn number_all(&mut self, jobs: Vec<Job>) -> (Vec<Call>, Vec<oneshot::Sender<Result<Answer, NoAnswer>>>) {
        let first = self.seq + 1;
        self.seq += jobs.len() as u64;
        (first..).zip(jobs).map(|(seq, job)| (self.number(seq, self.run.clone(), job.request), job.answer)).unzip()
    }

    fn number(&self, seq: u64, run: String, request: Request) -> Call {
        Call { incarnation: self.identity.incarnation.clone(), run, seq, request }
    }

    fn no_answer(&self, why: &str) -> StoreError {
        StoreError::NoAnswer { at: format!("shard {}", self.shard), why: why.to_owned() }
    }
}

/// Does `work`, and meanwhile tells whoever asks that nothing is sent. `None` if nobody can ask any more, or nobody may.
async fn refusing<T>(jobs: &mut mpsc::UnboundedReceiver<Job>, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased; // the work first: it ends this, so it cannot starve those who ask
            done = &mut work => return Some(done),
            job = jobs.recv() => {
                let Job { answer, last, .. } = job?;
                // Whoever asked may have gone.
                let _ = answer.send(Err(NoAnswer::Unsent));
                if last {
                    return None;
                }
            }
        }
    }
}

/// Between half and all of `pause`, so that a fleet does not reconnect in step: FNV-1a of who asks and how often it has.
fn jittered(pause: Duration, who: &Incarnation, time: u64) -> Duration {
    let salt = time.to_le_bytes();
    let hash = who
        .as_str()
        .bytes()
        .chain(salt)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    pause.mul_f64(0.5 + (hash >> 56) as f64 / 510.0)
}

#[cfg(test)]
mod tests;
