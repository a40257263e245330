//! How long the directory takes to refuse a password: users whom it has no entry of are made to wait as long.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Refusals that are remembered. They are waited out in turn, so that the times spread as real ones do.
const REMEMBERED: usize = 32;

/// The last refusals.
#[derive(Default)]
pub(super) struct Pace(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    times: Vec<Duration>,
    next: usize,
    turn: usize,
}

impl Pace {
    /// A password was refused after so long.
    pub(super) fn note(&self, took: Duration) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.times.len() < REMEMBERED {
            recent.times.push(took);
        } else {
            let next = recent.next;
            recent.times[next] = took;
            recent.next = (next + 1) % REMEMBERED;
        }
    }

    /// Takes as long as one of them.
    pub(super) async fn keep(&self) {
        let took = {
            let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            recent.turn = recent.turn.wrapping_add(1);
            let turn = recent.turn % recent.times.len().max(1);
            recent.times.get(turn).copied()
        };
        if let Some(took) = took {
            tokio::time::sleep(took).await;
        }
    }
}
