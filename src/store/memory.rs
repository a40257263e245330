//! The store inside one process: the default of a single proxy, and the reference that the scripts in `lua/` are held to.
//!
//! A clone shares the state, so several proxies of one process can be a fleet. `shard` is a shard's state and the calls
//! that concern proxies; `claim`, `declare`, `reap`, `moves` and `marks` are those that concern keys; `place` chooses; `binding`
//! counts; `votes` and `errands` are what the whole fleet decides and does.

mod binding;
mod claim;
mod declare;
mod errands;
mod marks;
mod moves;
mod notes;
mod place;
mod reap;
mod shard;
mod view;
mod votes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use self::shard::Shard;
use super::clock::{Simulated, system_ms};
use super::{
    BindingPage, BindingView, Call, Census, Connection, Nudges, Order, Ordered, Reply, Rules, Store, StoreError,
};
use crate::model::{Incarnation, Key};

/// A store in this process. Clones are connections to the same one.
#[derive(Clone, Debug)]
pub struct Memory {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    rules: Rules,
    server: Server,
    /// A shard begins to open, so that a fresh store makes nobody wait.
    opened: bool,
    shards: Mutex<BTreeMap<u16, Shard>>,
    listeners: Mutex<BTreeMap<(u16, Incarnation), Arc<Notify>>>,
    board: notes::Board,
}

/// What a Redis server would answer to TIME and as its run id.
#[derive(Debug)]
enum Server {
    Own { run: String },
    Simulated(Arc<Simulated>),
}

impl Server {
    fn ms(&self) -> u64 {
        match self {
            Self::Own { .. } => system_ms(),
            Self::Simulated(simulated) => simulated.ms(),
        }
    }

    fn run(&self) -> String {
        match self {
            Self::Own { run } => run.clone(),
            Self::Simulated(simulated) => simulated.run(),
        }
    }
}

/// All that a [`Memory`] held at one instant. See [`Memory::restore`].
#[derive(Clone, Debug)]
pub struct Saved(BTreeMap<u16, Shard>);

impl Memory {
    /// A new store for one process. Nothing can have been forgotten, so there is no recovery window.
    pub fn embedded(rules: Rules) -> Self {
        let run = Incarnation::random().as_str().to_owned();
        Self::new(rules, Server::Own { run }, true)
    }

    /// The same by another clock than this machine's, and with a run id to match.
    pub fn embedded_by(rules: Rules, server: Arc<Simulated>) -> Self {
        Self::new(rules, Server::Simulated(server), true)
    }

    /// A new store that behaves as an empty server would whose clock and run id a test controls.
    pub fn simulated(rules: Rules, server: Arc<Simulated>) -> Self {
        Self::new(rules, Server::Simulated(server), false)
    }

    fn new(rules: Rules, server: Server, opened: bool) -> Self {
        Self {
            state: Arc::new(State {
                rules,
                server,
                opened,
                shards: Mutex::default(),
                listeners: Mutex::default(),
                board: notes::Board::default(),
            }),
        }
    }

    /// Forgets everything, as FLUSHALL does: whoever calls is told so, and the next hello opens a recovery window.
    pub fn flush(&self) {
        for shard in self.shards().values_mut() {
            *shard = Shard::default();
        }
    }

    /// Forgets one shard, as an empty server in its place would have.
    pub fn flush_shard(&self, number: u16) {
        self.shards().insert(number, Shard::default());
    }

    /// All that it holds now.
    pub fn save(&self) -> Saved {
        Saved(self.shards().clone())
    }

    /// Goes back to what it held then, as a replica or a file that lacks the latest writes does.
    pub fn restore(&self, saved: &Saved) {
        self.shards().clone_from(&saved.0);
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<u16, Shard>> {
        // A poisoned lock: some thread panicked between two statements of a call. The counts heal by declares.
        self.state.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_shard<T>(&self, number: u16, work: impl FnOnce(&mut Shard, &Moment<'_>) -> T) -> T {
        let state = &*self.state;
        let moment = Moment { rules: &state.rules, server_ms: state.server.ms(), run: state.server.run() };
        let mut shards = self.shards();
        let shard = shards
            .entry(number)
            .or_insert_with(|| if state.opened { Shard::opened(&moment) } else { Shard::default() });
        let outcome = work(shard, &moment);
        let nudged = std::mem::take(&mut shard.nudged);
        drop(shards);
        self.nudge(number, nudged);
        outcome
    }

    fn nudge(&self, shard: u16, nudged: BTreeSet<Incarnation>) {
        let listeners = self.state.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = nudged.into_iter().filter_map(|incarnation| listeners.get(&(shard, incarnation)));
        heard.for_each(|listener| listener.notify_one());
    }
}

/// What surrounds one call.
struct Moment<'a> {
    rules: &'a Rules,
    /// The server's clock; the shard's own follows it with care.
    server_ms: u64,
    /// The server's run id.
    run: String,
}

#[async_trait]
impl Store for Memory {
    async fn connect(&self, shard: u16) -> Result<Box<dyn Connection>, StoreError> {
        Ok(Box::new(ToShard { memory: self.clone(), shard }))
    }

    async fn order(&self, shard: u16, order: &Order) -> Result<Ordered, StoreError> {
        let outcome = self.with_shard(shard, |shard, moment| shard.carry_out(order, moment));
        Ok(Ordered { outcome, replicas: None })
    }

    async fn nudges(&self, shard: u16, incarnation: &Incarnation) -> Result<Box<dyn Nudges>, StoreError> {
        let notify = Arc::new(Notify::new());
        let mut listeners = self.state.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|_, listener| Arc::strong_count(listener) > 1); // nobody listens any more
        listeners.insert((shard, incarnation.clone()), notify.clone());
        Ok(Box::new(Listener(notify)))
    }

    async fn bindings(&self, shard: u16, cursor: &str) -> Result<BindingPage, StoreError> {
        Ok(self.with_shard(shard, |shard, moment| shard.binding_page(cursor, moment)))
    }

    async fn binding(&self, shard: u16, key: &Key) -> Result<Option<BindingView>, StoreError> {
        Ok(self.with_shard(shard, |shard, moment| shard.binding_view(key, moment)))
    }

    async fn census(&self, shard: u16) -> Result<Census, StoreError> {
        Ok(self.with_shard(shard, |shard, moment| shard.census(moment)))
    }
}

struct Listener(Arc<Notify>);

#[async_trait]
impl Nudges for Listener {
    async fn next(&mut self) -> Result<(), StoreError> {
        self.0.notified().await;
        Ok(())
    }
}

struct ToShard {
    memory: Memory,
    shard: u16,
}

#[async_trait]
impl Connection for ToShard {
    async fn exchange(&mut self, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        let apply = |call| self.memory.with_shard(self.shard, |shard, moment| shard.apply(call, moment));
        Ok(calls.iter().map(apply).collect())
    }
}
