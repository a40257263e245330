//! The backend table as this proxy knows it, and how its file's rows get into the store.
//!
//! The table in the store decides, for claims choose from it; it also lives on in every proxy, which gives it back to a
//! store that lost its memory. A proxy puts in what its file says when it starts and when its file changes, and then
//! follows the store: were it to insist, two proxies with different files would never be done. Rows that only other
//! proxies' files have are kept, unless no other proxy lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::ledger::Ledger;
use crate::model::{BackendId, Ending};
use crate::store::link::{Link, LinkState};
use crate::store::{BackendState, Beat, Reply, Request, Row, Table};

/// Rows by name.
pub type Rows = BTreeMap<BackendId, Row>;

/// The backend table.
pub struct Roster {
    table: ArcSwap<Table>,
    /// What the file wants and the store was not told yet.
    wish: Mutex<Option<Wish>>,
    /// The last hello under which this proxy and the store had the same table.
    agreed: AtomicU64,
}

#[derive(Clone, Debug, PartialEq)]
struct Wish {
    /// Rows to have.
    rows: Rows,
    /// Rows that the file had and has no more.
    removed: Vec<BackendId>,
    /// At the start: if this proxy is alone, nothing but its own rows counts.
    first: bool,
}

impl Roster {
    /// A roster that wants these rows in the store.
    pub(super) fn new(rows: Rows) -> Self {
        let wish = Wish { rows, removed: Vec::new(), first: true };
        Self { table: ArcSwap::default(), wish: Mutex::new(Some(wish)), agreed: AtomicU64::new(0) }
    }

    /// The table in force, as last heard.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    fn version(&self) -> u64 {
        self.table.load().version
    }

    /// The version to ask for news of. None that it had before a loss counts: a store that forgot may count anew.
    pub(super) fn known(&self, now: &LinkState) -> u64 {
        if self.is_unsure(now) { 0 } else { self.version() }
    }

    /// The store may have lost its table since this proxy last saw it.
    fn is_unsure(&self, now: &LinkState) -> bool {
        self.agreed.load(Ordering::Relaxed) < now.hellos && now.welcome.as_ref().is_some_and(|welcome| welcome.assert)
    }

    /// Whether sessions may be opened at that backend.
    pub fn usable(&self, backend: &BackendId) -> bool {
        self.table.load().rows.get(backend).is_some_and(|row| row.state != BackendState::Down)
    }

    /// The file has changed: puts what it says into the store with the next heartbeat.
    pub fn change(&self, old: &Rows, new: Rows) {
        let mut wish = self.wish();
        *wish = Some(Wish::of_change(wish.take(), old, new));
    }

    /// Whether what the file says stands in the store, so that claims choose by it.
    pub fn has_its_wish(&self) -> bool {
        self.wish().is_none()
    }

    /// Brings this proxy's table and the store's, as a heartbeat brought it, together. False until that is done.
    pub(super) async fn agree(&self, link: &Link, ledger: &Ledger, now: &LinkState, beat: &mut Beat) -> bool {
        let (wish, own) = (self.wish().clone(), self.table());
        let Some(welcome) = now.welcome.as_ref() else { return false };
        let stored = beat.table.take().unwrap_or_else(|| {
            // Left out: it is ours, or there is none.
            let rows = if beat.table_version == own.version { own.rows.clone() } else { Rows::new() };
            Table { version: beat.table_version, rows }
        });
        let recovering = self.is_unsure(now) && welcome.recovering_ms > 0;
        if !recovering && stored.version >= own.version && stored != *own {
            self.install(stored.clone(), ledger);
        }
        let present = match recovering {
            _ if stored.version < own.version => own.rows.clone(),
            // The store has just lost its memory, and somebody was faster to give it a table: that may lack what was in force.
            true => with_missing(&stored.rows, &own.rows),
            false => stored.rows.clone(),
        };
        let alone = welcome.peers == 0 && stored.version == welcome.table_version;
        let rows = wished(&present, wish.as_ref(), alone);
        let first = wish.as_ref().is_some_and(|wish| wish.first);
        let table = if rows == stored.rows && stored.version > 0 && !first {
            stored
        } else {
            // At the start also if nothing changes: a peer that believes itself alone learns by the version that it is not.
            match put(link, now.hellos, stored, rows).await {
                Some(table) => table,
                None => return false, // the next heartbeat brings the table in force, and this is tried again
            }
        };
        // Whatever its number: a store that lost its memory may have counted back.
        if table != *self.table() {
            self.install(table, ledger);
        }
        self.granted(wish.as_ref());
        self.agreed.store(now.hellos, Ordering::Relaxed);
        true
    }

    /// Puts a table in force; sessions at backends that it calls down or lacks are closed.
    fn install(&self, table: Table, ledger: &Ledger) {
        let version = table.version;
        self.table.store(Arc::new(table));
        // Not only what the table before had: a claim may have named a backend that came and went between two heartbeats.
        let closed = ledger.close_at(|backend| !self.usable(backend), Ending::Kicked);
        info!(version, sessions_closed = closed, "backend table in force");
    }

    /// What was wished for stands in the store.
    fn granted(&self, wish: Option<&Wish>) {
        let Some(done) = wish else { return };
        let mut wish = self.wish();
        if wish.as_ref() == Some(done) {
            for name in self.table.load().rows.keys().filter(|name| !done.rows.contains_key(*name)) {
                warn!(backend = %name, "the fleet has a backend that this proxy's file lacks; users placed there cannot log in here");
            }
            *wish = None;
        }
    }

    fn wish(&self) -> std::sync::MutexGuard<'_, Option<Wish>> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wish {
    /// What is wished after the file has changed, while `pending` was not granted yet.
    fn of_change(pending: Option<Self>, old: &Rows, new: Rows) -> Self {
        let first = pending.as_ref().is_some_and(|wish| wish.first);
        let gone = old.keys().cloned().chain(pending.into_iter().flat_map(|wish| wish.removed));
        let removed: BTreeSet<BackendId> = gone.filter(|name| !new.contains_key(name)).collect();
        Self { rows: new, removed: removed.into_iter().collect(), first }
    }
}

