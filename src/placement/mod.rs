//! A key's home: `claim.rs` joins a live session or asks the store; `declare.rs` tells the store what has changed;
//! `errand.rs` is what the whole fleet does at an operator's word.
//!
//! What operators do to it: `moves.rs` (move, kick, hold, release, pin) with `watch.rs`, `confirmed.rs`, `migrate.rs`, `lock.rs`, `forget.rs`; and what they ask:
//! `explain.rs`, `list.rs`.

mod claim;
mod confirmed;
mod declare;
pub mod errand;
mod explain;
mod forget;
mod list;
mod lock;
mod migrate;
mod moves;
mod people;
mod watch;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::timeout;

use crate::fleet::Fleet;
use crate::ledger::{Slot, Stop};
use crate::model::{BackendId, Key, Pool, Refusal};
pub use explain::{Candidate, Explanation, Next};
pub use forget::Forgotten;
pub use list::{Bookmark, Filter};
pub use migrate::{Migration, MigrationReport, MigrationStep, Quiet};
pub use moves::{MarkReport, MoveEnd, MoveReport, MoveWish, Moves, Refused, Who};

/// How long an operator's look into the store may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the store, but not for ever: operators ask just when something hangs.
async fn in_time<T, E: Display>(question: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(PATIENCE, question).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the store gave no answer within {PATIENCE:?}")),
    }
}

/// What a login asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose home.
    pub key: Key,
    /// The pool that may serve the key.
    pub pool: Pool,
    /// The backend that the passdb names.
    pub pin: Option<BackendId>,
    /// The most sessions of the key, fleet-wide; 0 for any number.
    pub limit: u32,
    /// Nobody has checked the password yet.
    pub unproven: bool,
}

/// Finds homes. One for the whole proxy.
pub struct Placement {
    fleet: Arc<Fleet>,
    times: Times,
}

/// How long a login waits.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For a home that is being settled.
    pub login_wait: Duration,
    /// The longest age of a claim's answer: half the recovery window.
    pub fresh: Duration,
    /// How long a home that was left here counts, if the store has forgotten it.
    pub user_expire: Duration,
}

impl Placement {
    /// Starts declaring what changes in the ledgers of `fleet`.
    pub fn start(fleet: Arc<Fleet>, times: Times) -> Self {
        for shard in fleet.shards() {
            shard.tasks.spawn(declare::keep(shard.clone()));
        }
        Self { fleet, times }
    }

    /// What a name binds to a backend.
    pub fn key_of(&self, name: &str) -> Key {
        self.fleet.key_of(name)
    }

    /// A name without its detail.
    pub fn without_detail(&self, name: &str) -> String {
        self.fleet.without_detail(name)
    }

    /// Whether sessions may be opened at a backend, as the fleet's table has it.
    pub fn usable(&self, backend: &BackendId) -> bool {
        self.fleet.shards().first().is_some_and(|shard| shard.roster.usable(backend))
    }

    /// The isolation deadline of a key's shard, for its relay.
    pub fn isolation(&self, key: &Key) -> Arc<AtomicU64> {
        self.fleet.shard_of(key).lease.deadline().clone()
    }

    /// Gives a key its home and counts one session there. `stop` ends that session, from now on.
    pub async fn place(&self, wanted: &Wanted, stop: Arc<dyn Stop>) -> Result<Slot, Refusal> {
        claim::place(self.fleet.shard_of(&wanted.key), wanted, &stop, self.times).await
    }
}
