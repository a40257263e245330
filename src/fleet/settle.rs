//! One step of a move: ask the store how far it is, and run its hook if it says so.
//!
//! Whoever looks after a move comes here: the operator's functions, and every proxy that a heartbeat asks to. What is known
//! of the move is in the store, so any of them may die.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::Roster;
use crate::model::{BackendId, Incarnation, Key, Weight};
use crate::store::{Cancelled, Order, Outcome, Row, Settle, Settled, Store, Target};

/// How long the store may take for one order; it may wait a second for a replica.
const PATIENCE: Duration = Duration::from_secs(3);
/// Before a hook's verdict that got no answer is told again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a hook's verdict is told. Then whoever is asked next runs the hook again.
const TOLD: u32 = 20;
/// Failures of hooks that are remembered for whoever asks why.
const FAILURES: usize = 100;

/// What is run between the end of the old home and the beginning of the new.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Runs it to its end, which it has in bounded time. The error is one line for the operator.
    async fn run(&self, turn: &HookTurn) -> Result<(), String>;
}

/// What a hook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookTurn {
    /// Whose home changes.
    pub key: Key,
    /// The old home.
    pub from: BackendId,
    /// It may have users.
    pub from_up: bool,
    /// Its weight.
    pub from_weight: Weight,
    /// The new home, unless it will be chosen later.
    pub to: Option<BackendId>,
    /// Somebody may have begun before, and died.
    pub again: bool,
}

impl HookTurn {
    /// `roster` says what is known of the old home.
    pub fn new(roster: &Roster, key: &Key, from: &BackendId, to: &Target, again: bool) -> Self {
        let table = roster.table();
        let row = table.rows.get(from);
        let to = match to {
            Target::Backend(backend) => Some(backend.clone()),
            Target::Elsewhere | Target::Anywhere | Target::Stay => None,
        };
        Self {
            key: key.clone(),
            from: from.clone(),
            from_up: row.is_some_and(Row::usable),
            from_weight: row.map_or(Weight::default(), |row| row.weight),
            to,
            again,
        }
    }
}

/// Why there is no answer to an order. It may have been carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOrder {
    /// The store said nothing, or nothing that could be understood.
    #[error("{0}")]
    Store(String),
    /// The store does not know who holds what.
    #[error("the store is recovering what it lost; ask again in {0} ms")]
    Recovering(u64),
}

/// Goes on with moves in the name of this proxy.
pub struct Settler {
    store: Arc<dyn Store>,
    incarnation: Incarnation,
    hook: Option<Arc<dyn Hook>>,
    /// The latest hooks that failed here, and why.
    failures: Mutex<VecDeque<(Key, Instant, String)>>,
}

impl Settler {
    /// `hook`: what `[moves]` says is to be run when a user is moved.
    pub fn new(store: Arc<dyn Store>, incarnation: Incarnation, hook: Option<Arc<dyn Hook>>) -> Self {
        Self { store, incarnation, hook, failures: Mutex::default() }
    }

    /// Whether there is something to run when a user is moved.
    pub fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// Why a hook of that key failed here, if one has since then.
    pub fn failure(&self, key: &Key, since: Instant) -> Option<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().find(|(whose, at, _)| whose == key && *at >= since).map(|(.., why)| why.clone())
    }

    /// Gives an order, but does not wait for ever.
    pub async fn order(&self, shard: u16, order: &Order) -> Result<Outcome, NoOrder> {
        let answer = timeout(PATIENCE, self.store.order(shard, order)).await;
        let answer = answer.map_err(|_| NoOrder::Store(format!("the store gave no answer within {PATIENCE:?}")))?;
        let ordered = answer.map_err(|error| NoOrder::Store(error.to_string()))?;
        if let Some((have, of)) = ordered.replicas
            && have == 0
        {
            warn!(replicas = of, "no replica of the store has this order yet: a failover now would lose it");
        }
        match ordered.outcome {
            Outcome::Recovering(ms) => Err(NoOrder::Recovering(ms)),
            outcome => Ok(outcome),
        }
    }

    /// Looks after the move of a key. If its hook is to be run now, and by us, that is done before this answers, which never is
    /// [`Settled::Run`]. `roster` says what the hook is told of the old home.
    pub async fn step(&self, shard: u16, roster: &Roster, key: &Key) -> Result<Settled, NoOrder> {
        let mut settled = self.settle(shard, key, None).await?;
        while let Settled::Run { from, to, again } = &settled {
            let verdict = self.run_hook(&HookTurn::new(roster, key, from, to, *again)).await;
            settled = self.tell(shard, key, verdict).await?;
        }
        match &settled {
            Settled::Done { from, backend, generation } => info!(%key, %from, %backend, %generation, "moved"),
            Settled::Cancelled { why, holders } => {
                warn!(%key, why = why.word(), holders = holders.len(), "a move was given up");
            }
            _ => {}
        }
        Ok(settled)
    }

    async fn settle(&self, shard: u16, key: &Key, hook: Option<bool>) -> Result<Settled, NoOrder> {
        let order = Settle { key: key.clone(), incarnation: self.incarnation.clone(), hook };
        match self.order(shard, &Order::Settle(order)).await? {
            Outcome::Settle(settled) => Ok(settled),
            other => Err(NoOrder::Store(format!("the store answered something else: {other:?}"))),
        }
    }

    /// Says how the hook went, until that is heard.
    async fn tell(&self, shard: u16, key: &Key, succeeded: bool) -> Result<Settled, NoOrder> {
        let mut told = 1;
        loop {
            match self.settle(shard, key, Some(succeeded)).await {
                Err(_) if told < TOLD => told += 1,
                outcome => return outcome,
            }
            sleep(AGAIN).await;
        }
    }

    async fn run_hook(&self, turn: &HookTurn) -> bool {
        let key = &turn.key;
        let verdict = match &self.hook {
            Some(hook) => hook.run(turn).await,
            None => Err("this proxy has none; all proxies of a fleet must have the same [moves]".to_owned()),
        };
        match verdict {
            Ok(()) => info!(%key, "the hook of a move has succeeded"),
            Err(why) => {
                warn!(%key, why, "the hook of a move has failed");
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.retain(|(whose, ..)| whose != key);
                failures.push_back((key.clone(), Instant::now(), why));
                let surplus = failures.len().saturating_sub(FAILURES);
                failures.drain(..surplus);
                return false;
            }
        }
        true
    }
}

/// A reason as operators read it.
pub fn cancelled_text(why: Cancelled) -> &'static str {
    match why {
        Cancelled::Deadline => "sessions at the old backend had not ended in time",
        Cancelled::Hook => "the hook failed",
        Cancelled::NoBackend => "no backend can take the user",
    }
}
