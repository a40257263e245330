//! The book itself: entries by key under one lock, held for a few map operations at a time. Here sessions come and go;
//! `closing.rs` ends them, `declaring.rs` tells the store of them, `looking.rs` tells others.

mod closing;
mod declaring;
mod looking;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use self::closing::close;
pub use self::declaring::Batch;
pub use self::looking::Holding;
use super::recall::Recall;
use super::{Place, Slot, Stop, Ticket};
use crate::model::{BackendId, Ending, Generation, Key};

/// What this proxy holds of one shard.
#[derive(Default)]
pub struct Ledger {
    book: Mutex<Book>,
    /// Rung when a key becomes dirty.
    dirtied: Notify,
}

#[derive(Default)]
struct Book {
    /// A map that can be looked at portion by portion ([`Ledger::look_through`]).
    entries: IndexMap<Key, Entry>,
    /// Keys to declare, oldest first; each is here once (`Entry::dirty`).
    dirty: VecDeque<Key>,
    /// Keys that a re-assertion still owes.
    owed: HashSet<Key>,
    /// Counts re-assertions: what was read before one began does not settle what it owes.
    round: u64,
    /// Numbers sessions.
    next: u64,
    recall: Recall,
}

#[derive(Default)]
struct Entry {
    /// Where the sessions are. Kept while there is one.
    place: Option<Place>,
    sessions: Vec<Session>,
    claiming: bool,
    /// The sessions were told to end: nobody joins them.
    kicked: bool,
    dirty: bool,
    /// A declaration of this key has not been answered yet.
    declaring: bool,
    proven: bool,
    /// The passdb names this backend: whoever is moved away comes back with the next login.
    pinned: bool,
    /// A claim has overtaken the declaration of this key: nobody claims again before it is declared.
    turn: bool,
    waiters: Option<Arc<Notify>>,
}

struct Session {
    number: u64,
    stop: Arc<dyn Stop>,
}

/// How a login comes in.
pub enum Enter<T> {
    /// It joined a live session of the same key: no call is needed.
    Joined(Slot),
    /// It must ask the store; the claim has been sent.
    Claiming(Ticket, T),
    /// Another login of the key asks, or its count must be declared first, or kicked sessions are still closing: come
    /// back when this is done.
    Wait(Waiting),
}

/// Done when the key may be entered again. Wakes spuriously, and never too late.
pub type Waiting = OwnedNotified;

impl Ledger {
    /// A login of `key` comes in. It joins live sessions if `join` says that it may join at their backend; else `send` is called, under
    /// the lock, with the number of sessions here, to queue the claim.
    pub fn enter<T>(
        self: &Arc<Self>,
        key: &Key,
        stop: &Arc<dyn Stop>,
        join: impl FnOnce(&BackendId) -> bool,
        send: impl FnOnce(u32) -> T,
    ) -> Enter<T> {
        let mut book = self.lock();
        let book = &mut *book;
        let entry = book.entries.entry(key.clone()).or_default();
        if entry.claiming || entry.kicked {
            return Enter::Wait(entry.awaited());
        }
        if let Some(place) = entry.place.clone().filter(|place| join(&place.backend)) {
            book.next += 1;
            let number = book.next;
            entry.add(Session { number, stop: stop.clone() });
            self.soil(book, key);
            return Enter::Joined(Slot { ledger: self.clone(), key: key.clone(), place, number });
        }
        if entry.turn {
            return Enter::Wait(entry.awaited());
        }
        entry.claiming = true;
        let ticket = Ticket { ledger: self.clone(), key: key.clone(), answered: false };
        Enter::Claiming(ticket, send(count(entry)))
    }

    /// The store has said that the key is still at home there, under that generation, and not being moved.
    pub fn renew(&self, key: &Key, backend: &BackendId, generation: Generation) {
        let mut book = self.lock();
        let Some(entry) = book.entries.get_mut(key).filter(|entry| !entry.kicked) else { return };
        if let Some(place) = entry.place.as_mut().filter(|place| place.backend == *backend) {
            place.generation = place.generation.max(generation);
        }
    }

