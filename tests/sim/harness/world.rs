//! What is true in a simulated fleet, whoever knows of it: which backend has which sessions open, who can hear whom, and
//! what must never happen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homing::ledger::Place;
use homing::model::{BackendId, Incarnation, Key};
use homing::store::clock::STEP;
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
    /// Backends that take users, and when each began or ended to.
    taking: BTreeSet<BackendId>,
    changed: BTreeMap<BackendId, u64>,
    pub opened: u64,
    pub refused: u64,
    /// When the store last lost what it should know, since its last recovery window ended.
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
    /// Its isolation deadline, by its own clock.
    deadline: Option<Arc<AtomicU64>>,
    /// When it was last cut off, in rough weather or standing still; `u64::MAX` while it is.
    trouble: u64,
    /// The age ([`Facts::age`]) of its last hello that the store has applied, and when that was.
    hello: (u64, u64),
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

    /// Its deadline has passed in truth, whatever its own clock shows.
    fn is_past_deadline(&self, owner: Owner) -> bool {
        let deadline = self.deadline.as_ref().map_or(0, |deadline| deadline.load(Ordering::Relaxed));
        deadline > 0 && clock::of(owner) >= deadline
    }
}

impl World {
    pub fn new(plan: Plan, dice: Dice, told: bool) -> Arc<Self> {
        Arc::new(Self {
            executor: Executor::new(dice.clone()),
            server: Server::new(&plan),
            plan,
            dice,
            facts: Mutex::default(),
            fault: Mutex::default(),
            story: told.then(Mutex::default),
            mended: Notify::new(),
        })
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
            deadline: None,
            trouble: clock::now(), // it has yet to say hello
            hello: (0, 0),
        };
        self.facts().proxies.insert(owner, proxy);
    }

    pub fn has_deadline(&self, owner: Owner, deadline: Arc<AtomicU64>) {
        if let Some(proxy) = self.facts().proxies.get_mut(&owner) {
            proxy.deadline = Some(deadline);
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
            if proxy.is_past_deadline(owner) {
                let silent = |visit: &&mut Visit| visit.owner == owner && (visit.holds || stalled > 0);
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

    pub fn said_hello(&self, owner: Owner) {
        let mut facts = self.facts();
        facts.recovering |= facts.lost_at.is_some();
        let age = facts.age;
        if let Some(proxy) = facts.proxies.get_mut(&owner) {
            proxy.hello = (age, clock::now());
        }
    }

    /// The store has lost what it should know, or merely its run.
    pub fn store_begins_anew(&self, lost: bool) {
        let mut facts = self.facts();
        facts.age += 1;
        facts.recovering = false;
        if lost {
            facts.all_unsettled = clock::now() + EXCUSED;
            facts.lost_at.get_or_insert(clock::now());
        }
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

    // Visits.

    /// A proxy that waits for an answer of the store, if there is one.
    pub fn who_asks(&self) -> Option<Owner> {
        self.facts().visits.values().find(|visit| visit.place.is_none()).map(|visit| visit.owner)
    }

    pub fn asks(&self, owner: Owner, key: &Key) -> u64 {
        let mut facts = self.facts();
        facts.last += 1;
        let (key, asked) = (key.clone(), clock::now());
        let visit = Visit { key, owner, asked, place: None, holds: false, open: false, excuse: None };
        let number = facts.last;
        facts.visits.insert(number, visit);
        number
    }

    /// It is in the ledger.
    pub fn placed(&self, number: u64, place: &Place) {
        let mut facts = self.facts();
        let Some(visit) = facts.visits.get(&number) else { return };
        let (owner, key) = (visit.owner, visit.key.clone());
        self.tell(|| format!("p{owner} {key} visit {number} placed at {place:?}"));
        // Whoever joins a session that is an exception is one.
        let beside = |other: &&Visit| other.holds && other.owner == owner && other.key == key;
        let excuse = facts.visits.values().filter(beside).find_map(|other| other.excuse);
        if let Some(visit) = facts.visits.get_mut(&number) {
            (visit.place, visit.holds) = (Some(place.clone()), true);
            visit.excuse = visit.excuse.or(excuse);
        }
    }

    /// The backend lets it in: the one moment at which a key can come to have two homes.
    pub fn opens(&self, number: u64) {
        let mut facts = self.facts();
        facts.opened += 1;
        let Some(visit) = facts.visits.get_mut(&number) else { return };
        visit.open = true;
        let (key, place, owner, asked) = (visit.key.clone(), visit.place.clone(), visit.owner, visit.asked);
        let excuse = visit.excuse;
        self.tell(|| format!("p{owner} {key} visit {number} open {excuse:?}"));
        let silent: BTreeSet<Owner> =
            facts.proxies.iter().filter(|(o, p)| p.frozen && p.is_past_deadline(**o)).map(|(o, _)| *o).collect();
        let counts = |visit: &Visit| visit.open && visit.excuse.is_none() && !silent.contains(&visit.owner);
        let backend = |place: &Option<Place>| place.as_ref().map(|place| place.backend.clone());
        let astray = |(other, visit): &(&u64, &Visit)| {
            **other != number && visit.key == key && counts(visit) && backend(&visit.place) != backend(&place)
        };
        let other = facts.visits.iter().find(astray).filter(|_| excuse.is_none());
        if let Some((other, visit)) = other {
            let there = format!("p{} visit {other} at {:?}", visit.owner, visit.place);
            self.fail(format_args!("I1 {key}: p{owner} visit {number} at {place:?}, while {there}"));
        }
        if let Some(backend) = backend(&place) {
            self.stays_at_home(&mut facts, &key, backend, asked);
        }
    }

    /// I2: the key has not left its home, unless something has happened since that may change it.
    fn stays_at_home(&self, facts: &mut Facts, key: &Key, backend: BackendId, asked: u64) {
        let unsettled = facts.unsettled.get(key).copied().unwrap_or(0).max(facts.all_unsettled);
        let stands = |home: &&Home| {
            let changed = facts.changed.get(&home.backend).copied().unwrap_or(0);
            facts.taking.contains(&home.backend) && home.asked > unsettled.max(changed)
        };
        if let Some(home) = facts.homes.get(key).filter(|home| home.backend != backend).filter(stands) {
            // The store's clock may be ahead by one step.
            let remembered = self.plan.rules.user_expire.saturating_sub(STEP + 500);
            if home.left.is_none_or(|left| clock::now() < left + remembered) {
                self.fail(format_args!(
                    "I2 {key}: at {backend}, but at home at {} until {:?}",
                    home.backend, home.left
                ));
            }
        }
        facts.homes.insert(key.clone(), Home { backend, asked, left: None });
    }

    /// The home of that key, or of all, may change within so many milliseconds.
    pub fn unsettle(&self, key: Option<&Key>, within: u64) {
        let until = clock::now() + within;
        let mut facts = self.facts();
        match key {
            Some(key) => drop(facts.unsettled.insert(key.clone(), until)),
            None => facts.all_unsettled = facts.all_unsettled.max(until),
        }
    }

    /// From now on these backends take users. Homes at others may change, and at those that have just begun or ended to.
    pub fn taking_users(&self, backends: BTreeSet<BackendId>) {
        let facts = &mut *self.facts();
        for changed in facts.taking.symmetric_difference(&backends) {
            facts.changed.insert(changed.clone(), clock::now());
        }
        facts.taking = backends;
    }

    fn notes_end(facts: &mut Facts, key: &Key) {
        let open = facts.visits.values().any(|visit| visit.open && visit.key == *key);
        if let Some(home) = facts.homes.get_mut(key) {
            home.left = (!open).then(clock::now);
        }
    }

    /// The backend has ended it.
    pub fn ends(&self, number: u64) {
        let mut facts = self.facts();
        if let Some(visit) = facts.visits.get_mut(&number) {
            visit.open = false;
            let (key, holds) = (visit.key.clone(), visit.holds);
            if !holds {
                facts.visits.remove(&number);
            }
            Self::notes_end(&mut facts, &key);
            self.tell(|| format!("visit {number} ended"));
        }
    }

    /// It leaves the ledger.
    pub fn leaves(&self, number: u64) {
        let mut facts = self.facts();
        if let Some(visit) = facts.visits.get_mut(&number) {
            visit.holds = false;
            if !visit.open {
                facts.visits.remove(&number);
            }
        }
    }

    /// E6: the backend did not hear in time that it is over.
    pub fn is_unheard(&self, number: u64) {
        self.excuse("E6", |other, _| other == number);
    }

    /// Those visits are exceptions, from now on.
    pub fn excuse(&self, why: &'static str, which: impl Fn(u64, &Visit) -> bool) {
        let facts = &mut *self.facts();
        for (number, visit) in &mut facts.visits {
            if visit.excuse.is_none() && which(*number, visit) {
                self.tell(|| format!("visit {number} of {} is {why}", visit.key));
                visit.excuse = Some(why);
                facts.unsettled.insert(visit.key.clone(), clock::now() + EXCUSED);
            }
        }
    }

    /// That key is at home there now. Where an exception has led to two homes, whoever is at the other is told to end, and
    /// is part of the exception until then.
    pub fn is_at_home(&self, key: &Key, backend: &BackendId) {
        let spread = |visit: &Visit| visit.key == *key && visit.excuse.is_some_and(|why| why != "E6");
        if self.facts().visits.values().any(spread) {
            let elsewhere = |visit: &Visit| visit.place.as_ref().is_none_or(|place| place.backend != *backend);
            self.excuse("E*", |_, visit| visit.key == *key && elsewhere(visit));
        }
    }

    /// E1: the recovery window has ended. Who could not tell in it what is there, or said hello and could not go on, is
    /// an exception; who could is not.
    pub fn window_ended(&self, counted: impl Fn(&Key, &Incarnation, &BackendId) -> bool) {
        let mut facts = self.facts();
        facts.recovering = false;
        let Some(lost_at) = facts.lost_at.take() else { return };
        let age = facts.age;
        self.tell(|| "the recovery window is over".to_owned());
        let Facts { proxies, visits, unsettled, .. } = &mut *facts;
        for (number, visit) in visits {
            let (Some(proxy), Some(place)) = (proxies.get(&visit.owner), &visit.place) else { continue };
            let since = if proxy.hello.0 == age { proxy.hello.1 } else { lost_at };
            let excused = visit.holds && proxy.troubled_since(since);
            if excused && visit.excuse.is_none() && !counted(&visit.key, &proxy.incarnation, &place.backend) {
                self.tell(|| format!("visit {number} of {} is E1", visit.key));
                visit.excuse = Some("E1");
                unsettled.insert(visit.key.clone(), clock::now() + EXCUSED);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
