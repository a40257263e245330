//! reap and forget: two-stage expiry. A lease that is over costs the load; only what is due loses its keys.

use super::super::Rules;
use super::super::request::{PAGE, Reaped};
use super::shard::Shard;
use crate::model::{Incarnation, Key};

impl Shard {
    pub(super) fn reap(&mut self, whose: &Incarnation, now: u64, rules: &Rules) -> Reaped {
        if let Some(end) = self.leases.get(whose).copied() {
            if end > now {
                return Reaped::Alive;
            }
            self.orphan(whose, end + rules.orphan_grace);
        }
        // Whoever is registered nowhere is due: what is left of it belongs to nobody.
        if self.orphans.get(whose).is_some_and(|due| *due > now) {
            return Reaped::Orphan;
        }
        self.free(whose, now, rules)
    }

    pub(super) fn forget(&mut self, dead: &Incarnation, now: u64) -> Reaped {
        if self.leases.contains_key(dead) || self.orphans.contains_key(dead) {
            if self.leases.contains_key(dead) {
                self.orphan(dead, now);
            }
            self.orphans.insert(dead.clone(), now);
            return Reaped::More;
        }
        Reaped::Gone
    }

    /// Frees a page. The epoch goes first, so that an orphan that returns half freed re-asserts all of it.
    fn free(&mut self, whose: &Incarnation, now: u64, rules: &Rules) -> Reaped {
        if let Some(proxy) = self.proxies.get_mut(whose) {
            proxy.epoch = 0;
        }
        let page: Vec<Key> = self.held.get(whose).into_iter().flatten().take(PAGE).cloned().collect();
        for key in &page {
            self.forget_old(key, now, rules.remember);
            self.count(key, whose, 0);
            self.rest(key, now, rules);
        }
        if self.held.get(whose).is_some_and(|left| !left.is_empty()) {
            return Reaped::More;
        }
        self.orphans.remove(whose);
        self.proxies.remove(whose);
        self.held.remove(whose);
        self.kicks.remove(whose);
        Reaped::Gone
    }
}
