//! How long an answer takes that costs time: who gets the same without it is made to wait as long.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Times that are remembered. They are waited out in turn, so that the times spread as real ones do.
const REMEMBERED: usize = 32;

/// The last times.
#[derive(Default)]
pub(in crate::auth) struct Pace(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    times: Vec<Duration>,
    next: usize,
    turn: usize,
}

impl Pace {
    /// An answer took so long.
    pub(in crate::auth) fn note(&self, took: Duration) {
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
    pub(in crate::auth) async fn keep(&self) {
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
