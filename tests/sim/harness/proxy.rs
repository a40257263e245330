//! A proxy without sockets: everything of it but the sessions is what production runs.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use homing::config::MovesConfig;
use homing::fleet::{Errands, Fleet, Hook, HookTurn, JobSettings, Joining, Rows, Settler, StateFile};
use homing::ledger::{Ledger, Place};
use homing::model::{Incarnation, Key, KeyTemplate, Pool};
use homing::placement::{Placement, Times, Wanted};
use homing::store::link::Identity;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::executor::Owner;
use super::plan::{LOGIN_WAIT, MOVE, PATIENCE};
use super::road::Road;
use super::world::World;
use super::{Dice, clock};

/// One run of a proxy.
pub struct Proxy {
    pub owner: Owner,
    pub name: String,
    pub incarnation: Incarnation,
    pub fleet: Arc<Fleet>,
    pub placement: Arc<Placement>,
    /// Where each key was last, for a proxy that trusts in that.
    pub homes: Mutex<BTreeMap<Key, Place>>,
}

impl Proxy {
    /// Starts it; it may not be ready for logins yet.
    pub fn start(world: &Arc<World>, owner: Owner, name: &str, rows: Rows, state_file: Option<StateFile>) -> Self {
        let incarnation = incarnation(owner);
        world.tell(|| format!("p{owner} starts as {name}, {incarnation}"));
        world.arrives(owner, incarnation.clone());
        let identity =
            Identity { incarnation: incarnation.clone(), name: name.to_owned(), version: "simulated".to_owned() };
        let joining = Joining {
            patience: PATIENCE,
            rows,
            follow: Arc::new(|_| Vec::new()),
            state_file,
            shards: world.plan.shards,
            affinity: KeyTemplate::default(),
            clock: clock::own_clock(),
            tasks: world.executor.tasks_of(owner),
        };
        let road = Arc::new(Road::new(world.clone(), owner));
        let fleet = Arc::new(Fleet::join(road.clone(), identity, &world.plan.config(), joining));
        let user_expire = Duration::from_millis(world.plan.rules.user_expire);
        let times = Times { login_wait: LOGIN_WAIT, fresh: world.plan.fresh(), user_expire };
        let placement = Arc::new(Placement::start(fleet.clone(), times));
        world.has_deadlines(owner, fleet.shards().iter().map(|shard| shard.lease.deadline().clone()).collect());
        let settler = Settler::new(road, incarnation.clone(), Some(Arc::new(ShortSleep(world.dice.clone()))));
        fleet.attend(&Arc::new(settler), &no_errands(), &CancellationToken::new());
        if world.plan.jobs {
            fleet.work(&in_haste());
        }
        Self { owner, name: name.to_owned(), incarnation, fleet, placement, homes: Mutex::default() }
    }

    /// Past its isolation deadline in the key's shard, by its own clock.
    pub fn is_isolated(&self, key: &Key) -> bool {
        clock::of(self.owner) >= self.fleet.shard_of(key).lease.deadline().load(Ordering::Relaxed)
    }

    pub fn ledger(&self, key: &Key) -> &Arc<Ledger> {
        &self.fleet.shard_of(key).ledger
    }
}

/// Bulk work, of few users at a time.
fn in_haste() -> JobSettings {
    let moves = MovesConfig { max_parallel_moves: 2, move_rate: 20, ..MovesConfig::default() };
    JobSettings {
        moves: Arc::new(ArcSwap::from_pointee(moves)),
        move_timeout: MOVE,
        hook: false,
        kick_delay: Duration::from_millis(300),
        trouble: Arc::new(|_| None),
    }
}

/// Ten characters, as a state file wants them.
pub fn incarnation(owner: Owner) -> Incarnation {
    Incarnation::new(format!("P{owner:09}"))
}

/// An ordinary login.
pub fn wanted(key: &Key) -> Wanted {
    Wanted { key: key.clone(), pool: Pool::default(), pin: None, limit: 0, unproven: false }
}

/// Nobody sends anybody on one.
fn no_errands() -> Errands {
    Arc::new(|_, _| Box::pin(async {}))
}

/// The hook of every move: it takes a while, and sometimes fails.
struct ShortSleep(Dice);

#[async_trait]
impl Hook for ShortSleep {
    async fn run(&self, _: &HookTurn) -> Result<(), String> {
        sleep(self.0.span(10, 300)).await;
        if self.0.percent(15) { Err("the dice".to_owned()) } else { Ok(()) }
    }
}
