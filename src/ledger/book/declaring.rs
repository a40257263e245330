//! What the store is told: which keys are dirty, how their counts are read, and when it knows them.

use super::{Entry, Ledger, count, forget_if_over};
use crate::ledger::Count;
use crate::model::Key;

/// Keys that are being declared.
pub struct Batch {
    keys: Vec<Key>,
    /// The assertion that was under way when the counts were read.
    round: u64,
}

impl Ledger {
    /// Takes up to `max` dirty keys and has `send` queue their counts, under the lock. `None` if there are none.
    pub fn declare<T>(&self, max: usize, send: impl FnOnce(Vec<Count>) -> T) -> Option<(Batch, T)> {
        let mut book = self.lock();
        let book = &mut *book;
        let (mut counts, mut passed) = (Vec::new(), Vec::new());
        while counts.len() < max
            && let Some(key) = book.dirty.pop_front()
        {
            let Some(entry) = book.entries.get_mut(&key) else { continue };
            // A claim under way carries the count itself. When it is over, the declaration is next: were there always
            // one more login to claim, an assertion would never be done.
            if entry.claiming || entry.declaring {
                entry.turn = entry.claiming;
                passed.push(key);
                continue;
            }
            (entry.dirty, entry.declaring) = (false, true);
            entry.give_way();
            counts.push(Count { place: entry.place.clone(), count: count(entry), unproven: !entry.proven, key });
        }
        book.dirty.extend(passed);
        if counts.is_empty() {
            return None;
        }
        let batch = Batch { keys: counts.iter().map(|count| count.key.clone()).collect(), round: book.round };
        Some((batch, send(counts)))
    }

    /// Nothing can be declared for now: claims need not let a declaration go first.
    pub fn stand_back(&self) {
        self.lock().entries.values_mut().for_each(Entry::give_way);
    }

    /// The store has applied a declaration.
    pub fn confirm(&self, batch: Batch) {
        let mut book = self.lock();
        for key in batch.keys {
            if batch.round == book.round {
                book.owed.remove(&key);
            }
            if let Some(entry) = book.entries.get_mut(&key) {
                entry.declaring = false;
                forget_if_over(&mut book, &key);
            }
        }
    }

    /// Nobody knows whether the store has applied a declaration: the keys are dirty again.
    pub fn unconfirmed(&self, batch: Batch) {
        let mut book = self.lock();
        for key in batch.keys {
            if let Some(entry) = book.entries.get_mut(&key) {
                entry.declaring = false;
                self.soil(&mut book, &key);
            }
        }
    }

    /// The store's memory may be gone: every key is dirty, and owed until it is declared.
    pub fn begin_assertion(&self) {
        let mut book = self.lock();
        let mut keys: Vec<Key> = book.entries.keys().cloned().collect();
        keys.sort_unstable(); // so that the same history makes the same calls again
        for key in &keys {
            self.soil(&mut book, key);
        }
        book.owed = keys.into_iter().collect();
        book.round += 1;
    }

    /// Whether all that was owed has been declared.
    pub fn asserted(&self) -> bool {
        self.lock().owed.is_empty()
    }

    /// The store counts so many sessions of these keys here: declares those of which there are others, or none. Returns
    /// how many there were.
    pub fn audit(&self, keys: &[(Key, u32)], asserting: bool) -> usize {
        let mut book = self.lock();
        let differs = |(key, counted): &&(Key, u32)| book.entries.get(key).is_none_or(|entry| entry.differs(*counted));
        let different: Vec<&Key> = keys.iter().filter(differs).map(|(key, _)| key).collect();
        for key in &different {
            self.soil(&mut book, key);
            if asserting {
                book.owed.insert((*key).clone());
            }
        }
        different.len()
    }

    /// Resolves when there may be dirty keys.
    pub async fn dirtied(&self) {
        self.dirtied.notified().await;
    }

    /// How many keys are dirty.
    pub fn dirty(&self) -> usize {
        self.lock().dirty.len()
    }
}
