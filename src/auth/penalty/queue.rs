//! How many wait at one address: whoever guesses on many connections at once is not to get as many guesses per delay.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many may wait at an address at this proxy; the next is turned away.
pub(super) const MOST_WAITING: u32 = 16;

/// Who waits where.
#[derive(Default)]
pub(super) struct Queues(Mutex<HashMap<String, u32>>);

/// A place among those who wait, until this is dropped.
pub struct Turn<'a> {
    queues: &'a Queues,
    network: String,
}

impl Queues {
    /// `None` if there are too many already.
    pub(super) fn join(&self, network: String) -> Option<Turn<'_>> {
        let mut waiting = self.waiting();
        let there = waiting.entry(network.clone()).or_default();
        if *there >= MOST_WAITING {
            return None;
        }
        *there += 1;
        Some(Turn { queues: self, network })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queues.waiting();
        match waiting.get_mut(&self.network) {
            Some(there) if *there > 1 => *there -= 1,
            _ => drop(waiting.remove(&self.network)),
        }
    }
}
