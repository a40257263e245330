//! Where keys were at home when their last session here ended: so that users go back to their index files even if the store
//! has forgotten everything.
//!
//! Nobody joins by it. A key without a live session may have been given another home by a peer, and only the store would
//! know. What is recalled is a hint that a claim carries, and the store heeds it only for a key that it knows nothing of.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{BackendId, Key};

/// The most keys that are recalled: about 10 MB.
const MOST: usize = 100_000;

/// Former homes, bounded; the oldest go first.
#[derive(Default)]
pub(super) struct Recall {
    homes: HashMap<Key, (BackendId, Instant)>,
    /// When each was noted; those that were noted again since are of no use.
    order: VecDeque<(Key, Instant)>,
}

impl Recall {
    /// The last session of `key` has ended there, now.
    pub(super) fn note(&mut self, key: &Key, backend: BackendId) {
        let now = Instant::now();
        self.homes.insert(key.clone(), (backend, now));
        self.order.push_back((key.clone(), now));
        while self.homes.len() > MOST || self.order.len() > 2 * MOST {
            let Some((key, noted)) = self.order.pop_front() else { return };
            if self.homes.get(&key).is_some_and(|(_, last)| *last == noted) {
                self.homes.remove(&key);
            }
        }
    }

    /// Where `key` was at home, if that is not longer ago.
    pub(super) fn home(&self, key: &Key, age: Duration) -> Option<BackendId> {
        let (backend, noted) = self.homes.get(key)?;
        (noted.elapsed() <= age).then(|| backend.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_home_is_recalled_for_as_long_as_it_counts() {
        let mut recall = Recall::default();
        recall.note(&Key::new("anna"), BackendId::new("b1"));
        recall.note(&Key::new("anna"), BackendId::new("b2"));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(recall.home(&Key::new("anna"), Duration::from_secs(10)), Some(BackendId::new("b2")));
        assert_eq!(recall.home(&Key::new("anna"), Duration::from_secs(9)), None);
        assert_eq!(recall.home(&Key::new("bert"), Duration::from_secs(10)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut recall = Recall::default();
        let key = |number: usize| Key::new(format!("user{number}"));
        for number in 0..=MOST {
            tokio::time::advance(Duration::from_millis(1)).await;
            recall.note(&key(number), BackendId::new("b"));
            recall.note(&key(1), BackendId::new("b"));
        }
        assert!(recall.homes.len() <= MOST && recall.order.len() <= 2 * MOST);
        let known = |number| recall.home(&key(number), Duration::from_secs(3600)).is_some();
        assert_eq!([known(0), known(1), known(MOST)], [false, true, true]);
    }
}
