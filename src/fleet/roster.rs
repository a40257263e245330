//! The backend table as this proxy knows it, and how its file's rows get into the store.
//!
//! The table in the store decides, for claims choose from it; it also lives on in every proxy, which gives it back to a
//! store that lost its memory. A proxy puts in what its file says when it starts and when its file changes. Rows that
//! only other proxies' files have are kept, unless no other proxy lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::ledger::Ledger;
use crate::model::{BackendId, Ending};
use crate::store::link::{Link, LinkState};
use crate::store::{BackendState, Reply, Request, Row, Table};

/// Rows by name.
pub type Rows = BTreeMap<BackendId, Row>;

/// The backend table.
pub struct Roster {
    table: ArcSwap<Table>,
    /// What the file wants and the store was not told yet.
    wish: Mutex<Option<Wish>>,
}

#[derive(Clone)]
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
        Self { table: ArcSwap::default(), wish: Mutex::new(Some(wish)) }
    }

    /// The table in force, as last heard.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    pub(super) fn version(&self) -> u64 {
        self.table.load().version
    }

    /// Whether sessions may be opened at that backend.
    pub fn usable(&self, backend: &BackendId) -> bool {
        self.table.load().rows.get(backend).is_some_and(|row| row.state != BackendState::Down)
    }

    /// The file has changed: puts the difference into the store with the next heartbeat.
    pub fn change(&self, old: &Rows, new: Rows) {
        let removed = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        let mut wish = self.wish();
        let first = wish.as_ref().is_some_and(|wish| wish.first);
        *wish = Some(Wish { rows: new, removed, first });
    }

    /// Takes over a newer table; sessions at backends that it calls down or lacks are closed.
    pub(super) fn adopt(&self, table: Table, ledger: &Ledger) {
        if table.version > self.version() {
            self.install(table, ledger);
        }
    }

    fn install(&self, table: Table, ledger: &Ledger) {
        let old = self.table.swap(Arc::new(table));
        let unusable = old.rows.keys().filter(|name| !self.usable(name));
        for backend in unusable {
            let closed = ledger.close_backend(backend, Ending::Kicked);
            if closed > 0 {
                info!(%backend, sessions = closed, "backend is down or removed: its sessions were closed");
            }
        }
        info!(version = self.version(), "backend table in force");
    }

    /// Brings the store's table up to date with what this proxy knows and wants. False until that is done.
    pub(super) async fn publish(&self, link: &Link, ledger: &Ledger, now: &LinkState, stored: u64) -> bool {
        let wish = self.wish().clone();
        let table = self.table();
        let peers = now.welcome.as_ref().map_or(0, |welcome| welcome.peers);
        let rows = wished(&table.rows, wish.as_ref(), peers);
        if stored > table.version {
            return false; // the next heartbeat brings it
        }
        if rows == table.rows && stored == table.version && stored > 0 {
            self.granted(wish.as_ref());
            return true;
        }
        let request = Request::Table { based_on: stored, rows: rows.clone() };
        let Ok(answer) = link.call_under(now.hellos, request).await else { return false };
        match answer.reply {
            Reply::Table(Ok(version)) => {
                let before = Table { version: stored, rows: table.rows.clone() };
                let rows = before.succeeded_by(rows, version);
                // In force whatever its number: a store that lost its memory may have counted back.
                self.install(Table { version, rows }, ledger);
                self.granted(wish.as_ref());
                true
            }
            Reply::Table(Err(newer)) => {
                self.adopt(newer, ledger);
                false
            }
            _ => false,
        }
    }

    /// What was wished for stands in the store.
    fn granted(&self, wish: Option<&Wish>) {
        let Some(done) = wish else { return };
        let mut wish = self.wish();
        if wish.as_ref().is_some_and(|wish| wish.rows == done.rows && wish.removed == done.removed) {
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

/// The rows that the store should have.
fn wished(present: &Rows, wish: Option<&Wish>, peers: u32) -> Rows {
    let Some(wish) = wish else { return present.clone() };
    if wish.first && peers == 0 {
        return with_since(wish.rows.clone(), present);
    }
    let mut rows = present.clone();
    rows.retain(|name, _| !wish.removed.contains(name));
    rows.extend(wish.rows.clone());
    with_since(rows, present)
}

/// When a row's state began is for the store to say; what it said is kept, so that nothing seems to have changed.
fn with_since(mut rows: Rows, present: &Rows) -> Rows {
    for (name, row) in &mut rows {
        row.since = present.get(name).map_or(0, |present| present.since);
    }
    rows
}
