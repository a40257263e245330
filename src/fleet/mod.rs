//! This proxy among its peers: per shard a link, a ledger and a lease, kept by a heartbeat.
//!
//! `lease.rs` renews and knows when this proxy must assume that its keys were given away; `reassert.rs` tells a store
//! that lost its memory what is here; `reports.rs` is what a heartbeat carries beside; `chores.rs` frees what dead proxies held;
//! `duties.rs` does what heartbeats ask for, `settle.rs` goes on with moves; `statefile.rs` remembers who ran here before.
//!
//! The backend table: `roster.rs` keeps it, `wish.rs` has the files' say, `copies.rs` brings it to the other shards,
//! `changes.rs` is what operators can do to it, `in_force.rs` does it and says who follows, `jobs.rs` moves the users that `survey.rs` finds.

mod changes;
mod chores;
mod copies;
mod duties;
mod in_force;
mod jobs;
mod lease;
mod plan;
mod reassert;
mod reports;
mod roster;
mod settle;
mod share;
mod statefile;
mod survey;
mod wish;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::FleetConfig;
use crate::ledger::Ledger;
use crate::model::{Clock, Incarnation, Key, KeyTemplate, Tasks};
use crate::store::Store;
use crate::store::link::{Identity, Link};
pub use changes::{Change, Verb};
pub use chores::forget;
pub use duties::Errands;
pub use in_force::{ChangeFault, InForce};
pub use jobs::{JobSettings, Trouble};
pub use lease::Lease;
pub use plan::Plan;
pub use reports::Reports;
pub use roster::{Roster, Rows};
pub use settle::{Hook, HookTurn, NoOrder, Settler, cancelled_text};
pub use statefile::{StateFile, StateFileError};

/// One shard of the store, as this proxy sees it.
#[derive(Clone)]
pub struct Shard {
    /// Which.
    pub number: u16,
    /// The line to it.
    pub link: Link,
    /// What this proxy holds of it.
    pub ledger: Arc<Ledger>,
    /// The right to be counted there.
    pub lease: Arc<Lease>,
    /// The backends that its claims choose from.
    pub roster: Arc<Roster>,
    /// What the next heartbeat says beside the renewal.
    pub reports: Arc<Reports>,
    /// The clock of its deadlines.
    pub clock: Clock,
    /// What carries its tasks.
    pub tasks: Tasks,
    store: Arc<dyn Store>,
    /// How long an answer of the store may take.
    patience: Duration,
    standing: watch::Receiver<Standing>,
}

/// Called with the rows of a table before it is in force here; says what of it cannot be used.
pub type Follow = Arc<dyn Fn(&Rows) -> Vec<String> + Send + Sync>;

/// What a proxy needs to join a fleet, beside its name.
pub struct Joining {
    /// How long an answer of the store may take.
    pub patience: Duration,
    /// The backends of this proxy's file.
    pub rows: Rows,
    /// What follows the table beside.
    pub follow: Follow,
    /// The incarnations that ran under its lock before are freed.
    pub state_file: Option<StateFile>,
    /// Number of the store's shards, at least 1; the same for all proxies.
    pub shards: u16,
    /// How names become keys; the same for all proxies.
    pub affinity: KeyTemplate,
    /// The clock of its deadlines.
    pub clock: Clock,
    /// What carries its tasks.
    pub tasks: Tasks,
}

/// Whether logins can be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// The number of the last hello under which all was asserted that it demanded.
    asserted: u64,
    /// No recovery window is open.
    settled: bool,
}

/// This proxy's membership in every shard.
pub struct Fleet {
    store: Arc<dyn Store>,
    shards: Vec<Shard>,
    incarnation: Incarnation,
    affinity: KeyTemplate,
    /// How bulk work is done here, once it is.
    jobs: OnceLock<JobSettings>,
}

/// The number of a key's shard among `shards`, which are at least one.
pub fn shard_of(key: &Key, shards: usize) -> usize {
    let hash = key
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash % shards as u64) as usize // less than shards, which is a usize
}