/// Replaces the store's table; what it has then, unless somebody else was faster.
async fn put(link: &Link, hello: u64, base: Table, rows: Rows) -> Option<Table> {
    let request = Request::Table { based_on: base.version, rows: rows.clone() };
    match link.call_under(hello, request).await.ok()?.reply {
        Reply::Table(Ok(version)) => Some(Table { version, rows: base.succeeded_by(rows, version) }),
        _ => None,
    }
}

/// The rows that the store should have. `alone`: no other proxy lives whose file could want more.
fn wished(present: &Rows, wish: Option<&Wish>, alone: bool) -> Rows {
    let Some(wish) = wish else { return present.clone() };
    if wish.first && alone {
        return with_since(wish.rows.clone(), present);
    }
    let mut rows = present.clone();
    rows.retain(|name, _| !wish.removed.contains(name));
    rows.extend(wish.rows.clone());
    with_since(rows, present)
}

/// `rows`, and those of `others` that it lacks.
fn with_missing(rows: &Rows, others: &Rows) -> Rows {
    let mut all = others.clone();
    all.extend(rows.clone());
    all
}

/// When a row's state began is for the store to say; what it said is kept, so that nothing seems to have changed.
fn with_since(mut rows: Rows, present: &Rows) -> Rows {
    for (name, row) in &mut rows {
        row.since = present.get(name).map_or(0, |present| present.since);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;

    fn rows(names: &str) -> Rows {
        let row = |since| Row { since, ..Row::default() };
        names.split_whitespace().map(|name| (BackendId::new(name), row(0))).collect()
    }

    fn since(mut rows: Rows, since: u64) -> Rows {
        rows.values_mut().for_each(|row| row.since = since);
        rows
    }

    fn first(names: &str) -> Wish {
        Wish { rows: rows(names), removed: Vec::new(), first: true }
    }

    #[test]
    fn a_proxy_that_is_alone_at_its_start_wants_only_what_its_file_says() {
        assert_eq!(wished(&rows("b1 b2"), Some(&first("b2 b3")), true), rows("b2 b3"));
    }

    #[test]
    fn a_proxy_among_others_keeps_what_only_their_files_have() {
        assert_eq!(wished(&rows("b1 b2"), Some(&first("b2 b3")), false), rows("b1 b2 b3"));
    }

    #[test]
    fn without_a_wish_the_table_stays_as_it_is() {
        let present = since(rows("b1 b2"), 7);
        assert_eq!(wished(&present, None, true), present);
    }

    #[test]
    fn a_change_of_the_file_removes_what_it_had_and_nothing_else() {
        let wish = Wish::of_change(None, &rows("b1 b2"), rows("b2"));
        assert_eq!(wished(&rows("b1 b2 other"), Some(&wish), false), rows("b2 other"));
    }

    #[test]
    fn a_removal_that_the_store_was_not_told_yet_outlives_the_next_change() {
        let wish = Wish::of_change(None, &rows("b1 b2 b3"), rows("b1 b2"));
        let wish = Wish::of_change(Some(wish), &rows("b1 b2"), rows("b1"));
        assert_eq!(wished(&rows("b1 b2 b3 other"), Some(&wish), false), rows("b1 other"));
        let back = Wish::of_change(Some(wish), &rows("b1"), rows("b1 b3"));
        assert_eq!(wished(&rows("b1 b2 b3"), Some(&back), false), rows("b1 b3"));
    }

    #[test]
    fn a_change_before_the_first_answer_of_the_store_leaves_it_the_first() {
        let wish = Wish::of_change(Some(first("b1")), &rows("b1"), rows("b2"));
        assert_eq!(wished(&rows("b1 old"), Some(&wish), true), rows("b2"));
    }

    #[test]
    fn what_the_store_said_of_the_age_of_a_row_is_not_a_difference() {
        let present = since(rows("b1 b2"), 7);
        assert_eq!(wished(&present, Some(&first("b1 b2")), false), present);
    }

    #[test]
    fn rows_in_force_before_an_amnesia_join_those_that_somebody_gave_the_store_since() {
        let mut lighter = rows("b1 b2");
        lighter.values_mut().for_each(|row| row.weight = Weight::new(5).unwrap());
        let merged = with_missing(&lighter, &rows("b2 b3"));
        let weights: Vec<_> = merged.iter().map(|(name, row)| (name.as_str(), row.weight.get())).collect();
        assert_eq!(weights, [("b1", 5), ("b2", 5), ("b3", 100)]);
    }
}
