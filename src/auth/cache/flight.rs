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
    /// Waits for the answer: of this caller's own `work`, or of another's who has asked the same. If the other gives up,
    /// somebody who waits goes on in its place.
    pub(super) async fn join(self: &Arc<Self>, key: K, work: impl Future<Output = V>) -> Seat<K, V> {
        let cell = Arc::clone(self.flights().entry(key.clone()).or_default());
        let mut seat = Seat { flights: Arc::clone(self), key, cell, is_own: false };
        let Seat { cell, is_own, .. } = &mut seat;
        cell.get_or_init(async || {
            *is_own = true;
            work.await
        })
        .await;
        seat
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.flights().is_empty()
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<OnceCell<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits, or has the answer. Until the one whose work it was leaves, others get the same answer at once: so whoever
/// notes an answer keeps the seat until that is done, and nobody comes too late for the one and too early for the other.
#[derive(Debug)]
pub(super) struct Seat<K: Hash + Eq + Clone, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
    cell: Arc<OnceCell<V>>,
    is_own: bool,
}

impl<K: Hash + Eq + Clone, V> Seat<K, V> {
    /// The answer, which there is once one was waited for.
    pub(super) fn answer(&self) -> Option<&V> {
        self.cell.get()
    }

    /// It was this caller's work that brought it.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }
}

impl<K: Hash + Eq + Clone, V> Drop for Seat<K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.flights();
        let is_ours = flights.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        let has_landed = self.is_own && self.cell.initialized();
        // The board and this seat hold it, and nobody else.
        if is_ours && (has_landed || Arc::strong_count(&self.cell) == 2) {
            flights.remove(&self.key);
        }
    }
}
