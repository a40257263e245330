//! A key's binding and the sums that follow from it. Everything that counts goes through [`Shard::count`].

use std::collections::BTreeMap;

use super::super::Rules;
use super::moves::Moving;
use super::shard::Shard;
use crate::model::{BackendId, Generation, Incarnation, Key};

/// Who holds how much of a key, and where it lives.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) backend: BackendId,
    pub(super) generation: Generation,
    /// The sum of `holders`.
    pub(super) sessions: u32,
    pub(super) holders: BTreeMap<Incarnation, u32>,
    /// Since when it has had no session.
    pub(super) idle: Option<u64>,
    pub(super) unproven: bool,
    pub(super) moving: Option<Moving>,
}

impl Binding {
    pub(super) fn new(backend: BackendId, generation: Generation, unproven: bool) -> Self {
        Self { backend, generation, sessions: 0, holders: BTreeMap::new(), idle: None, unproven, moving: None }
    }

    pub(super) fn held_by(&self, inc: &Incarnation) -> u32 {
        self.holders.get(inc).copied().unwrap_or(0)
    }

    /// It has been without sessions for so long that it is as good as absent.
    pub(super) fn is_forgotten(&self, now: u64, remember: u64) -> bool {
        self.sessions == 0 && self.moving.is_none() && self.idle.is_some_and(|idle| idle + remember <= now)
    }

    pub(super) fn holder_counts(&self) -> Vec<(Incarnation, u32)> {
        self.holders.iter().map(|(inc, held)| (inc.clone(), *held)).collect()
    }
}

/// A number per backend, absent if 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<BackendId, u32>);

impl Tally {
    pub(super) fn get(&self, backend: &BackendId) -> u32 {
        self.0.get(backend).copied().unwrap_or(0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&BackendId, u32)> {
        self.0.iter().map(|(backend, number)| (backend, *number))
    }

    pub(super) fn add(&mut self, backend: &BackendId, number: u32) {
        self.set(backend, self.get(backend).saturating_add(number));
    }

    /// Never below 0: a sum that was wrong must not become a lasting debt.
    pub(super) fn subtract(&mut self, backend: &BackendId, number: u32) {
        self.set(backend, self.get(backend).saturating_sub(number));
    }

    fn set(&mut self, backend: &BackendId, number: u32) {
        match number {
            0 => drop(self.0.remove(backend)),
            _ => drop(self.0.insert(backend.clone(), number)),
        }
    }
}

impl Shard {
    /// Lets go of the binding if it has been without sessions for too long, and of a hold or lock that is over.
    pub(super) fn forget_old(&mut self, key: &Key, now: u64, remember: u64) {
        if let Some(marks) = self.marks.get_mut(key) {
            marks.expire(now);
            if marks.is_empty() {
                self.marks.remove(key);
            }
        }
        if self.bindings.get(key).is_some_and(|binding| binding.is_forgotten(now, remember)) {
            self.bindings.remove(key);
        }
    }

    /// Rule 1: `inc` holds `count` sessions of `key`; every sum follows. Says nothing to a key that is not bound.
    pub(super) fn count(&mut self, key: &Key, inc: &Incarnation, count: u32) {
        let held = self.held.entry(inc.clone()).or_default();
        let Some(binding) = self.bindings.get_mut(key).filter(|b| count > 0 || b.holders.contains_key(inc)) else {
            held.remove(key);
            return;
        };
        let (before, all) = (binding.held_by(inc), binding.sessions);
        binding.sessions = all.saturating_sub(before).saturating_add(count);
        if count > 0 {
            binding.holders.insert(inc.clone(), count);
            held.insert(key.clone());
        } else {
            binding.holders.remove(inc);
            held.remove(key);
        }
        let (backend, bound) = (binding.backend.clone(), binding.sessions > 0);
        match (all > 0, bound) {
            (false, true) => self.users.add(&backend, 1),
            (true, false) => self.users.subtract(&backend, 1),
            _ => {}
        }
        if let Some(proxy) = self.proxies.get_mut(inc) {
            proxy.at.subtract(&backend, before);
            proxy.at.add(&backend, count);
        }
        if self.leases.contains_key(inc) {
            self.load.subtract(&backend, before);
            self.load.add(&backend, count);
        }
    }

    /// After the last change of a key's counts: note since when it is idle, or forget it if its login was never proven and
    /// nobody moves it: whoever does wants to hear of its end. A move goes on when the old home is empty.
    pub(super) fn rest(&mut self, key: &Key, now: u64, rules: &Rules) {
        let Some(binding) = self.bindings.get_mut(key) else { return };
        if binding.sessions > 0 {
            binding.idle = None;
        } else if binding.unproven && binding.moving.is_none() {
            self.bindings.remove(key);
            return;
        } else {
            binding.idle.get_or_insert(now);
        }
        if let Some(moving) = &mut binding.moving {
            let attention = moving.emptied(binding.sessions == 0, now, rules);
            self.moving.insert(key.clone(), attention);
        }
    }

    /// Takes a key away from another incarnation, which is told so by a kick.
    pub(super) fn oust(&mut self, key: &Key, other: &Incarnation) {
        self.count(key, other, 0);
        if self.leases.contains_key(other) || self.orphans.contains_key(other) {
            self.kick_out(key, other);
        }
    }

    /// Tells an incarnation to close its sessions of a key, soon.
    pub(super) fn kick_out(&mut self, key: &Key, holder: &Incarnation) {
        self.kicks.entry(holder.clone()).or_default().insert(key.clone());
        self.nudged.insert(holder.clone());
    }

    pub(super) fn unkick(&mut self, key: &Key, inc: &Incarnation) {
        if let Some(kicks) = self.kicks.get_mut(inc) {
            kicks.remove(key);
        }
    }
}
