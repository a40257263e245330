//! The store itself: the memory store behind a server whose clock steps, which forgets, goes back and is started anew. It
//! looks at its own sums after every call, and knows which of the exceptions a decision falls under.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use homing::model::{BackendId, Incarnation, Key};
use homing::store::clock::Simulated;
use homing::store::memory::{Memory, Saved};
use homing::store::{BindingView, Call, Census, Move, Moved, Nudges, Order, Outcome, Reply, Request, Settled, Store};

use super::executor::Owner;
use super::mutant::{Mutant, Step};
use super::world::{Visit, World};
use super::{Plan, clock};

pub struct Server {
    memory: Memory,
    simulated: Arc<Simulated>,
    state: Mutex<State>,
    shards: u16,
    pub mutant: Mutant,
    strict: bool,
}

#[derive(Default)]
struct State {
    /// What the server's clock shows beyond the truth.
    offset: i64,
    /// Nobody is at home.
    down: bool,
    /// Connections made to an older one are broken.
    generation: u64,
    saved: Option<Saved>,
    tables: Vec<Known>,
}

/// What was last seen of a shard's table.
#[derive(Clone, Default)]
struct Known {
    version: u64,
    /// Backends that may have users.
    usable: BTreeSet<BackendId>,
}

impl Server {
    pub fn new(plan: &Plan) -> Self {
        let simulated = Arc::new(Simulated::new(clock::now(), "run0"));
        Self {
            memory: Memory::simulated(plan.store_rules(), simulated.clone()),
            simulated,
            state: Mutex::new(State { tables: vec![Known::default(); usize::from(plan.shards)], ..State::default() }),
            shards: plan.shards,
            mutant: Mutant::new(plan.mutation),
            strict: plan.rules.strict,
        }
    }

    pub fn generation(&self) -> Option<u64> {
        let state = self.state();
        (!state.down).then_some(state.generation)
    }

    /// Carries out one call of that proxy.
    pub fn apply(&self, world: &World, owner: Owner, shard: u16, call: &Call) -> Reply {
        self.set_clock();
        // Also before a hello: who says it after the window was not heard in it.
        if matches!(call.request, Request::Claim(_) | Request::Hello(_)) {
            self.decides(world, shard);
        }
        let call = &self.mutant.received(call, |key| self.binding(key));
        let mut reply = self.exchange(shard, call);
        if reply == Reply::Lost {
            for missing in self.mutant.missing_before(call) {
                self.exchange(shard, &missing);
                reply = Reply::Stale;
            }
            if reply == Reply::Stale {
                reply = self.exchange(shard, call);
            }
        }
        self.mutant.applied(call, &reply);
        world.tell(|| format!("p{owner} s{shard} #{} {:?} -> {reply:?}", call.seq, call.request));
        match &reply {
            Reply::Hello(_) => self.hello(world, owner, shard),
            Reply::Heartbeat(beat) => self.heard_of_table(world, shard, beat.table_version),
            Reply::Table(Ok(version)) => self.heard_of_table(world, shard, *version),
            Reply::Declare(_) => self.finds_two_homes(world, call),
            _ => {}
        }
        if !matches!(reply, Reply::Heartbeat(_) | Reply::Held(..) | Reply::Lost | Reply::Stale | Reply::Table(_)) {
            self.check_sums(world, shard);
        }
        reply
    }

    pub fn order(&self, world: &World, shard: u16, order: &Order) -> Outcome {
        self.set_clock();
        self.decides(world, shard);
        let ordered = self.memory.order(shard, order).now_or_never().unwrap().unwrap();
        match order {
            Order::Move(Move { key, force, timeout, .. }) => {
                world.unsettle(Some(key), timeout + 5_000);
                if *force && matches!(ordered.outcome, Outcome::Move(Moved::Done { .. })) {
                    world.excuse("E3", |_, visit| visit.key == *key);
                }
            }
            Order::Mark(mark) => world.unsettle(Some(&mark.key), 0),
            Order::Settle(_) if matches!(ordered.outcome, Outcome::Settle(Settled::Done { .. })) => {
                world.facts().moved += 1;
            }
            _ => {}
        }
        world.tell(|| format!("s{shard} order {order:?} -> {:?}", ordered.outcome));
        match order {
            Order::Table { .. } | Order::Copy(_) | Order::Lift { .. } => {
                self.heard_of_table(world, shard, self.census(shard).table_version);
            }
            _ => {}
        }
        if !matches!(order, Order::Ask(_) | Order::Answer { .. } | Order::Answers { .. }) {
            self.check_sums(world, shard);
        }
        ordered.outcome
    }

