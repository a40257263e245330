//! The state that the fleet shares: who is where, how many, and which proxies live.
//!
//! One trait, [`Store`], with two implementations that pass one contract (`tests/store`): [`memory`], the reference, and
//! [`redis`], Lua scripts in `lua/`. A proxy talks to a shard through its [`link`], which numbers the calls. What each
//! request does is said once, at its type in [`request`]; the Lua file of the same name does it.

pub mod clock;
pub mod link;
pub mod memory;
pub mod notes;
pub mod order;
pub mod redis;
pub mod request;

use async_trait::async_trait;

use crate::model::{BackendId, Generation, Incarnation, Key};
pub use order::*;
pub use request::*;

/// Why the store gave no usable answer. Says nothing about whether the calls were applied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be made.
    #[error("the store at {at} cannot be reached: {why}")]
    Unreachable {
        /// Address without secrets.
        at: String,
        /// Cause.
        why: String,
    },
    /// The connection broke, or an answer did not come in time.
    #[error("the store at {at} gave no answer: {why}")]
    NoAnswer {
        /// Address without secrets.
        at: String,
        /// Cause.
        why: String,
    },
    /// The server cannot serve as a store as it is configured.
    #[error("the store at {at} is unfit: {why}")]
    Unfit {
        /// Address without secrets.
        at: String,
        /// Cause and remedy.
        why: String,
    },
}

/// Shared state of a fleet: a set of shards, each complete for its keys.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Opens a connection to a shard, ready for calls.
    async fn connect(&self, shard: u16) -> Result<Box<dyn Connection>, StoreError>;

    /// Gives one order over a connection of its own. An error says nothing about whether it was carried out.
    async fn order(&self, shard: u16, order: &Order) -> Result<Ordered, StoreError>;

    /// Listens for what cannot wait until the next heartbeat of that incarnation.
    async fn nudges(&self, shard: u16, incarnation: &Incarnation) -> Result<Box<dyn Nudges>, StoreError>;

    /// The binding of one key, for operators. Goes beside the links, changes nothing.
    async fn binding(&self, shard: u16, key: &Key) -> Result<Option<BindingView>, StoreError>;

    /// A page of the bindings of one shard, in no order, for operators; a key may come twice. `cursor` begins as "0".
    /// Goes beside the links, changes nothing.
    async fn bindings(&self, shard: u16, cursor: &str) -> Result<BindingPage, StoreError>;

    /// Proxies, backends and loads of one shard, for operators. Goes beside the links, changes nothing.
    async fn census(&self, shard: u16) -> Result<Census, StoreError>;
}

/// One connection to one shard.
#[async_trait]
pub trait Connection: Send {
    /// Sends `calls` as one pipeline. They are applied in their order, each atomically; answers come in the same order.
    /// An error says nothing about any of them. The caller sets the deadline.
    async fn exchange(&mut self, calls: &[Call]) -> Result<Vec<Reply>, StoreError>;
}

/// Hints that a heartbeat should go now. They may be lost: the heartbeat that comes anyway brings the truth.
#[async_trait]
pub trait Nudges: Send {
    /// Waits for the next. Several may come as one. An error: listen anew.
    async fn next(&mut self) -> Result<(), StoreError>;
}

/// Times and factors of the state protocol. All proxies of a fleet must agree on them. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Renewed by every heartbeat; when it is over, the proxy is an orphan and its sessions leave the load.
    pub lease: u64,
    /// How long after its lease an orphan's keys stay bound by it.
    pub orphan_grace: u64,
    /// Length of a recovery window.
    pub recovery: u64,
    /// Longest time that claims wait for proxies that said hello in this window but have not re-asserted.
    pub recovery_max: u64,
    /// How long a key without sessions keeps its home unconditionally.
    pub user_expire: u64,
    /// How long a key without sessions is remembered at all.
    pub remember: u64,
    /// A remembered home is taken again while its load is below this factor times its fair share.
    pub balance_factor: f64,
    /// How long the weight of a backend ramps up after it came up; 0 for at once.
    pub slow_start: u64,
    /// A key at a dead backend waits for orphans, too, before it is placed anew.
    pub strict: bool,
    /// Between the end of the last session at the old home of a key that is moved, and the first at the new.
    pub kick_delay: u64,
    /// How long whoever runs a move's hook may take before somebody else is asked.
    pub hook_lease: u64,
    /// The largest part of a pool's backends that votes may call dead, 0 to 1. If all look dead, the network is the suspect.
    pub max_down: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            lease: 15_000,
            orphan_grace: 3_600_000,
            recovery: 4_000,
            recovery_max: 60_000,
            user_expire: 900_000,
            remember: 604_800_000,
            balance_factor: 1.25,
            slow_start: 0,
            strict: false,
            kick_delay: 2_000,
            hook_lease: 40_000,
            max_down: 0.5,
        }
    }
}

