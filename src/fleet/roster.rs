//! The backend table as this proxy knows it, and how its file's rows get into the store.
//!
//! The table in the store decides, for claims choose from it; it also lives on in every proxy, which gives it back to a
//! store that lost its memory. A proxy puts in what its file says when it starts and when its file changes (`wish.rs`), and
//! then follows the store: were it to insist, two proxies with different files would never be done. Rows that only other
//! proxies' files have are kept, unless no other proxy lives; what operators set (`changes.rs`) is kept in any case. The
//! first shard has the table; the others get copies (`copies.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tracing::{info, warn};

use super::wish::{Wish, wished, with_missing};
use super::{Follow, Shard};
use crate::ledger::Ledger;
use crate::model::{BackendId, Ending};
use crate::store::link::{Link, LinkState};
use crate::store::{BackendState, Beat, Reply, Request, Row, Table};

/// Rows by name.
pub type Rows = BTreeMap<BackendId, Row>;

/// The backend table of one shard.
pub struct Roster {
    table: ArcSwap<Table>,
    /// What the file has.
    file: ArcSwap<Rows>,
    /// What the file wants and the store was not told yet.
    wish: Mutex<Option<Wish>>,
    /// The last hello under which this proxy and the store had the same table.
    agreed: AtomicU64,
    /// The version in force.
    news: watch::Sender<u64>,
    follow: Follow,
    /// What cannot be used of the table in force.
    complaints: ArcSwap<Vec<String>>,
    /// The first shard's, if this is of another.
    pub(super) master: Option<Arc<Roster>>,
}

impl Roster {
    /// A roster that wants these rows in the store.
    pub(super) fn new(rows: Rows, follow: Follow) -> Self {
        let roster = Self::copy_of(None, follow);
        roster.file.store(Arc::new(rows.clone()));
        *roster.wish() = Some(Wish::at_start(rows));
        roster
    }

    /// A roster that wants what `master` has.
    pub(super) fn copy_of(master: Option<Arc<Roster>>, follow: Follow) -> Self {
        Self {
            table: ArcSwap::default(),
            file: ArcSwap::default(),
            wish: Mutex::default(),
            agreed: AtomicU64::new(0),
            news: watch::Sender::new(0),
            follow,
            complaints: ArcSwap::default(),
            master,
        }
    }

    /// The table in force, as last heard.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// What this proxy's file has.
    pub fn file(&self) -> Arc<Rows> {
        self.file.load_full()
    }

    pub(super) fn version(&self) -> u64 {
        self.table.load().version
    }

    /// What this proxy cannot use of the table in force, for operators.
    pub(super) fn complaints(&self) -> Arc<Vec<String>> {
        self.complaints.load_full()
    }

    /// The version in force, and when it changes.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The version to ask for news of. None that it had before a loss counts: a store that forgot may count anew. Nor does
    /// one of a copy that is above the first shard's, for it may be of before such a loss.
    pub(super) fn known(&self, now: &LinkState) -> u64 {
        let is_above = self.master.as_ref().is_some_and(|master| self.version() > master.version());
        if is_above || self.is_unsure(now) { 0 } else { self.version() }
    }

    /// The store may have lost its table since this proxy last saw it.
    fn is_unsure(&self, now: &LinkState) -> bool {
        self.agreed.load(Ordering::Relaxed) < now.hellos && now.welcome.as_ref().is_some_and(|welcome| welcome.assert)
    }

    /// This proxy has nothing to give back any more to a store that lost its table. Copies follow the first shard's.
    pub(super) fn has_agreed(&self, now: &LinkState) -> bool {
        self.master.is_some() || !self.is_unsure(now)
    }

    pub(super) fn is_agreed(&self, now: &LinkState) {
        self.agreed.store(now.hellos, Ordering::Relaxed);
    }

    /// Whether sessions may be opened at that backend.
    pub fn usable(&self, backend: &BackendId) -> bool {
        let here = |roster: &Self| roster.table.load().rows.get(backend).is_some_and(Row::usable);
        here(self) && self.master.as_deref().is_none_or(here)
    }

    /// The file has changed: puts what it says into the store with the next heartbeat.
    pub fn change(&self, old: &Rows, new: Rows) {
        self.file.store(Arc::new(new.clone()));
        let mut wish = self.wish();
        *wish = Some(Wish::of_change(wish.take(), old, new));
    }

    /// Whether what the file says stands in the store, so that claims choose by it.
    pub fn has_its_wish(&self) -> bool {
        match &self.master {
            Some(master) => self.version() >= master.version(),
            None => self.wish().is_none(),
        }
    }

    /// Brings this proxy's table and the store's, as a heartbeat brought it, together. False until that is done.
    pub(super) async fn agree(&self, shard: &Shard, now: &LinkState, beat: &mut Beat) -> bool {
        if let Some(master) = &self.master {
            return self.copy(master, shard, now, beat).await;
        }
        let (link, ledger) = (&shard.link, &*shard.ledger);
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
        self.is_agreed(now);
        true
    }

