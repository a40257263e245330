//! Looks into the book, which change nothing.

use std::time::Duration;

use super::{Entry, Ledger, count};
use crate::ledger::{Held, Place};
use crate::model::{BackendId, Key};

/// What is held, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Keys with sessions.
    pub keys: usize,
    /// Sessions.
    pub sessions: usize,
    /// Keys whose count the store may not know.
    pub dirty: usize,
}

impl Ledger {
    /// Every key with sessions, where they are and how many.
    pub fn all(&self) -> Vec<(Key, Place, u32)> {
        let book = self.lock();
        let held = |(key, entry): (&Key, &Entry)| Some((key.clone(), entry.place.clone()?, count(entry)));
        book.entries.iter().filter(|(_, entry)| !entry.sessions.is_empty()).filter_map(held).collect()
    }

    /// Sessions of one key here, and where.
    pub fn look(&self, key: &Key) -> Option<(Place, usize)> {
        let book = self.lock();
        let entry = book.entries.get(key)?;
        Some((entry.place.clone()?, entry.sessions.len()))
    }

    /// Where the last session of a key here was, if it ended not longer ago.
    pub fn recall(&self, key: &Key, age: Duration) -> Option<BackendId> {
        self.lock().recall.home(key, age)
    }

    /// Looks at a portion of the keys with sessions, in no order, so that nobody waits long for the lock. `from`: where the
    /// portion before ended, at first `usize::MAX`. Returns where the next begins; `None` at the end. What is here all the
    /// while is seen, once or (if others leave meanwhile) twice.
    pub fn look_through(&self, from: usize, portion: usize, mut look: impl FnMut(&Key, &Held<'_>)) -> Option<usize> {
        let book = self.lock();
        // From the last to the first: what takes the place of one that leaves comes from the end, and so was seen.
        let end = from.min(book.entries.len());
        let begin = end.saturating_sub(portion);
        for (key, entry) in book.entries.get_range(begin..end)? {
            let Some(place) = entry.place.as_ref().filter(|_| !entry.sessions.is_empty()) else { continue };
            look(key, &Held { place, sessions: count(entry), leaving: entry.kicked, pinned: entry.pinned });
        }
        (begin > 0).then_some(begin)
    }

    /// In numbers.
    pub fn holding(&self) -> Holding {
        let book = self.lock();
        let live = book.entries.values().filter(|entry| !entry.sessions.is_empty());
        let (keys, sessions) = live.fold((0, 0), |(keys, sum), entry| (keys + 1, sum + entry.sessions.len()));
        let dirty = book.entries.values().filter(|entry| entry.dirty || entry.declaring).count();
        Holding { keys, sessions, dirty }
    }
}
