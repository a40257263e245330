//! One source in the chain: its time-out, its turns, its breaker, its counters, and what is written about it.
//!
//! Only the question itself is timed. A password hash is computed afterwards, on the hasher: that its queue is long says
//! nothing about the source.

mod breaker;
mod complaints;
mod stats;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::keys::MadeUp;
use super::pace::Pace;
use super::scheme::Stored;
use super::verifier::Verifier;
use super::{Decoy, Denial, Grant, Lookup, Question, Source, Verdict};
use crate::config::RemoteKeys;
use crate::model::{Mechanism, ScramHash, ScramKeys, SessionId};
use stats::{Counters, Outcome};

pub(super) use breaker::{Breaker, Change};
pub(super) use complaints::Complaints;
pub use stats::{LATENCY_BOUNDS, SourceStats};

/// A source, and what surrounds it.
pub(super) struct Link {
    source: Box<dyn Source>,
    /// None for a source of this machine.
    gate: Option<Gate>,
    verifier: Verifier,
    counters: Counters,
    complaints: Complaints,
    /// How long it takes to make keys for SCRAM of what is stored.
    making: Pace,
    /// What its answers are kept by, if they are kept.
    label: Option<String>,
}

/// What a source is answered for, in the end.
#[derive(Debug)]
pub(super) enum Answer {
    Granted(Box<Grant>),
    Denied(Denial),
    /// To a question for them.
    Keys(ScramKeys),
    Unknown,
    /// The operator has been told why.
    Unavailable,
}

/// How a source of the network is asked.
struct Gate {
    timeout: Duration,
    turns: Semaphore,
    breaker: Breaker,
}

/// Why there is no verdict.
enum NoVerdict {
    Refused,
    NoTurn,
    TimedOut,
}

impl Link {
    /// A source of this machine: it is asked by all at once and as long as it takes.
    pub(super) fn local(source: Box<dyn Source>, verifier: Verifier) -> Self {
        let (counters, complaints, making) = (Counters::default(), Complaints::default(), Pace::default());
        Self { source, gate: None, verifier, counters, complaints, making, label: None }
    }

    /// A source that may be slow or away.
    pub(super) fn remote(source: Box<dyn Source>, keys: &RemoteKeys, verifier: Verifier) -> Self {
        let gate = Gate {
            timeout: keys.timeout,
            turns: Semaphore::new(keys.parallel.clamp(1, Semaphore::MAX_PERMITS)),
            breaker: Breaker::new(keys.failures, keys.pause),
        };
        Self { gate: Some(gate), ..Self::local(source, verifier) }
    }

    /// Its answers are kept by this label, which says what it is asked, and how: from another question other answers come.
    pub(super) fn kept_by(self, label: Option<String>) -> Self {
        Self { label, ..self }
    }

    /// What its answers are kept by, if they are kept.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Kind and place.
    pub(super) fn name(&self) -> String {
        self.source.name()
    }

    /// See [`Source::leaves_it_to_the_backend`].
    pub(super) fn leaves_it_to_the_backend(&self) -> bool {
        self.source.leaves_it_to_the_backend()
    }

    /// See [`Source::takes_tokens`]: by any mechanism.
    pub(super) fn takes_tokens(&self) -> bool {
        [Mechanism::OAuthBearer, Mechanism::XOAuth2].into_iter().any(|mechanism| self.source.takes_tokens(mechanism))
    }

    /// Who is it?
    pub(super) async fn ask(&self, question: &Question<'_>) -> Answer {
        let begun = Instant::now();
        let verdict = match self.pass(self.source.ask(question)).await {
            Ok(verdict) => self.verifier.judge(verdict, question, || self.source.decoy()).await,
            Err(why) => return self.without(why, begun, question.session),
        };
        self.settle(verdict, begun, question.session)
    }

    /// The source itself, for what it says of itself.
    pub(super) fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// What a SCRAM exchange with somebody needs; who is known and has nothing of the kind is denied.
    pub(super) async fn scram_keys(&self, question: &Question<'_>, hash: ScramHash, made_up: &MadeUp) -> Answer {
        let begun = Instant::now();
        let verdict = match self.pass(self.source.ask(question)).await {
            Ok(verdict) => verdict,
            Err(why) => return self.without(why, begun, question.session),
        };
        let verdict = match verdict {
            Verdict::Stored(user) => {
                let begun = Instant::now();
                let made = self.verifier.scram_keys(*user, hash, made_up).await;
                self.making.note(begun.elapsed());
                match made {
                    Ok(Some(keys)) => {
                        self.counters.note(Outcome::Granted, begun.elapsed());
                        return Answer::Keys(keys);
                    }
                    Ok(None) => Verdict::Denied(Denial::Password),
                    Err(error) => Verdict::Faulty(error.to_string()),
                }
            }
            // It has looked, and has nothing stored.
            Verdict::Granted(_) => Verdict::Denied(Denial::Password),
            Verdict::Unknown => {
                self.making.keep().await;
                Verdict::Unknown
            }
            other => other,
        };
        self.settle(verdict, begun, question.session)
    }

