//! claim: give a key its home, binding it if it is unbound, and count one session more.

use super::super::Rules;
use super::super::request::{BackendState, Claim, Home, JobKind, Row, WaitReason};
use super::binding::Binding;
use super::moves::Moving;
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
        let pinned = self.marks.get(&claim.key).and_then(|mark| mark.pin.clone());
        let claim = &Claim { pin: pinned.or_else(|| claim.pin.clone()), ..claim.clone() };
        let verdict = match self.not_yet(claim, now, rules) {
            Some(home) => Verdict::Not(home),
            None => {
                self.finish_for(inc, claim, now, rules);
                self.judge(inc, claim, now, rules)
            }
        };
        if claim.have == 0 {
            self.unkick(&claim.key, inc);
        }
        let home = match verdict {
            Verdict::Not(home) => {
                self.count(&claim.key, inc, claim.have);
                home
            }
            Verdict::Join => self.join(inc, claim),
            Verdict::Place(backend) => self.open(inc, claim, backend, now),
        };
        self.rest(&claim.key, now, rules);
        home
    }

    /// What keeps every claim of the key waiting.
    fn not_yet(&self, claim: &Claim, now: u64, rules: &Rules) -> Option<Home> {
        let window = self.window(now, rules.recovery, rules.recovery_max);
        if window > 0 {
            return Some(Home::Wait { ms: window.max(AGAIN), reason: WaitReason::Recovery });
        }
        if self.marks.get(&claim.key).is_some_and(|mark| mark.holds(now)) {
            return Some(Home::Wait { ms: AGAIN, reason: WaitReason::Hold });
        }
        // Nobody has brought the table yet: take nothing apart for want of it.
        (self.table.version == 0).then_some(Home::NoBackend)
    }

    /// Ends a move whose old home is empty but for what `inc` held: it says now that it holds nothing.
    fn finish_for(&mut self, inc: &Incarnation, claim: &Claim, now: u64, rules: &Rules) {
        let Some(binding) = self.bindings.get(&claim.key).filter(|binding| binding.moving.is_some()) else { return };
        if claim.have == 0 && binding.sessions == binding.held_by(inc) {
            self.count(&claim.key, inc, 0);
            self.rest(&claim.key, now, rules);
            let due = |moving: &Moving| moving.is_due(now);
            if self.bindings.get(&claim.key).and_then(|binding| binding.moving.as_ref()).is_some_and(due) {
                self.finish(&claim.key, &claim.pool, now, rules);
            }
        }
    }

    fn judge(&self, inc: &Incarnation, claim: &Claim, now: u64, rules: &Rules) -> Verdict {
        let Some(binding) = self.bindings.get(&claim.key) else {
            return self.anew(claim, claim.hint.as_ref(), now, rules);
        };
        if binding.moving.is_some() {
            return Verdict::Not(Home::Wait { ms: AGAIN, reason: WaitReason::Moving });
        }
        let row = self.table.rows.get(&binding.backend).filter(|row| row.usable());
        let Some(row) = row else { return self.leave_the_dead(inc, claim, binding, now, rules) };
        let sessions = binding.sessions.saturating_sub(binding.held_by(inc)).saturating_add(claim.have);
        match sessions {
            0 => self.come_back(inc, claim, binding, row, now, rules),
            _ if claim.limit > 0 && sessions >= claim.limit && self.is_full(inc, claim, binding) => {
                Verdict::Not(Home::Limit)
            }
            _ => self.enter_home(inc, claim, binding, row),
        }
    }

    /// Joins the home, if it has room beside what `inc` says that it has there.
    fn enter_home(&self, inc: &Incarnation, claim: &Claim, home: &Binding, row: &Row) -> Verdict {
        let others = self.load.get(&home.backend).saturating_sub(home.held_by(inc));
        let full = row.max_sessions > 0 && others.saturating_add(claim.have) >= row.max_sessions;
        if full { Verdict::Not(Home::Full) } else { Verdict::Join }
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
    fn come_back(
        &self,
        inc: &Incarnation,
        claim: &Claim,
        home: &Binding,
        row: &Row,
        now: u64,
        rules: &Rules,
    ) -> Verdict {
        let enter_home = || self.enter_home(inc, claim, home, row);
        if let Some(pin) = &claim.pin {
            return if *pin == home.backend { enter_home() } else { self.anew(claim, None, now, rules) };
        }
        match row.active_job() {
            Some(job) if job.kind == JobKind::Flush && home.generation.0 < job.since => {
                return self.anew(claim, None, now, rules);
            }
            Some(job) if job.kind == JobKind::Rebalance => {
                return self.anew(claim, Some(&home.backend), now, &Rules { balance_factor: 1.0, ..*rules });
            }
            _ => {}
        }
        let fits = row.state == BackendState::Up && row.pool == claim.pool;
        if fits && home.idle.is_none_or(|idle| now < idle + rules.user_expire) {
            return enter_home();
        }
        self.anew(claim, Some(&home.backend), now, rules)
    }

    fn anew(&self, claim: &Claim, remembered: Option<&BackendId>, now: u64, rules: &Rules) -> Verdict {
        let backend = self.place(claim, remembered, None, now, rules);
        backend.map_or(Verdict::Not(Home::NoBackend), Verdict::Place)
    }

    /// The limit again without orphans, whose sessions may long be gone.
    fn is_full(&self, inc: &Incarnation, claim: &Claim, binding: &Binding) -> bool {
        let others = binding.holders.iter().filter(|(other, _)| *other != inc && self.leases.contains_key(*other));
        others.fold(claim.have, |sum, (_, held)| sum.saturating_add(*held)) >= claim.limit
    }

    /// Opens a home that the key had not, or that nobody is sure of any more: orphans lose the key.
    fn open(&mut self, inc: &Incarnation, claim: &Claim, backend: BackendId, now: u64) -> Home {
        let why = self.why_it_leaves(claim);
        if claim.pin.is_none() {
            self.placed.add(&backend, 1);
        }
        self.count(&claim.key, inc, 0);
        self.oust_others(&claim.key, inc);
        let flushed = self.table.rows.get(&backend).and_then(Row::active_job);
        let flushed = flushed.filter(|job| job.kind == JobKind::Flush).map_or(0, |job| job.since);
        match self.bindings.get(&claim.key) {
            Some(old) if old.backend == backend && old.generation.0 >= flushed => {}
            Some(_) => self.rehome(&claim.key, backend, now, why),
            None => {
                let binding = Binding::new(backend, Generation(now), claim.unproven);
                self.bindings.insert(claim.key.clone(), binding);
            }
        }
        self.join(inc, claim)
    }

    /// What its history says of the home that a key leaves by a claim.
    fn why_it_leaves(&self, claim: &Claim) -> &'static str {
        let old = self.bindings.get(&claim.key).and_then(|old| self.table.rows.get(&old.backend));
        match old.filter(|row| row.usable()) {
            None => "dead",
            Some(_) if claim.pin.is_some() => "pin",
            Some(_) => "placed",
        }
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
