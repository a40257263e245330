//! What is true in a simulated fleet, whoever knows of it: which backend has which sessions open, who can hear whom, and
//! what must never happen. `world/visits.rs` follows each login, `homes.rs` knows where keys are at home, `exceptions.rs` what
//! I1 does not cover.

mod exceptions;
mod homes;
mod visits;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homing::fleet::shard_of;
use homing::ledger::Place;
use homing::model::{BackendId, Incarnation, Key};
use tokio::sync::Notify;

use super::executor::{Executor, Owner};
use super::server::Server;
use super::{Dice, Plan, clock};

/// How long what was an exception may still lead to another home, in milliseconds.
const EXCUSED: u64 = 10_000;

/// One simulated fleet and its surroundings.
pub struct World {
    pub plan: Plan,
    pub dice: Dice,
    pub executor: Executor,
    pub server: Server,
    facts: Mutex<Facts>,
    fault: Mutex<Option<String>>,
    /// What has happened, if anybody wants to read it.
    story: Option<Mutex<Vec<String>>>,
    /// Rung when a way to a backend is mended.
    mended: Notify,
}

/// What is true now.
#[derive(Default)]
pub struct Facts {
    pub proxies: BTreeMap<Owner, ProxyFacts>,
    /// Who cannot reach which backend, in either direction.
    cut: BTreeSet<(Owner, BackendId)>,
    /// Backends that are switched off.
    off: BTreeSet<BackendId>,
    pub visits: BTreeMap<u64, Visit>,
    last: u64,
    /// Where each key was last let in.
    homes: BTreeMap<Key, Home>,
    /// Until when each key's home may change, and everybody's.
    unsettled: BTreeMap<Key, u64>,
    all_unsettled: u64,
    /// Backends that take users by the table of each shard, and when each began or ended to in any.
    taking: Vec<BTreeSet<BackendId>>,
    changed: BTreeMap<BackendId, u64>,
    pub opened: u64,
    pub refused: u64,
    pub moved: u64,
    /// How each shard remembers.
    pub memories: Vec<Remembrance>,
}

/// How far a shard of the store can be trusted to know what it should.
#[derive(Clone, Default)]
pub struct Remembrance {
    /// When it last lost what it should know, since its last recovery window ended.
    pub lost_at: Option<u64>,
    /// Counts losses and restarts: what was said before one is void.
    pub age: u64,
    /// A recovery window has begun since the last of them.
    pub recovering: bool,
}

/// Where a key is at home, for I2.
struct Home {
    backend: BackendId,
    /// When the login that was let in there had come.
    asked: u64,
    /// When a session was there last, if none is.
    left: Option<u64>,
}

/// One run of a proxy.
pub struct ProxyFacts {
    pub incarnation: Incarnation,
    pub weather: Weather,
    pub frozen: bool,
    /// Its isolation deadline in each shard, by its own clock.
    deadlines: Vec<Arc<AtomicU64>>,
    /// When it was last cut off, in rough weather or standing still; `u64::MAX` while it is.
    trouble: u64,
    /// For each shard: its age ([`Remembrance::age`]) at the last hello that it has applied, and when that was.
    hellos: Vec<(u64, u64)>,
}

/// What happens to calls and answers between a proxy and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Every call takes a while, but not too long.
    Slow,
    /// Anything may be lost, late, repeated, torn.
    Rough,
    /// Nothing passes, and whoever tries hears of it.
    Cut,
    /// Nothing passes, and nobody hears anything.
    Silent,
}

/// A login, from the question for its home to the backend's last word.
pub struct Visit {
    pub key: Key,
    pub owner: Owner,
    asked: u64,
    /// Its home, once it has one.
    pub place: Option<Place>,
    /// It is in the ledger.
    pub holds: bool,
    /// The backend has it open.
    pub open: bool,
    /// The exception of ARCHITECTURE.md that it is, if any.
    pub excuse: Option<&'static str>,
}

impl ProxyFacts {
    fn in_trouble(&self) -> bool {
        self.frozen || !matches!(self.weather, Weather::Fair | Weather::Slow)
    }

    fn note_trouble(&mut self) {
        if self.in_trouble() {
            self.trouble = u64::MAX;
        } else if self.trouble == u64::MAX {
            self.trouble = clock::now();
        }
    }

    fn troubled_since(&self, time: u64) -> bool {
        self.trouble >= time
    }

    /// Its deadline in that shard has passed in truth, whatever its own clock shows.
    fn is_past_deadline(&self, owner: Owner, shard: u16) -> bool {
        let deadline = self.deadlines.get(usize::from(shard)).map_or(0, |deadline| deadline.load(Ordering::Relaxed));
        deadline > 0 && clock::of(owner) >= deadline
    }
}

impl World {
    pub fn new(plan: Plan, dice: Dice, told: bool) -> Arc<Self> {
        let shards = usize::from(plan.shards);
        let facts = Facts {
            taking: vec![BTreeSet::new(); shards],
            memories: vec![Remembrance::default(); shards],
            ..Facts::default()
        };
        Arc::new(Self {
            executor: Executor::new(dice.clone()),
            server: Server::new(&plan),
            plan,
            dice,
            facts: Mutex::new(facts),
            fault: Mutex::default(),
            story: told.then(Mutex::default),
            mended: Notify::new(),
        })
    }

