//! A proxy without sockets: everything of it but the sessions is what production runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homing::fleet::{Duty, Fleet, Joining, Rows, StateFile};
use homing::ledger::{Ledger, Place};
use homing::model::{Incarnation, Key, Pool};
use homing::placement::{Placement, Times, Wanted};
use homing::store::link::Identity;
use homing::store::{Order, Outcome, Settle, Settled};
use tokio::time::sleep;

use super::clock;
use super::executor::Owner;
use super::plan::{LOGIN_WAIT, PATIENCE};
use super::road::Road;
use super::world::World;

/// Between two looks at a move that waits.
const LOOK: Duration = Duration::from_millis(200);

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
            state_file,
            shards: 1,
            clock: clock::own_clock(),
            tasks: world.executor.tasks_of(owner),
        };
        let road = Arc::new(Road::new(world.clone(), owner));
        let fleet = Arc::new(Fleet::join(road, identity, &world.plan.config(), joining));
        let times = Times { login_wait: LOGIN_WAIT, fresh: world.plan.fresh() };
        let placement = Arc::new(Placement::start(fleet.clone(), times));
        world.has_deadline(owner, fleet.shards()[0].lease.deadline().clone());
        world.executor.spawn(owner, look_after_moves(world.clone(), fleet.clone()));
        Self { owner, name: name.to_owned(), incarnation, fleet, placement, homes: Mutex::default() }
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.fleet.shards()[0].ledger
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

/// Does what heartbeats ask for; the hooks of moves are short sleeps that sometimes fail.
async fn look_after_moves(world: Arc<World>, fleet: Arc<Fleet>) {
    let shard = &fleet.shards()[0];
    loop {
        match shard.reports.duty().await {
            Duty::Settle(key) => settle(&world, &fleet, key).await,
            Duty::Errand { .. } => {}
        }
    }
}

async fn settle(world: &World, fleet: &Fleet, key: Key) {
    let mut hook = None;
    loop {
        let order = Order::Settle(Settle { key: key.clone(), incarnation: fleet.incarnation().clone(), hook });
        let Ok(ordered) = fleet.store().order(0, &order).await else { return };
        match ordered.outcome {
            Outcome::Settle(Settled::Run { .. }) => {
                sleep(world.dice.span(10, 300)).await;
                hook = Some(!world.dice.percent(15));
            }
            // The heartbeats ask again.
            Outcome::Settle(Settled::Waiting { .. }) | Outcome::Recovering(_) => return sleep(LOOK).await,
            _ => return,
        }
    }
}
