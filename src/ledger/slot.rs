//! What a login holds of the ledger: first a ticket, while it asks the store, then a slot, while its session lives.

use std::sync::Arc;

use super::{Ledger, Place, Stop};
use crate::model::Key;

/// The right to ask the store for a key's home: one per key at a time. Dropped without an answer, it leaves the key
/// dirty, for the claim may have been applied.
pub struct Ticket {
    pub(super) ledger: Arc<Ledger>,
    pub(super) key: Key,
    pub(super) answered: bool,
}

impl Ticket {
    /// The store gave the key a home and counted one session more. `None` if sessions of the key are still here that
    /// live elsewhere: those are told to end first, and the login must ask again.
    pub fn bound(mut self, place: Place, stop: Arc<dyn Stop>, proven: bool) -> Option<Slot> {
        self.answered = true;
        self.ledger.settle(&self.key, place, stop, proven)
    }

    /// The store answered, and counts just what was here before.
    pub fn declined(mut self) {
        self.answered = true;
        self.ledger.unsettled(&self.key, false);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            self.ledger.unsettled(&self.key, true);
        }
    }
}

/// One live session of the ledger. It leaves when this is dropped: after the backend's FIN, never before.
pub struct Slot {
    pub(super) ledger: Arc<Ledger>,
    pub(super) key: Key,
    pub(super) place: Place,
    pub(super) number: u64,
}

impl Slot {
    /// Whose session.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where its home is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The passdb names this backend for the user.
    pub fn pin(&self) {
        self.ledger.pin(&self.key);
    }

    /// The passdb or the backend has accepted the login.
    pub fn prove(&self) {
        self.ledger.prove(&self.key);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.ledger.leave(&self.key, self.number);
    }
}
