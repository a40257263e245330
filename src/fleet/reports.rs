//! What a heartbeat carries beside the renewal, and what it brings that others in this proxy are to do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::debug;

use crate::model::{BackendId, Incarnation, Key};
use crate::store::link::Link;
use crate::store::{Heartbeat, Left, Store};

/// How long a nudge waits for company: many kicks at once make one heartbeat.
const GATHER: Duration = Duration::from_millis(5);
/// Before listening anew where the store could not be listened to.
const AGAIN: Duration = Duration::from_secs(1);
/// The most moves that are kept for whoever looks after them; the heartbeats repeat what is dropped.
const KEPT: usize = 1000;

/// One shard's reports.
#[derive(Default)]
pub struct Reports {
    state: Mutex<State>,
    /// The last errand that was taken on.
    errand: AtomicU64,
    soon: Notify,
    /// Rung when moves are to be looked after.
    moved: Notify,
    /// Rung when an errand is given.
    given: Notify,
    /// Rung when word of a table is asked for.
    asked: Notify,
}

/// An errand that asks for word when a table is in force, but for its version.
const TABLE_ERRAND: &str = "table ";

/// The errand that asks every proxy for word when it has the table of that version.
pub(super) fn table_errand(version: u64) -> String {
    format!("{TABLE_ERRAND}{version}")
}

#[derive(Default)]
struct State {
    failing: Vec<BackendId>,
    left: Vec<Left>,
    moves: VecDeque<Key>,
    /// Errands by number.
    errands: VecDeque<(u64, String)>,
    /// Errands that are being done.
    busy: u32,
    /// Errands that ask for word of a table: number and version.
    tables: VecDeque<(u64, u64)>,
}

impl Reports {
    /// From now on these backends are found dead. The store hears of a change at once.
    pub fn failing(&self, backends: Vec<BackendId>) {
        let mut state = self.state();
        if state.failing != backends {
            state.failing = backends;
            drop(state);
            self.beat_soon();
        }
    }

    /// This is still to be done here for each backend with a job.
    pub fn left(&self, left: Vec<Left>) {
        self.state().left = left;
    }

    /// Asks for a heartbeat now rather than when its time comes.
    pub fn beat_soon(&self) {
        self.soon.notify_one();
    }

    /// Waits for the next move that somebody should look after.
    pub(super) async fn move_to_settle(&self) -> Key {
        loop {
            if let Some(key) = self.state().moves.pop_front() {
                return key;
            }
            self.moved.notified().await;
        }
    }

    /// Waits for the next errand of the fleet: its number, and what is to be done.
    pub(super) async fn errand(&self) -> (u64, String) {
        loop {
            {
                let mut state = self.state();
                if let Some(errand) = state.errands.pop_front() {
                    state.busy += 1;
                    return errand;
                }
            }
            self.given.notified().await;
        }
    }

    /// An errand is done, and was answered if that was possible.
    pub(super) fn errand_done(&self) {
        let mut state = self.state();
        state.busy = state.busy.saturating_sub(1);
    }

    /// Whether there are errands that somebody waits for.
    pub(super) fn has_errands(&self) -> bool {
        let state = self.state();
        state.busy > 0 || !state.errands.is_empty()
    }

    /// What was last said of that backend.
    pub(super) fn left_of(&self, backend: &BackendId) -> Option<u32> {
        self.state().left.iter().find(|left| left.backend == *backend).map(|left| left.keys)
    }

    /// Waits until word of a table is asked for: the errand's number and the version.
    pub(super) async fn table_asked_for(&self) -> (u64, u64) {
        loop {
            if let Some(asked) = self.state().tables.pop_front() {
                return asked;
            }
            self.asked.notified().await;
        }
    }

    /// Resolves when a heartbeat should go early.
    pub(super) async fn due(&self) {
        self.soon.notified().await;
    }

    pub(super) fn heartbeat(&self, shard: u16, asserted: bool, table_version: u64) -> Heartbeat {
        let state = self.state();
        Heartbeat {
            asserted,
            table_version,
            // The first shard counts the votes for all.
            failing: (shard == 0).then(|| state.failing.clone()),
            left: state.left.clone(),
            errand: self.errand.load(Ordering::Relaxed),
        }
    }

    /// A heartbeat brought these.
    pub(super) fn heard(&self, moves: Vec<Key>, errands: Vec<(u64, String)>) {
        if moves.is_empty() && errands.is_empty() {
            return;
        }
        let mut state = self.state();
        for key in moves {
            if state.moves.len() < KEPT && !state.moves.contains(&key) {
                state.moves.push_back(key);
            }
        }
        for (number, text) in errands {
            // An errand is taken on once, so none may be dropped.
            if number <= self.errand.fetch_max(number, Ordering::Relaxed) {
                continue;
            }
            match text.strip_prefix(TABLE_ERRAND).and_then(|version| version.parse().ok()) {
                Some(version) => state.tables.push_back((number, version)),
                None => state.errands.push_back((number, text)),
            }
        }
        drop(state);
        self.asked.notify_one();
        self.given.notify_one();
        self.moved.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens for nudges until the link is gone.
pub(super) async fn listen(
    store: Arc<dyn Store>,
    shard: u16,
    incarnation: Incarnation,
    reports: Arc<Reports>,
    link: Link,
) {
    let state = link.state();
    drop(link);
    while state.has_changed().is_ok() {
        match store.nudges(shard, &incarnation).await {
            Ok(mut nudges) => {
                while nudges.next().await.is_ok() {
                    sleep(GATHER).await;
                    reports.beat_soon();
                }
            }
            Err(error) => debug!(shard, %error, "nudges cannot be heard; heartbeats bring what they would"),
        }
        sleep(AGAIN).await;
    }
}
