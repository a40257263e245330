//! How many deliveries to one user run at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Key;

/// Counts deliveries by key. One for the whole proxy.
#[derive(Default)]
pub struct Deliveries(Mutex<HashMap<Key, u32>>);

impl Deliveries {
    /// Counts one more, unless there are `most` already; 0 for any number.
    pub(super) fn begin(self: &Arc<Self>, key: &Key, most: u32) -> Option<Turn> {
        let mut running = self.running();
        let count = running.entry(key.clone()).or_default();
        if most > 0 && *count >= most {
            return None;
        }
        *count += 1;
        Some(Turn { all: self.clone(), key: key.clone() })
    }

    /// How many users are getting mail.
    pub fn users(&self) -> usize {
        self.running().len()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One delivery: counted until this is dropped.
pub(super) struct Turn {
    all: Arc<Deliveries>,
    key: Key,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.all.running();
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1; // it was counted
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_deliveries_at_once_and_no_trace_is_left() {
        let (all, [ann, ben]) = (Arc::new(Deliveries::default()), ["ann", "ben"].map(Key::new));
        let first = all.begin(&ann, 2);
        let second = all.begin(&ann, 2);
        assert!(second.is_some() && all.begin(&ann, 2).is_none() && all.begin(&ben, 2).is_some());
        drop(first);
        assert!(all.begin(&ann, 2).is_some() && all.begin(&ann, 0).is_some());
        drop(second);
        assert_eq!(all.users(), 0);
    }
}
