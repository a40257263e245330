//! What this proxy holds of one shard: per key the backend, the generation and the live sessions, and which keys the
//! store must still be told about. This is the truth; the store is the sum of all ledgers.
//!
//! Claims and declarations are put in the link's queue while the ledger is locked (the `send` closures), so the order of
//! calls is the order in which their counts were read: a count can never overtake a younger one.

mod book;
mod recall;
mod slot;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::model::{BackendId, Ending, Generation, Key};
pub use book::{Batch, Enter, Holding, Ledger, Waiting};
pub use slot::{Slot, Ticket};

/// A live session that can be told to end.
pub trait Stop: Send + Sync {
    /// Ends the session for that reason, soon. The first reason counts.
    fn stop(&self, why: Ending);

    /// The client's address, if it is known.
    fn client(&self) -> Option<IpAddr> {
        None
    }
}

/// One live session, so that its end can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    key: Key,
    number: u64,
}

/// Where a key is at home, as the store said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The backend.
    pub backend: BackendId,
    /// The binding's generation.
    pub generation: Generation,
}

/// How many sessions of a key are here, for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Which key.
    pub key: Key,
    /// Where they are; `None` if there are none.
    pub place: Option<Place>,
    /// How many.
    pub count: u32,
    /// None of them has been accepted yet.
    pub unproven: bool,
}

/// The sessions of a key, for whoever moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    /// Where they are, and the generation under which they were opened.
    pub place: &'a Place,
    /// How many.
    pub sessions: u32,
    /// They have been told to end.
    pub leaving: bool,
    /// The passdb names this backend for the user.
    pub pinned: bool,
}