    pub fn nudges(&self, shard: u16, incarnation: &Incarnation) -> Box<dyn Nudges> {
        self.memory.nudges(shard, incarnation).now_or_never().unwrap().unwrap()
    }

    pub fn binding(&self, key: &Key) -> Option<BindingView> {
        let shard = homing::fleet::shard_of(key, usize::from(self.shards)) as u16;
        self.memory.binding(shard, key).now_or_never().unwrap().unwrap()
    }

    pub fn bindings(&self, shard: u16) -> Vec<(Key, BindingView)> {
        self.memory.bindings(shard, "0").now_or_never().unwrap().unwrap().bindings
    }

    pub fn census(&self, shard: u16) -> Census {
        self.set_clock();
        self.memory.census(shard).now_or_never().unwrap().unwrap()
    }

    // Troubles.

    /// The server's clock steps.
    pub fn step_clock(&self, world: &World, by: i64) {
        world.tell(|| format!("the server's clock steps by {by}"));
        let before = clock::now().saturating_add_signed(self.state().offset);
        self.state().offset += by;
        // A store without memory has no clock to follow.
        if self.census(0).now > 0 {
            let step = Step { server: &self.simulated, from: before, by };
            self.mutant.stepped(&step, |call| self.exchange(0, call));
        }
    }

    /// A replica, or a file, has got all that is here now.
    pub fn save(&self) {
        self.state().saved = Some(self.memory.save());
        self.mutant.save();
    }

    /// It forgets everything.
    pub fn flush(&self, world: &World) {
        world.tell(|| "the store forgets everything".to_owned());
        self.memory.flush();
        (0..self.shards).for_each(|shard| self.loses(world, shard));
    }

    /// One shard forgets everything.
    pub fn flush_shard(&self, world: &World, shard: u16) {
        world.tell(|| format!("shard {shard} forgets everything"));
        self.memory.flush_shard(shard);
        self.loses(world, shard);
    }

    /// Its data go back to what was saved. Without a new run to show it: E5.
    pub fn roll_back(&self, world: &World, shown: bool) {
        let Some(saved) = self.state().saved.clone() else { return };
        world.tell(|| format!("the store's data go back, shown {shown}"));
        self.memory.restore(&saved);
        self.mutant.roll_back();
        self.state().tables.iter_mut().for_each(|table| table.version = 0);
        if shown {
            (0..self.shards).for_each(|shard| self.loses(world, shard));
            self.restart(world);
        } else {
            world.excuse("E5", |_, _| true);
            world.unsettle(None, 10_000);
        }
    }

    /// It is started anew, or another took over.
    pub fn restart(&self, world: &World) {
        let mut state = self.state();
        state.generation += 1;
        let run = format!("run{}", state.generation);
        world.tell(|| format!("the store is started as {run}"));
        self.simulated.restart(&run);
        (0..self.shards).for_each(|shard| world.shard_begins_anew(shard, false));
    }

    pub fn set_down(&self, world: &World, down: bool) {
        world.tell(|| format!("the store is {}", if down { "down" } else { "up" }));
        let mut state = self.state();
        state.down = down;
        state.generation += 1;
    }

    pub fn is_calm(&self, world: &World) -> bool {
        world.facts().memories.iter().all(|memory| memory.lost_at.is_none() && !memory.recovering)
    }

    fn loses(&self, world: &World, shard: u16) {
        self.state().tables[usize::from(shard)].version = 0;
        world.shard_begins_anew(shard, true);
    }

    // What is looked at.

    fn set_clock(&self) {
        self.simulated.set_ms(clock::now().saturating_add_signed(self.state().offset));
    }

    fn exchange(&self, shard: u16, call: &Call) -> Reply {
        let mut connection = self.memory.connect(shard).now_or_never().unwrap().unwrap();
        let replies = connection.exchange(std::slice::from_ref(call)).now_or_never().unwrap().unwrap();
        replies.into_iter().next().unwrap()
    }

    fn hello(&self, world: &World, owner: Owner, shard: u16) {
        world.said_hello(owner, shard);
        self.heard_of_table(world, shard, self.census(shard).table_version);
    }

