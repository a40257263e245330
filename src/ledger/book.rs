//! The book itself: entries by key under one lock, held for a few map operations at a time.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indexmap::IndexMap;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::recall::Recall;
use super::{Count, Held, Live, Place, Slot, Stop, Ticket};
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

/// Keys that are being declared.
pub struct Batch {
    keys: Vec<Key>,
    /// The assertion that was under way when the counts were read.
    round: u64,
}

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

    /// The store wants a key's sessions closed, unless they are at `backend` under `generation` or a later one. If it
    /// speaks of an older binding than theirs, or of none, it has been overtaken: their count is declared, and the answer
    /// to that decides.
    pub fn kick(&self, key: &Key, backend: Option<&BackendId>, generation: Generation) {
        let mut book = self.lock();
        let entry = book.entries.entry(key.clone()).or_default();
        let astray = |at: &Place| {
            generation > at.generation
                || (generation == at.generation && backend.is_some_and(|home| *home != at.backend))
        };
        if !entry.claiming && entry.place.as_ref().is_some_and(astray) {
            // Their end is declared when it comes; to declare them until then would only be refused again and again.
            close(entry, Ending::Kicked);
        } else if !entry.kicked {
            self.soil(&mut book, key);
        }
    }

    /// Ends the sessions at those backends. Returns how many had not been told to end before.
    pub fn close_at(&self, which: impl Fn(&BackendId) -> bool, why: Ending) -> usize {
        let mut book = self.lock();
        let there = |entry: &&mut Entry| entry.place.as_ref().is_some_and(|place| which(&place.backend));
        book.entries.values_mut().filter(there).map(|entry| close(entry, why)).sum()
    }

    /// Ends each session that is `concerned`, by its key, its place and its client's address. Others of the same key go on
    /// and may be joined. Returns those that were told.
    pub fn close_where(&self, concerned: impl Fn(&Key, &Place, Option<IpAddr>) -> bool, why: Ending) -> Vec<Live> {
        let book = self.lock();
        let mut told = Vec::new();
        for (key, entry) in &book.entries {
            let Some(place) = &entry.place else { continue };
            for session in entry.sessions.iter().filter(|session| concerned(key, place, session.stop.client())) {
                session.stop.stop(why);
                told.push(Live { key: key.clone(), number: session.number });
            }
        }
        told
    }

    /// Whether that session is still here.
    pub fn has(&self, session: &Live) -> bool {
        let book = self.lock();
        let entry = book.entries.get(&session.key);
        entry.is_some_and(|entry| entry.sessions.iter().any(|other| other.number == session.number))
    }

    /// Every key with sessions, where they are and how many.
    pub fn all(&self) -> Vec<(Key, Place, u32)> {
        let book = self.lock();
        let held = |(key, entry): (&Key, &Entry)| Some((key.clone(), entry.place.clone()?, count(entry)));
        book.entries.iter().filter(|(_, entry)| !entry.sessions.is_empty()).filter_map(held).collect()
    }

    /// Ends every session. Returns how many had not been told to end before.
    pub fn close_all(&self, why: Ending) -> usize {
        self.close_at(|_| true, why)
    }

    /// Ends the sessions of some keys that were not told to end yet, at least `least` sessions if there are as many.
    /// Returns how many.
    pub fn close_some(&self, least: usize, why: Ending) -> usize {
        let mut book = self.lock();
        let mut closed = 0;
        for entry in book.entries.values_mut() {
            if closed >= least {
                break;
            }
            closed += close(entry, why);
        }
        closed
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

    /// The store has said that the key is still at home there, under that generation, and not being moved.
    pub fn renew(&self, key: &Key, backend: &BackendId, generation: Generation) {
        let mut book = self.lock();
        let Some(entry) = book.entries.get_mut(key).filter(|entry| !entry.kicked) else { return };
        if let Some(place) = entry.place.as_mut().filter(|place| place.backend == *backend) {
            place.generation = place.generation.max(generation);
        }
    }

    /// In numbers.
    pub fn holding(&self) -> Holding {
        let book = self.lock();
        let live = book.entries.values().filter(|entry| !entry.sessions.is_empty());
        let (keys, sessions) = live.fold((0, 0), |(keys, sum), entry| (keys + 1, sum + entry.sessions.len()));
        let dirty = book.entries.values().filter(|entry| entry.dirty || entry.declaring).count();
        Holding { keys, sessions, dirty }
    }

    /// Resolves when there may be dirty keys.
    pub async fn dirtied(&self) {
        self.dirtied.notified().await;
    }

    /// How many keys are dirty.
    pub fn dirty(&self) -> usize {
        self.lock().dirty.len()
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

/// Tells the sessions to end; nobody joins them any more. Returns how many had not been told before. Those that were may
/// still be finishing what they are at: a reason that cannot wait is told to them, too.
fn close(entry: &mut Entry, why: Ending) -> usize {
    if entry.sessions.is_empty() || (entry.kicked && why.may_wait()) {
        return 0;
    }
    for session in &entry.sessions {
        session.stop.stop(why);
    }
    if std::mem::replace(&mut entry.kicked, true) { 0 } else { entry.sessions.len() }
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
