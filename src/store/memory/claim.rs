//! claim: give a key its home, binding it if it is unbound, and count one session more.

use super::super::Rules;
use super::super::request::{BackendState, Claim, Home, Row, WaitReason};
use super::binding::Binding;
use super::shard::Shard;
use crate::model::{BackendId, Generation, Incarnation, Key};

/// How long to wait for what may be over at any moment.
const AGAIN: u64 = 250;

/// What a claim comes to, before anything is written.
enum Verdict {
    Not(Home),
    /// The home it has.
    Join,
    /// A home it had not, or has no longer been sure of. Orphans that still hold the key lose it.
    Place(BackendId),
}

impl Shard {
    pub(super) fn claim(&mut self, inc: &Incarnation, claim: &Claim, now: u64, rules: &Rules) -> Home {
        self.forget_old(&claim.key, now, rules.remember);
        let verdict = self.judge(inc, claim, now, rules);
        if claim.have == 0 {
            self.unkick(&claim.key, inc);
        }
        let home = match verdict {
            Verdict::Not(home) => {
                self.count(&claim.key, inc, claim.have);
                home
            }
            Verdict::Join => self.join(inc, claim),
            Verdict::Place(backend) => self.settle(inc, claim, backend, now),
        };
        self.rest(&claim.key, now);
        home
    }

    fn judge(&self, inc: &Incarnation, claim: &Claim, now: u64, rules: &Rules) -> Verdict {
        let window = self.window(now, rules.recovery, rules.recovery_max);
        if window > 0 {
            return Verdict::Not(Home::Wait { ms: window.max(AGAIN), reason: WaitReason::Recovery });
        }
        if self.table.version == 0 {
            return Verdict::Not(Home::NoBackend); // nobody has brought the table yet: take nothing apart for want of it
        }
        let Some(binding) = self.bindings.get(&claim.key) else { return self.anew(claim, None, now, rules) };
        let row = self.table.rows.get(&binding.backend).filter(|row| row.state != BackendState::Down);
        let Some(row) = row else { return self.leave_the_dead(inc, claim, binding, now, rules) };
        let sessions = binding.sessions.saturating_sub(binding.held_by(inc)).saturating_add(claim.have);
        match sessions {
            0 => self.come_back(claim, binding, row, now, rules),
            _ if claim.limit > 0 && sessions >= claim.limit && self.is_full(inc, claim, binding) => {
                Verdict::Not(Home::Limit)
            }
            _ => Verdict::Join,
        }
    }

    /// The home is down or gone. Whoever lives and holds the key is closing it: wait, or two homes would be open at once.
    fn leave_the_dead(&self, inc: &Incarnation, claim: &Claim, home: &Binding, now: u64, rules: &Rules) -> Verdict {
        let holds = |other: &Incarnation| other != inc && (rules.strict || self.leases.contains_key(other));
        if claim.have > 0 || home.holders.keys().any(holds) {
            return Verdict::Not(Home::Wait { ms: AGAIN, reason: WaitReason::Closing });
        }
        self.anew(claim, None, now, rules)
    }

    /// Nobody holds the key, but it is remembered where it was.
    fn come_back(&self, claim: &Claim, home: &Binding, row: &Row, now: u64, rules: &Rules) -> Verdict {
        if let Some(pin) = &claim.pin {
            return if *pin == home.backend { Verdict::Join } else { self.anew(claim, None, now, rules) };
        }
        let fits = row.state == BackendState::Up && row.pool == claim.pool;
        if fits && home.idle.is_none_or(|idle| now < idle + rules.user_expire) {
            return Verdict::Join;
        }
        self.anew(claim, Some(&home.backend), now, rules)
    }

    fn anew(&self, claim: &Claim, remembered: Option<&BackendId>, now: u64, rules: &Rules) -> Verdict {
        let backend = self.place(claim, remembered, now, rules);
        backend.map_or(Verdict::Not(Home::NoBackend), Verdict::Place)
    }

    /// The limit again without orphans, whose sessions may long be gone.
    fn is_full(&self, inc: &Incarnation, claim: &Claim, binding: &Binding) -> bool {
        let others = binding.holders.iter().filter(|(other, _)| *other != inc && self.leases.contains_key(*other));
        others.fold(claim.have, |sum, (_, held)| sum.saturating_add(*held)) >= claim.limit
    }

    fn settle(&mut self, inc: &Incarnation, claim: &Claim, backend: BackendId, now: u64) -> Home {
        if claim.pin.is_none() {
            self.placed.add(&backend, 1);
        }
        self.count(&claim.key, inc, 0);
        self.oust_others(&claim.key, inc);
        let old = self.bindings.get(&claim.key);
        if old.is_none_or(|old| old.backend != backend) {
            let generation = Generation(old.map_or(0, |old| old.generation.0.saturating_add(1)).max(now));
            let unproven = old.map_or(claim.unproven, |old| old.unproven);
            self.bindings.insert(claim.key.clone(), Binding::new(backend, generation, unproven));
        }
        self.join(inc, claim)
    }

    pub(super) fn oust_others(&mut self, key: &Key, inc: &Incarnation) {
        let holders = self.bindings.get(key).map(|binding| binding.holders.clone()).unwrap_or_default();
        holders.keys().filter(|other| *other != inc).for_each(|other| self.oust(key, other));
    }

    fn join(&mut self, inc: &Incarnation, claim: &Claim) -> Home {
        self.count(&claim.key, inc, claim.have.saturating_add(1));
        let Some(binding) = self.bindings.get_mut(&claim.key) else { return Home::NoBackend };
        binding.unproven &= claim.unproven;
        Home::Bound { backend: binding.backend.clone(), generation: binding.generation }
    }
}