    /// Puts a table in force; sessions at backends that it finds unusable or lacks are closed.
    pub(super) fn install(&self, table: Table, ledger: &Ledger) {
        let version = table.version;
        if self.master.is_none() {
            // First, so that whoever is sent to a new backend finds it.
            let mut complaints = (self.follow)(&table.rows);
            let unread = table.rows.iter().filter(|(_, row)| row.unread.is_some());
            complaints.extend(unread.map(|(name, _)| {
                format!(
                    "{name} was written by a newer version of homing: no new users are placed there by older proxies"
                )
            }));
            self.complaints.store(Arc::new(complaints));
        }
        let before = self.table.swap(Arc::new(table));
        if self.master.is_none() {
            announce(&before, &self.table());
        }
        let closed = self.close_unusable(ledger);
        self.news.send_replace(version);
        info!(version, sessions_closed = closed, "backend table in force");
    }

    /// Not only what the table before had: a claim may have named a backend that came and went between two heartbeats.
    pub(super) fn close_unusable(&self, ledger: &Ledger) -> usize {
        ledger.close_at(|backend| !self.usable(backend), Ending::Kicked)
    }

    /// What was wished for stands in the store.
    fn granted(&self, wish: Option<&Wish>) {
        let Some(done) = wish else { return };
        let mut wish = self.wish();
        if wish.as_ref() == Some(done) {
            let table = self.table.load();
            let strange = |name: &BackendId, row: &Row| {
                !done.rows.contains_key(name) && row.added.is_none() && row.state != BackendState::Removed
            };
            for (name, _) in table.rows.iter().filter(|(name, row)| strange(name, row)) {
                warn!(
                    backend = %name,
                    "the fleet has a backend that this proxy's file lacks; users placed there cannot log in here: add it \
                     here, or take it from the fleet with `homing backend remove`"
                );
            }
            *wish = None;
        }
    }

    fn wish(&self) -> MutexGuard<'_, Option<Wish>> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line for each backend that is in another condition than before, for the version alone tells nobody what has happened.
fn announce(before: &Table, now: &Table) {
    for (backend, was, is) in turns(before, now) {
        match is {
            "failing" => {
                warn!(%backend, was, "the fleet takes its users from a backend that most proxies find failing")
            }
            _ => info!(%backend, was, is, "a backend has another state in the fleet"),
        }
    }
}

/// The backends whose condition has changed, with the words for it; "none" where there is no row. What a proxy finds when it
/// starts is no change.
fn turns<'a>(before: &'a Table, now: &'a Table) -> Vec<(&'a BackendId, &'static str, &'static str)> {
    if before.version == 0 {
        return Vec::new();
    }
    let condition = |table: &Table, name| table.rows.get(name).map_or("none", Row::condition);
    let names: BTreeSet<_> = before.rows.keys().chain(now.rows.keys()).collect();
    let turn = |name| (name, condition(before, name), condition(now, name));
    names.into_iter().map(turn).filter(|(_, was, is)| was != is).collect()
}

/// Replaces the store's table; what it has then, unless somebody else was faster.
async fn put(link: &Link, hello: u64, base: Table, rows: Rows) -> Option<Table> {
    let request = Request::Table { based_on: base.version, rows: rows.clone() };
    match link.call_under(hello, request).await.ok()?.reply {
        Reply::Table(Ok(version)) => Some(Table { version, rows: base.succeeded_by(rows, version) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_announced_when_its_condition_changes_and_not_when_the_proxy_starts() {
        let row = |state, failing| Row { state, failing, ..Row::default() };
        let table = |version, rows: &[(&str, Row)]| Table {
            version,
            rows: rows.iter().map(|(name, row)| (BackendId::new(*name), row.clone())).collect(),
        };
        let up = row(BackendState::Up, false);
        let all = [("dies", up.clone()), ("goes", up.clone()), ("rests", up.clone()), ("stays", up.clone())];
        let before = table(5, &all);
        assert_eq!(turns(&Table::default(), &before), []);
        let lighter = Row { weight: crate::model::Weight::NONE, ..up.clone() };
        let (dead, drained) = (row(BackendState::Up, true), row(BackendState::Drain, false));
        let now = table(6, &[("comes", up), ("dies", dead), ("rests", drained), ("stays", lighter)]);
        let turns = turns(&before, &now);
        let said: Vec<_> = turns.iter().map(|(name, was, is)| (name.as_str(), *was, *is)).collect();
        let expected =
            [("comes", "none", "up"), ("dies", "up", "failing"), ("goes", "up", "none"), ("rests", "up", "drain")];
        assert_eq!(said, expected);
    }
}
