//! A circuit breaker: whoever failed several times in a row is left alone for a while, then asked once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts failures in a row.
pub(in crate::auth) struct Breaker {
    failures: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many questions failed since the last answer.
    Closed { failed: u32 },
    /// Nobody is let through before.
    Open { until: Instant },
    /// One question is under way, and decides.
    Probing,
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Change {
    None,
    Opened,
    Closed,
}

/// The right to ask once. Dropped without an outcome, it changes nothing.
pub(in crate::auth) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    pub(in crate::auth) fn new(failures: u32, pause: Duration) -> Self {
        Self { failures: failures.max(1), pause, state: Mutex::new(State::Closed { failed: 0 }) }
    }

    /// `None` while the source is left alone.
    pub(in crate::auth) fn admit(&self) -> Option<Pass<'_>> {
        let mut state = self.state();
        let probe = match *state {
            State::Closed { .. } => false,
            State::Open { until } if Instant::now() >= until => {
                *state = State::Probing;
                true
            }
            State::Open { .. } | State::Probing => return None,
        };
        Some(Pass { breaker: self, probe })
    }

    /// How long the source is left alone.
    pub(in crate::auth) fn pause(&self) -> Duration {
        self.pause
    }

    /// The source is not left alone at the moment.
    pub(in crate::auth) fn is_closed(&self) -> bool {
        matches!(*self.state(), State::Closed { .. })
    }

    fn open(&self) -> State {
        State::Open { until: Instant::now() + self.pause }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The source answered.
    pub(in crate::auth) fn succeeded(mut self) -> Change {
        let mut state = self.breaker.state();
        let mut change = Change::None;
        match *state {
            State::Closed { .. } => *state = State::Closed { failed: 0 },
            State::Probing if self.probe => {
                *state = State::Closed { failed: 0 };
                change = Change::Closed;
            }
            // Asked before it opened: the probe decides, so that a source that half works changes nothing every moment.
            State::Open { .. } | State::Probing => {}
        }
        drop(state);
        self.probe = false;
        change
    }

    /// It did not.
    pub(in crate::auth) fn failed(mut self) -> Change {
        let mut state = self.breaker.state();
        let mut change = Change::None;
        match *state {
            State::Closed { failed } if failed + 1 >= self.breaker.failures => {
                *state = self.breaker.open();
                change = Change::Opened;
            }
            State::Closed { failed } => *state = State::Closed { failed: failed + 1 },
            State::Probing if self.probe => *state = self.breaker.open(),
            // Asked before it opened; that it is away is known.
            State::Open { .. } | State::Probing => {}
        }
        drop(state);
        self.probe = false;
        change
    }
}

impl Drop for Pass<'_> {
    /// Whoever asked is gone: the next may probe at once.
    fn drop(&mut self) {
        if self.probe {
            let mut state = self.breaker.state();
            if *state == State::Probing {
                *state = State::Open { until: Instant::now() };
            }
        }
    }
}
