//! One question under way for all who ask the same at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// Answers under way, by question.
#[derive(Debug)]
pub(super) struct Flights<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, V> Flights<K, V> {
    /// Takes a seat, without asking yet: who has one gets also an answer that comes before it would ask.
    pub(super) fn seat(self: &Arc<Self>, key: K) -> Seat<K, V> {
        let cell = Arc::clone(self.board().entry(key.clone()).or_default());
        Seat { flights: Arc::clone(self), key, cell, is_own: false }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.board().is_empty()
    }

    fn board(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<OnceCell<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of somebody who may ask, waits, or has the answer. Until the one whose work it was leaves, others get the same answer at once:
/// whoever notes an answer keeps the seat until that is done, so that nobody looks too early for the note and sits down too late.
#[derive(Debug)]
pub(super) struct Seat<K: Hash + Eq + Clone, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
    cell: Arc<OnceCell<V>>,
    is_own: bool,
}

impl<K: Hash + Eq + Clone, V> Seat<K, V> {
    /// The answer of `work`, or of another's who has asked the same. If the other gives up, somebody who waits goes on in its
    /// place.
    pub(super) async fn answer(&mut self, work: impl Future<Output = V>) -> &V {
        let Self { cell, is_own, .. } = self;
        cell.get_or_init(async || {
            *is_own = true;
            work.await
        })
        .await
    }

    /// It was this caller's work that brought the answer.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }
}

impl<K: Hash + Eq + Clone, V> Drop for Seat<K, V> {
    fn drop(&mut self) {
        let mut board = self.flights.board();
        let is_ours = board.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        let has_landed = self.is_own && self.cell.initialized();
        // The board and this seat hold it, and nobody else.
        if is_ours && (has_landed || Arc::strong_count(&self.cell) == 2) {
            board.remove(&self.key);
        }
        // While nobody else counts: of two who leave at once, one must see that it is the last.
        self.cell = Arc::default();
    }
}
