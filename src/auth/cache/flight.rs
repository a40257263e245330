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
    /// The answer, and whether it was this caller's own `work` that brought it. Who waits for another's answer gets it when it
    /// comes; if the other gives up, somebody who waits goes on in its place.
    pub(super) async fn join(&self, key: K, work: impl Future<Output = V>) -> (Arc<OnceCell<V>>, bool) {
        let cell = Arc::clone(self.flights().entry(key.clone()).or_default());
        let seat = Seat { flights: self, key, cell };
        let mut is_own = false;
        seat.cell
            .get_or_init(async || {
                is_own = true;
                work.await
            })
            .await;
        (Arc::clone(&seat.cell), is_own)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.flights().is_empty()
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<OnceCell<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits. Whoever leaves a flight that has landed, or is the last to leave, takes it off the board.
struct Seat<'a, K: Hash + Eq + Clone, V> {
    flights: &'a Flights<K, V>,
    key: K,
    cell: Arc<OnceCell<V>>,
}

impl<K: Hash + Eq + Clone, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.flights();
        let is_ours = flights.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // The board and this seat hold it, and nobody else.
        if is_ours && (self.cell.initialized() || Arc::strong_count(&self.cell) == 2) {
            flights.remove(&self.key);
        }
    }
}
