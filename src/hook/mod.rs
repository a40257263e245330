//! The operator's own step in a move, between the old backend and the new: a command, or a URL.
//!
//! Whoever runs a hook decides when, and that it is once; here it is run within bounds: of time, of what it may say, and
//! of how many run at once. A command sees none of our secrets, files or sockets.

mod command;
#[cfg(test)]
mod tests;
mod url;

use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::config::MovesConfig;
use crate::model::{BackendId, Key, Weight};
use crate::net::{Proof, Target, TargetFault, TlsFault};

/// Hooks of this proxy that run at once; others wait for their turn.
const AT_ONCE: usize = 100;
/// How long they do: whoever orders a hook is taken for dead if it takes much longer than the hook may.
const TURN: Duration = Duration::from_secs(5);
/// Bytes that are kept of what a hook says: its last ones, where the reason usually is.
const SAID_MAX: usize = 4096;

/// What runs before a user's new home is used.
pub struct Hook {
    kind: Kind,
    timeout: Duration,
    turns: Semaphore,
}

enum Kind {
    Command(Vec<String>),
    Url(Target),
}

/// Who moves, and from where to where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MoveArguments {
    /// The affinity key.
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    /// The backend that was left.
    #[serde(serialize_with = "as_text")]
    pub from: BackendId,
    /// Its host name or address.
    pub from_host: String,
    /// Whether it is up.
    pub from_up: bool,
    /// Its weight.
    #[serde(serialize_with = "as_number")]
    pub from_weight: Weight,
    /// The backend that is to be used, unless it will be chosen at the next login.
    #[serde(serialize_with = "as_text_or_null")]
    pub to: Option<BackendId>,
    /// Its host name or address.
    pub to_host: Option<String>,
    /// A hook may have run for this move before: who ran it died, and nobody knows how far it came.
    pub again: bool,
}

/// Why a hook did not do its part. The user must not be moved then.
#[derive(Debug, thiserror::Error)]
pub enum HookFailure {
    /// Too many others are running.
    #[error("{AT_ONCE} hooks are running, and none of them has ended within {TURN:?}")]
    Crowded,
    /// The command cannot be started.
    #[error("{program} cannot be started: {source}")]
    NotStarted {
        /// Its path.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The command failed.
    #[error("{program} ended with {how}{}", quoted(said))]
    Failed {
        /// Its path.
        program: String,
        /// "exit code 1", "signal 9".
        how: String,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// The URL was answered with something else than 2xx.
    #[error("{place} answered {status}{}", quoted(said))]
    Refused {
        /// Where.
        place: String,
        /// What.
        status: u16,
        /// The beginning of the answer's body.
        said: String,
    },
    /// The URL gave no answer.
    #[error("{place} {source}")]
    Unanswered {
        /// Where.
        place: String,
        /// Why.
        source: TargetFault,
    },
    /// It took too long. A command was killed, with all that it had started.
    #[error("{what} took longer than {limit:?}{}", quoted(said))]
    TimedOut {
        /// Path or URL.
        what: String,
        /// moves.hook_timeout.
        limit: Duration,
        /// The end of what a command wrote to standard error.
        said: String,
    },
}

impl Hook {
    /// None if no hook is configured.
    pub fn new(config: &MovesConfig) -> Result<Option<Self>, TlsFault> {
        let kind = match &config.before_move_url {
            _ if !config.before_move.is_empty() => Kind::Command(config.before_move.clone()),
            Some(url) => {
                let proof = url.is_tls().then_some(Proof { ca: None, name: None, verify: true });
                Kind::Url(Target::new(url.endpoint().clone(), proof)?)
            }
            None => return Ok(None),
        };
        Ok(Some(Self { kind, timeout: config.hook_timeout, turns: Semaphore::new(AT_ONCE) }))
    }

    /// Runs it once. The time that it may take begins when it is its turn. If this future is dropped, a command is killed
    /// with all that it has started.
    pub async fn run(&self, arguments: &MoveArguments) -> Result<(), HookFailure> {
        let Ok(Ok(_turn)) = timeout(TURN, self.turns.acquire()).await else { return Err(HookFailure::Crowded) };
        let began = Instant::now();
        let outcome = match &self.kind {
            Kind::Command(words) => command::run(words, arguments, self.timeout).await,
            Kind::Url(target) => url::post(target, arguments, self.timeout).await.map(|()| String::new()),
        };
        let (key, ms) = (&arguments.key, began.elapsed().as_millis());
        match outcome {
            Ok(said) => {
                debug!(%key, ms, said, "before_move hook done");
                Ok(())
            }
            Err(failure) => {
                warn!(%key, from = %arguments.from, ms, %failure, "before_move hook failed");
                Err(failure)
            }
        }
    }
}

/// What a hook said, fit for a log line and for a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" | ").chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A hook's words behind our own.
fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

fn as_text<S: serde::Serializer>(name: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(name)
}

fn as_text_or_null<S: serde::Serializer>(name: &Option<BackendId>, to: S) -> Result<S::Ok, S::Error> {
    match name {
        Some(name) => to.collect_str(name),
        None => to.serialize_none(),
    }
}

fn as_number<S: serde::Serializer>(weight: &Weight, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u32(weight.get())
}