/// A binding as operators see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingView {
    /// The home; `None` if the key only has a hold.
    pub backend: Option<BackendId>,
    /// Its generation.
    pub generation: Generation,
    /// Sessions in all.
    pub sessions: u32,
    /// Sessions per incarnation.
    pub holders: Vec<(Incarnation, u32)>,
    /// Since when it has had no session: milliseconds ago.
    pub idle_ms: Option<u64>,
    /// The login that made it has not been confirmed by the backend yet.
    pub unproven: bool,
    /// The operator's pin.
    pub pin: Option<BackendId>,
    /// Held: for so many milliseconds more, or 0 without end.
    pub hold_ms: Option<u64>,
    /// Locked, by whoever migrates it.
    pub lock: Option<Lock>,
    /// It is being moved.
    pub moving: Option<MovingView>,
    /// Former homes, the latest first, at most [`PASTS`].
    pub past: Vec<Past>,
}

/// A move under way, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovingView {
    /// Where to.
    pub to: Target,
    /// Milliseconds until it is given up.
    pub left_ms: u64,
    /// Its hook.
    pub hook: HookState,
}

/// A former home of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Which.
    pub backend: BackendId,
    /// Its generation, which is about when it began, in milliseconds of the store's clock.
    pub generation: Generation,
    /// When it ended: the generation of the next.
    pub until: Generation,
    /// Why: "move", "force", "dead", "pin", "placed", "declared", "kick".
    pub why: String,
}

/// The most former homes that are kept of a key.
pub const PASTS: usize = 10;

/// See [`Store::bindings`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingPage {
    /// Some bindings.
    pub bindings: Vec<(Key, BindingView)>,
    /// For the next page; `None` at the end.
    pub next: Option<String>,
}

/// A proxy as the store sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyView {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its configured name.
    pub name: String,
    /// The version of homing that it runs.
    pub version: String,
    /// Milliseconds since it said its first hello, by the store's clock.
    pub age_ms: u64,
    /// Milliseconds left of its lease; for an orphan, until its keys are freed.
    pub left_ms: u64,
    /// Its lease is over.
    pub orphan: bool,
    /// Sessions it holds, per backend.
    pub sessions: Vec<(BackendId, u32)>,
    /// Backends that it finds dead.
    pub failing: Vec<BackendId>,
    /// What it still has to do, per backend with a job.
    pub left: Vec<Left>,
    /// The last errand that it has taken on.
    pub errand: u64,
}

/// A backend as the store sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendView {
    /// Its name.
    pub backend: BackendId,
    /// What the table says of it.
    pub row: Row,
    /// Sessions, without those of orphans.
    pub sessions: u32,
    /// Keys bound to it that have sessions.
    pub users: u32,
    /// How many of the live proxies' names find it dead.
    pub votes: u32,
    /// How often it was chosen since the table changed: among the equally loaded, who was given least for its share is next.
    pub placed: u32,
}

/// What a shard holds, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Counts recoveries.
    pub epoch: u64,
    /// The shard's clock, in milliseconds; 0 while the shard has no memory.
    pub now: u64,
    /// Milliseconds until the recovery window may close, if one is open.
    pub recovering_ms: Option<u64>,
    /// Version of the backend table.
    pub table_version: u64,
    /// Registered proxies, orphans too, by incarnation.
    pub proxies: Vec<ProxyView>,
    /// Backends of the table, by name.
    pub backends: Vec<BackendView>,
    /// Different names of live proxies: who votes.
    pub voters: u32,
    /// Keys that are being moved.
    pub moving: u32,
    /// How often a key was declared at another backend than where others held it: two homes, found and ended.
    pub splits: u64,
}
