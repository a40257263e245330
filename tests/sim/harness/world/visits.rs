//! What becomes of visits, and the one moment at which I1 is looked at.

use std::collections::BTreeSet;

use homing::ledger::Place;
use homing::model::Key;

use super::super::clock;
use super::super::executor::Owner;
use super::{ProxyFacts, Visit, World};

impl World {
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
        let shard = self.shard_of(&key);
        let past = |(owner, proxy): &(&Owner, &ProxyFacts)| proxy.frozen && proxy.is_past_deadline(**owner, shard);
        let silent: BTreeSet<Owner> = facts.proxies.iter().filter(past).map(|(owner, _)| *owner).collect();
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
}
