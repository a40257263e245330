//! Which visits are exceptions, by ARCHITECTURE.md's list of what I1 does not cover.

use homing::model::{BackendId, Incarnation, Key};

use super::super::clock;
use super::super::executor::Owner;
use super::{EXCUSED, Facts, Visit, World};

impl World {
    pub fn said_hello(&self, owner: Owner, shard: u16) {
        let (mut facts, shard) = (self.facts(), usize::from(shard));
        let memory = &mut facts.memories[shard];
        memory.recovering |= memory.lost_at.is_some();
        let age = memory.age;
        if let Some(proxy) = facts.proxies.get_mut(&owner) {
            proxy.hellos[shard] = (age, clock::now());
        }
    }

    /// A shard of the store has lost what it should know, or merely its run.
    pub fn shard_begins_anew(&self, shard: u16, lost: bool) {
        let facts = &mut *self.facts();
        let memory = &mut facts.memories[usize::from(shard)];
        memory.age += 1;
        memory.recovering = false;
        if lost {
            facts.all_unsettled = clock::now() + EXCUSED;
            memory.lost_at.get_or_insert(clock::now());
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

    /// E1: the recovery window of a shard has ended. Who could not tell in it what is there, or said hello and could not go on, is
    /// an exception; who could is not.
    pub fn window_ended(&self, shard: u16, counted: impl Fn(&Key, &Incarnation, &BackendId) -> bool) {
        let mut facts = self.facts();
        let memory = &mut facts.memories[usize::from(shard)];
        memory.recovering = false;
        let Some(lost_at) = memory.lost_at.take() else { return };
        let age = memory.age;
        self.tell(|| format!("the recovery window of shard {shard} is over"));
        let Facts { proxies, visits, unsettled, .. } = &mut *facts;
        for (number, visit) in visits.iter_mut().filter(|(_, visit)| self.shard_of(&visit.key) == shard) {
            let (Some(proxy), Some(place)) = (proxies.get(&visit.owner), &visit.place) else { continue };
            let hello = proxy.hellos[usize::from(shard)];
            let since = if hello.0 == age { hello.1 } else { lost_at };
            let excused = visit.holds && proxy.troubled_since(since);
            if excused && visit.excuse.is_none() && !counted(&visit.key, &proxy.incarnation, &place.backend) {
                self.tell(|| format!("visit {number} of {} is E1", visit.key));
                visit.excuse = Some("E1");
                unsettled.insert(visit.key.clone(), clock::now() + EXCUSED);
            }
        }
    }
}