    /// A claim was answered with a home.
    pub(super) fn settle(self: &Arc<Self>, key: &Key, place: Place, stop: Arc<dyn Stop>, proven: bool) -> Option<Slot> {
        let mut book = self.lock();
        let book = &mut *book;
        let entry = book.entries.entry(key.clone()).or_default();
        end_claim(entry);
        if entry.kicked || entry.place.as_ref().is_some_and(|old| old.backend != place.backend) {
            // The sessions here were told to end while the claim was under way. Or the store lost this key and another
            // proxy gave it a home meanwhile. Either way they must be gone first.
            close(entry, Ending::Kicked);
            self.soil(book, key);
            return None;
        }
        book.next += 1;
        let number = book.next;
        entry.add(Session { number, stop });
        entry.place = Some(place.clone());
        entry.proven |= proven;
        Some(Slot { ledger: self.clone(), key: key.clone(), place, number })
    }

    /// A claim ended without a home.
    pub(super) fn unsettled(&self, key: &Key, dirty: bool) {
        let mut book = self.lock();
        if let Some(entry) = book.entries.get_mut(key) {
            end_claim(entry);
        }
        if dirty {
            self.soil(&mut book, key);
        } else {
            forget_if_over(&mut book, key);
        }
    }

    pub(super) fn prove(&self, key: &Key) {
        let mut book = self.lock();
        if let Some(entry) = book.entries.get_mut(key)
            && !std::mem::replace(&mut entry.proven, true)
        {
            self.soil(&mut book, key);
        }
    }

    pub(super) fn pin(&self, key: &Key) {
        if let Some(entry) = self.lock().entries.get_mut(key) {
            entry.pinned = true;
        }
    }

    pub(super) fn leave(&self, key: &Key, number: u64) {
        let mut book = self.lock();
        let Some(entry) = book.entries.get_mut(key) else { return };
        entry.sessions.retain(|session| session.number != number);
        if entry.sessions.is_empty() {
            // That a login was accepted is still to be told, however short the session was.
            let place = entry.place.take();
            (entry.kicked, entry.pinned) = (false, false);
            entry.sessions = Vec::new();
            wake(entry);
            if let Some(place) = place.filter(|_| entry.proven) {
                book.recall.note(key, place.backend);
            }
        }
        self.soil(&mut book, key);
    }

    /// Puts a key in line for declaration, once.
    fn soil(&self, book: &mut Book, key: &Key) {
        let entry = book.entries.entry(key.clone()).or_default();
        if !std::mem::replace(&mut entry.dirty, true) {
            book.dirty.push_back(key.clone());
            self.dirtied.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // No code under this lock can leave the book half-changed: a panic elsewhere must not end the proxy.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn add(&mut self, session: Session) {
        // Most keys have one session: do not reserve for four.
        self.sessions.reserve_exact(1);
        self.sessions.push(session);
    }

    /// The store counts another number, and no call is under way or in line that will tell it.
    fn differs(&self, counted: u32) -> bool {
        !self.claiming && !self.declaring && !self.dirty && count(self) != counted
    }

    fn awaited(&mut self) -> Waiting {
        self.waiters.get_or_insert_default().clone().notified_owned()
    }

    /// Lets the next login claim.
    fn give_way(&mut self) {
        if std::mem::take(&mut self.turn) {
            wake(self);
        }
    }
}

fn end_claim(entry: &mut Entry) {
    entry.claiming = false;
    wake(entry);
}

fn wake(entry: &mut Entry) {
    if let Some(waiters) = entry.waiters.take() {
        waiters.notify_waiters();
    }
}

fn count(entry: &Entry) -> u32 {
    u32::try_from(entry.sessions.len()).unwrap_or(u32::MAX)
}

/// Drops an entry about which the store knows all there is to know.
fn forget_if_over(book: &mut Book, key: &Key) {
    let over = |entry: &Entry| entry.sessions.is_empty() && !entry.claiming && !entry.dirty && !entry.declaring;
    if book.entries.get(key).is_some_and(over) {
        book.entries.swap_remove(key);
        book.owed.remove(key);
    }
}
