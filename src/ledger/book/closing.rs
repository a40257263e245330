//! Sessions that must end, whoever wants it: they are told, and leave the book when they are over.

use std::net::IpAddr;

use super::{Entry, Ledger};
use crate::ledger::{Live, Place};
use crate::model::{BackendId, Ending, Generation, Key};

impl Ledger {
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
}

/// Tells the sessions to end; nobody joins them any more. Returns how many had not been told before. Those that were may
/// still be finishing what they are at: a reason that cannot wait is told to them, too.
pub(super) fn close(entry: &mut Entry, why: Ending) -> usize {
    if entry.sessions.is_empty() || (entry.kicked && why.may_wait()) {
        return 0;
    }
    for session in &entry.sessions {
        session.stop.stop(why);
    }
    if std::mem::replace(&mut entry.kicked, true) { 0 } else { entry.sessions.len() }
}