    fn heard_of_table(&self, world: &World, shard: u16, version: u64) {
        let mut state = self.state();
        let known = &mut state.tables[usize::from(shard)];
        if known.version == version {
            return;
        }
        known.version = version;
        drop(state);
        let rows = self.census(shard).backends;
        // Where there is bulk work, homes change at a claim.
        let taking = rows.iter().filter(|view| view.row.takes_users() && view.row.job.is_none());
        world.taking_users(shard, taking.map(|view| view.backend.clone()).collect());
        let usable = rows.into_iter().filter(|view| view.row.usable()).map(|view| view.backend);
        self.state().tables[usize::from(shard)].usable = usable.collect();
    }

    /// A home may be given now: ends the recovery window if its time has come, and finds who is an exception.
    fn decides(&self, world: &World, shard: u16) {
        let recovering = world.facts().memories[usize::from(shard)].recovering;
        if recovering && self.census(shard).recovering_ms.is_none() {
            world.window_ended(shard, |key, incarnation, backend| {
                let view = self.binding(key).filter(|view| view.backend.as_ref() == Some(backend));
                view.is_some_and(|view| view.holders.iter().any(|(holder, _)| holder == incarnation))
            });
        }
        if !self.strict && self.state().tables[usize::from(shard)].version > 0 {
            self.excuse_those_at_the_dead(world, shard);
        }
    }

    /// E2: whoever is cut off may still have sessions where nobody may be any more.
    fn excuse_those_at_the_dead(&self, world: &World, shard: u16) {
        let usable = self.state().tables[usize::from(shard)].usable.clone();
        let dead = |visit: &Visit| {
            let unusable = |backend| !usable.contains(backend);
            visit.place.as_ref().is_some_and(|place| unusable(&place.backend)) && world.shard_of(&visit.key) == shard
        };
        let facts = world.facts();
        if !facts.visits.values().any(dead) {
            return;
        }
        let incarnations: BTreeMap<Owner, Incarnation> =
            facts.proxies.iter().map(|(owner, proxy)| (*owner, proxy.incarnation.clone())).collect();
        drop(facts);
        let living = self.living(shard);
        world.excuse("E2", |_, visit| {
            let lives = incarnations.get(&visit.owner).is_some_and(|incarnation| living.contains(incarnation));
            dead(visit) && visit.holds && !lives
        });
    }

    /// A declaration may have been the better one of two.
    fn finds_two_homes(&self, world: &World, call: &Call) {
        let Request::Declare(lines) = &call.request else { return };
        for line in lines.iter().filter(|line| line.count > 0) {
            if let Some(backend) = self.binding(&line.key).and_then(|binding| binding.backend) {
                world.is_at_home(&line.key, &backend);
            }
        }
    }

    fn living(&self, shard: u16) -> BTreeSet<Incarnation> {
        let proxies = self.census(shard).proxies;
        proxies.into_iter().filter(|proxy| !proxy.orphan).map(|proxy| proxy.incarnation).collect()
    }

    /// I3, the part that holds at every instant: each sum is the sum.
    fn check_sums(&self, world: &World, shard: u16) {
        let (census, bindings) = (self.census(shard), self.bindings(shard));
        let mut held: BTreeMap<(&Incarnation, &BackendId), u32> = BTreeMap::new();
        for (key, binding) in &bindings {
            let sum: u32 = binding.holders.iter().map(|(_, held)| held).sum();
            if sum != binding.sessions {
                world.fail(format_args!("I3 {key}: {} sessions, held {sum}", binding.sessions));
            }
            let Some(backend) = &binding.backend else { continue };
            for (holder, sessions) in &binding.holders {
                *held.entry((holder, backend)).or_default() += sessions;
            }
        }
        for proxy in &census.proxies {
            for (backend, sessions) in &proxy.sessions {
                let by_key = held.get(&(&proxy.incarnation, backend)).copied().unwrap_or(0);
                if by_key != *sessions {
                    world.fail(format_args!("I3 {} at {backend}: {sessions}, by key {by_key}", proxy.incarnation));
                }
            }
        }
        check_load(world, &census);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A backend's load is what those have there who have a lease.
fn check_load(world: &World, census: &Census) {
    let mut load: BTreeMap<&BackendId, u32> = BTreeMap::new();
    for (backend, sessions) in census.proxies.iter().filter(|proxy| !proxy.orphan).flat_map(|proxy| &proxy.sessions) {
        *load.entry(backend).or_default() += sessions;
    }
    for view in &census.backends {
        let sum = load.get(&view.backend).copied().unwrap_or(0);
        if view.sessions != sum {
            world.fail(format_args!("I3 {}: load {}, sum {sum}", view.backend, view.sessions));
        }
    }
}