    /// How many rounds the keys of its users have, if it knows.
    pub(super) fn usual_rounds(&self, hash: ScramHash) -> Option<NonZeroU32> {
        match self.source.decoy()? {
            Decoy(Stored::Scram(keys), _) if keys.hash == hash => Some(keys.rounds),
            _ => None,
        }
    }

    /// What is known about somebody who does not log in?
    pub(super) async fn find(&self, lookup: &Lookup<'_>) -> Answer {
        let begun = Instant::now();
        match self.pass(self.source.find(lookup)).await {
            Ok(verdict) => self.settle(verdict, begun, lookup.session),
            Err(why) => self.without(why, begun, lookup.session),
        }
    }

    /// Everybody's names, if the source can list them; an error has been written about. It may take as long as there are
    /// names, so that it is not timed here.
    pub(super) async fn list(&self, session: &SessionId) -> Option<Result<Vec<String>, ()>> {
        let names = self.source.list().await?;
        Some(names.map_err(|why| self.complaints.add(&self.who(), &why, session)))
    }

    /// How it fares.
    pub(super) fn stats(&self, master: bool) -> SourceStats {
        let paused = self.gate.as_ref().is_some_and(|gate| !gate.breaker.is_closed());
        self.counters.read(self.source.name(), master, paused)
    }

    /// Asks, if the source may be asked.
    async fn pass(&self, question: impl Future<Output = Verdict>) -> Result<Verdict, NoVerdict> {
        let Some(gate) = &self.gate else { return Ok(question.await) };
        if !gate.breaker.is_closed() {
            // The one that probes needs no turn: those who have one may all be waiting for the dead.
            return self.put(gate, question).await;
        }
        let turn = timeout(gate.timeout, gate.turns.acquire()).await;
        let _turn = turn.map_err(|_| NoVerdict::NoTurn)?;
        self.put(gate, question).await
    }

    /// Asks and tells the breaker, which may have opened meanwhile.
    async fn put(&self, gate: &Gate, question: impl Future<Output = Verdict>) -> Result<Verdict, NoVerdict> {
        let pass = gate.breaker.admit().ok_or(NoVerdict::Refused)?;
        match timeout(gate.timeout, question).await {
            Ok(verdict) => {
                let failed = matches!(verdict, Verdict::Unavailable(_));
                self.tell(gate, if failed { pass.failed() } else { pass.succeeded() });
                Ok(verdict)
            }
            Err(_) => {
                self.tell(gate, pass.failed());
                Err(NoVerdict::TimedOut)
            }
        }
    }

    /// For complaints.
    fn who(&self) -> String {
        format!("passdb {}", self.source.name())
    }

    fn tell(&self, gate: &Gate, change: Change) {
        let source = self.source.name();
        match change {
            Change::None => {}
            Change::Opened => tracing::error!(
                "passdb {source} failed several times in a row: it is asked only once per {:?} until it answers",
                gate.breaker.pause()
            ),
            Change::Closed => tracing::info!("passdb {source} answers again"),
        }
    }

    fn settle(&self, verdict: Verdict, begun: Instant, session: &SessionId) -> Answer {
        let (outcome, answer) = match verdict {
            Verdict::Granted(grant) => (Outcome::Granted, Answer::Granted(grant)),
            Verdict::Denied(denial) => (Outcome::Denied, Answer::Denied(denial)),
            Verdict::Unknown => (Outcome::Unknown, Answer::Unknown),
            Verdict::Stored(_) => (Outcome::Denied, Answer::Denied(Denial::Password)), // nobody verified it
            Verdict::Unavailable(why) | Verdict::Faulty(why) => {
                self.complaints.add(&self.who(), &why, session);
                (Outcome::Unavailable, Answer::Unavailable)
            }
        };
        self.counters.note(outcome, begun.elapsed());
        answer
    }

    fn without(&self, why: NoVerdict, begun: Instant, session: &SessionId) -> Answer {
        let (outcome, text) = match why {
            NoVerdict::Refused => (Outcome::Refused, "it is not asked, because it failed several times in a row"),
            NoVerdict::NoTurn => {
                (Outcome::TimedOut, "no turn in time: as many questions as parallel says are under way")
            }
            NoVerdict::TimedOut => (Outcome::TimedOut, "no answer in time"),
        };
        self.complaints.add(&self.who(), text, session);
        self.counters.note(outcome, begun.elapsed());
        Answer::Unavailable
    }
}