impl Fleet {
    /// Joins: connects to each shard, and keeps the leases until the process ends.
    pub fn join(store: Arc<dyn Store>, identity: Identity, config: &FleetConfig, joining: Joining) -> Self {
        let incarnation = identity.incarnation.clone();
        let mut shards: Vec<Shard> = Vec::new();
        for number in 0..joining.shards {
            let roster = match shards.first() {
                None => Roster::new(joining.rows.clone(), joining.follow.clone()),
                Some(first) => Roster::copy_of(Some(first.roster.clone()), joining.follow.clone()),
            };
            shards.push(join_shard(number, roster, store.clone(), identity.clone(), config, &joining));
        }
        joining.tasks.spawn(in_force::confirm(shards.clone(), incarnation.clone()));
        if let Some(file) = joining.state_file {
            let links = shards.iter().map(|shard| shard.link.clone()).collect();
            joining.tasks.spawn(chores::bury(links, file));
        }
        Self { store, shards, incarnation, affinity: joining.affinity, jobs: OnceLock::new() }
    }

    /// What a name binds to a backend.
    pub fn key_of(&self, name: &str) -> Key {
        self.affinity.key_of(name)
    }

    /// A name without its detail.
    pub fn without_detail(&self, name: &str) -> String {
        self.affinity.without_detail(name)
    }

    /// The shard of a key.
    pub fn shard_of(&self, key: &Key) -> &Shard {
        &self.shards[self.number_of(key)]
    }

    /// All of them.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// This run of the proxy.
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// The store behind them, for what operators ask.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// This proxy's file has changed: the backend table follows with the next heartbeat.
    pub fn change_file(&self, old: &Rows, new: Rows) {
        self.shards[0].roster.change(old, new); // there is always a first
    }

    /// The number of the shard of a key: FNV-1a, which every proxy computes alike and which must never change.
    pub fn number_of(&self, key: &Key) -> usize {
        shard_of(key, self.shards.len())
    }

    /// From now on does what the heartbeats of its shards ask for, until `closing`.
    pub fn attend(&self, settler: &Arc<Settler>, errands: &Errands, closing: &CancellationToken) {
        for shard in &self.shards {
            duties::attend(shard, settler.clone(), errands.clone(), closing.clone());
        }
    }

    /// Resolves once every shard can place logins: hello said, all asserted, table known, no recovery window.
    pub async fn ready(&self) {
        for shard in &self.shards {
            let mut standing = shard.standing.clone();
            // The sender lives as long as the heartbeat, which never ends while `self` is here.
            let _ = standing.wait_for(|standing| standing.settled).await;
        }
    }

    /// Leaves, once no session is left: declares the last of them and gives up the lease, so that peers need not wait for
    /// its end. Nothing can be asked of the store afterwards.
    pub async fn leave(&self) {
        for shard in &self.shards {
            chores::retire(shard, &self.incarnation).await;
        }
        tracing::info!("left the fleet");
    }
}

fn join_shard(
    number: u16,
    roster: Roster,
    store: Arc<dyn Store>,
    identity: Identity,
    config: &FleetConfig,
    joining: &Joining,
) -> Shard {
    let (pace, clock, tasks) = (lease::Pace::of(config), joining.clock, joining.tasks.clone());
    let incarnation = identity.incarnation.clone();
    let link = Link::start(store.clone(), number, identity, joining.patience, clock, &tasks);
    let (news, standing) = watch::channel(Standing::default());
    let news = Arc::new(news);
    let shard = Shard {
        number,
        link,
        ledger: Arc::new(Ledger::default()),
        lease: Arc::new(Lease::new(clock)),
        roster: Arc::new(roster),
        reports: Arc::new(Reports::default()),
        clock,
        tasks: tasks.clone(),
        store: store.clone(),
        patience: joining.patience,
        standing,
    };
    tasks.spawn(copies::follow(shard.clone()));
    tasks.spawn(reassert::keep(shard.clone(), news.clone()));
    tasks.spawn(lease::guard(shard.clone(), pace));
    tasks.spawn(reports::listen(store, number, incarnation, shard.reports.clone(), shard.link.clone()));
    tasks.spawn(lease::keep(shard.clone(), pace, news));
    shard
}
