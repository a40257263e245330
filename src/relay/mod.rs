//! Bytes both ways after login. Knows no protocol: what a stopped session is told comes from the caller.
//!
//! One future per session, meant for a task of its own, so that an idle session pays for nothing else. It has two stages:
//! - *moving* (`moving.rs`): bytes pass in both directions, through buffers that are borrowed from a pool only while
//!   there are bytes in them. A half-close is passed on to the backend. A session that is told to end first comes to a
//!   safe point, if it does so within `kick_deadline`: the backend has spoken last and has ended a line, and then there
//!   was silence for a moment. Between two commands and in IDLE that is so already; a command that is being answered, a
//!   literal on its way, are not cut in two.
//! - *parting* (`parting.rs`): our side is closed towards both peers. The session counts as closed once the **backend**'s
//!   end has been seen (its FIN, its reset, or our reset after `close_timeout`), for only then can the user's mailbox
//!   be opened elsewhere; the callback says so at that very moment. The client may take a little longer.
//!
//! Timers: one per session, re-armed only when it fires; a byte costs none.

mod direction;
mod moving;
mod parting;
mod pool;
mod stop;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::model::Ending;
use crate::net::Stream;

use moving::{End, Moving};
use parting::Parting;
pub use pool::{BufferPool, Loan};
pub use stop::{StopHandle, StopSignal, stop_pair};

/// What many relays share.
pub struct RelaySettings {
    /// Where buffers come from.
    pub pool: Arc<BufferPool>,
    /// Silence, both ways, that ends a session.
    pub idle_timeout: Duration,
    /// How long a backend may take to end the session after we have closed, before it is reset. Also how long it may be
    /// silent towards a client that has closed only its sending side.
    pub close_timeout: Duration,
    /// How long a session that is told to end may go on until it comes to a safe point.
    pub kick_deadline: Duration,
}

/// What one relay needs besides its two connections.
pub struct RelaySession {
    /// Shared by all sessions of a kind.
    pub settings: Arc<RelaySettings>,
    /// Ends the session from outside.
    pub stop: StopSignal,
    /// When the keys of this session's shard may be given away: CLOCK_BOOTTIME in ms, 0 for never. Looked at on every
    /// wake, before a byte moves.
    pub isolation: Arc<AtomicU64>,
    /// What the client sent behind its login. Goes to the backend first.
    pub leftover: Vec<u8>,
    /// What the client is told when this proxy ends the session; empty for nothing. Whole lines.
    pub last_words: fn(Ending) -> &'static [u8],
}

/// How a relay went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who ended it.
    pub ending: Ending,
    /// Bytes from the client to the backend.
    pub in_bytes: u64,
    /// Bytes from the backend to the client, without last words.
    pub out_bytes: u64,
}

/// Relays until both connections are over. `on_backend_closed` runs once, when nothing more of this session can happen
/// at the backend; the future resolves when the client has been let go, too, at most a second later. If the future is
/// dropped before, both sockets are closed and `on_backend_closed` is dropped without being run.
pub fn relay<F>(client: Stream, backend: Stream, session: RelaySession, on_backend_closed: F) -> Relay<F>
where
    F: FnOnce(Outcome) + Unpin,
{
    let timer = Box::pin(tokio::time::sleep(session.settings.idle_timeout));
    let (settings, last_words) = (Arc::clone(&session.settings), session.last_words);
    let stage = Stage::Moving(Moving::new(client, backend, session));
    Relay { stage, timer, settings, last_words, on_backend_closed: Some(on_backend_closed) }
}

/// The future that [`relay`] makes.
pub struct Relay<F> {
    stage: Stage,
    timer: Pin<Box<Sleep>>,
    settings: Arc<RelaySettings>,
    last_words: fn(Ending) -> &'static [u8],
    on_backend_closed: Option<F>,
}

enum Stage {
    Moving(Moving),
    Parting(Parting),
    Between,
}

impl<F: FnOnce(Outcome) + Unpin> Future for Relay<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        if let Stage::Moving(moving) = &mut this.stage {
            let end = ready!(moving.poll(&this.settings, &mut this.timer, cx));
            this.part(end);
        }
        this.poll_parting(cx)
    }
}

impl<F: FnOnce(Outcome) + Unpin> Relay<F> {
    fn part(&mut self, End { ending, patience }: End) {
        let now = Instant::now();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Between) {
            Stage::Moving(moving) => {
                let words = (self.last_words)(ending);
                Stage::Parting(moving.part(ending, words, now, now + patience))
            }
            other => other,
        };
    }

    fn poll_parting(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Stage::Parting(parting) = &mut self.stage else {
            return Poll::Pending; // polled after it was ready
        };
        loop {
            let done = parting.poll(&self.settings.pool, cx);
            if parting.backend_is_gone()
                && let Some(tell) = self.on_backend_closed.take()
            {
                tell(parting.outcome);
            }
            if done.is_ready() {
                self.stage = match std::mem::replace(&mut self.stage, Stage::Between) {
                    Stage::Parting(parting) => return Poll::Ready(parting.outcome),
                    other => other,
                };
                return Poll::Pending;
            }
            // The timer was made for moving: it must be set to the nearer of the two limits before it is asked.
            if let Some(until) = parting.next_limit()
                && self.timer.deadline() != until
            {
                self.timer.as_mut().reset(until);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}