    /// The shard of that key.
    pub fn shard_of(&self, key: &Key) -> u16 {
        shard_of(key, usize::from(self.plan.shards)) as u16
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.facts)
    }

    /// Writes a line of the story.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            lock(story).push(format!("{:>7} {}", clock::now() - clock::DAWN, line()));
        }
    }

    pub fn story(&self) -> Vec<String> {
        self.story.as_ref().map(|story| lock(story).clone()).unwrap_or_default()
    }

    /// Something that must not happen has happened. The first counts.
    pub fn fail(&self, what: impl Display) {
        self.tell(|| format!("FAULT {what}"));
        let when = clock::now() - clock::DAWN;
        lock(&self.fault).get_or_insert_with(|| format!("at {when} ms: {what}"));
    }

    pub fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    // Proxies.

    pub fn arrives(&self, owner: Owner, incarnation: Incarnation) {
        let proxy = ProxyFacts {
            incarnation,
            weather: Weather::Fair,
            frozen: false,
            deadlines: Vec::new(),
            trouble: clock::now(), // it has yet to say hello
            hellos: vec![(0, 0); usize::from(self.plan.shards)],
        };
        self.facts().proxies.insert(owner, proxy);
    }

    pub fn has_deadlines(&self, owner: Owner, deadlines: Vec<Arc<AtomicU64>>) {
        if let Some(proxy) = self.facts().proxies.get_mut(&owner) {
            proxy.deadlines = deadlines;
        }
    }

    pub fn weather(&self, owner: Owner) -> Weather {
        // What the dead have sent is on its way.
        self.facts().proxies.get(&owner).map_or(Weather::Fair, |proxy| proxy.weather)
    }

    pub fn set_weather(&self, owner: Owner, weather: Weather) {
        self.tell(|| format!("p{owner} weather {weather:?}"));
        if let Some(proxy) = self.facts().proxies.get_mut(&owner) {
            proxy.weather = weather;
            proxy.note_trouble();
        }
    }

    pub fn freeze(&self, owner: Owner) {
        self.tell(|| format!("p{owner} stands still"));
        if let Some(proxy) = self.facts().proxies.get_mut(&owner) {
            proxy.frozen = true;
            proxy.note_trouble();
        }
        self.executor.freeze(owner);
    }

    /// It goes on. `stalled`: its clock has stood still for so many milliseconds (0: it went on).
    pub fn thaw(&self, owner: Owner, stalled: u64) {
        self.tell(|| format!("p{owner} goes on, its clock stood still for {stalled} ms"));
        let mut facts = self.facts();
        let facts = &mut *facts;
        if let Some(proxy) = facts.proxies.get_mut(&owner).filter(|proxy| proxy.frozen) {
            // E4. What is silent, and closes at its first poll; or what believes in a clock that stood still.
            let past: Vec<bool> = (0..self.plan.shards).map(|shard| proxy.is_past_deadline(owner, shard)).collect();
            if past.contains(&true) {
                let silent = |visit: &&mut Visit| {
                    let its = visit.owner == owner && past[usize::from(self.shard_of(&visit.key))];
                    its && (visit.holds || stalled > 0)
                };
                for visit in facts.visits.values_mut().filter(silent) {
                    visit.excuse = visit.excuse.or(Some("E4"));
                    facts.unsettled.insert(visit.key.clone(), clock::now() + EXCUSED);
                }
            }
            clock::stood_still(owner, stalled);
            proxy.frozen = false;
            proxy.note_trouble();
        }
        self.executor.thaw(owner);
    }

    /// kill -9. Its sockets are closed by its kernel.
    pub fn kill(&self, owner: Owner) {
        self.tell(|| format!("p{owner} is killed"));
        self.executor.kill(owner);
        self.facts().proxies.remove(&owner);
    }

    // Ways to backends.

    pub fn cut(&self, owner: Owner, backend: &BackendId) {
        self.tell(|| format!("p{owner} is cut from {backend}"));
        self.facts().cut.insert((owner, backend.clone()));
    }

    pub fn mend(&self, owner: Owner, backend: &BackendId) {
        self.tell(|| format!("p{owner} reaches {backend}"));
        self.facts().cut.remove(&(owner, backend.clone()));
        self.mended.notify_waiters();
    }

    /// A backend is switched off: all its sessions end. Or on.
    pub fn switch(&self, backend: &BackendId, on: bool) {
        self.tell(|| format!("{backend} is {}", if on { "on" } else { "off" }));
        let mut facts = self.facts();
        if on {
            facts.off.remove(backend);
        } else {
            facts.off.insert(backend.clone());
            for visit in facts.visits.values_mut().filter(|visit| visit.open) {
                visit.open &= visit.place.as_ref().is_none_or(|place| place.backend != *backend);
            }
            facts.visits.retain(|_, visit| visit.open || visit.holds || visit.place.is_none());
            let keys: Vec<Key> = facts.homes.keys().cloned().collect();
            keys.iter().for_each(|key| Self::notes_end(&mut facts, key));
        }
        drop(facts);
        self.mended.notify_waiters();
    }

    pub fn is_off(&self, backend: &BackendId) -> bool {
        self.facts().off.contains(backend)
    }

    pub fn reaches(&self, owner: Owner, backend: &BackendId) -> bool {
        !self.facts().cut.contains(&(owner, backend.clone()))
    }

    /// Waits until the way is free.
    pub async fn way(&self, owner: Owner, backend: &BackendId) {
        while !self.reaches(owner, backend) {
            self.mended.notified().await;
        }
    }

    /// Waits until a way is mended or a backend switched.
    pub async fn changes(&self) {
        self.mended.notified().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
