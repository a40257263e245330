//! move: what operators do to a key. The old home is emptied before the new one is opened; `settle.rs` goes on with it.

mod settle;

use std::collections::BTreeMap;

use super::super::order::{HookState, Move, Moved, Pace, Target};
use super::super::request::{Claim, JobKind, Row};
use super::super::{MovingView, PASTS, Past, Rules};
use super::binding::Binding;
use super::shard::Shard;
use crate::model::{BackendId, Generation, Incarnation, Key, Pool};

/// How long to wait before one of many moves is tried again.
const AGAIN: u64 = 250;
/// How far many moves may run ahead of their rate, in microseconds.
const BURST: u64 = 250_000;

/// A move under way.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    to: Target,
    /// The generation before the move.
    began: Generation,
    deadline: u64,
    /// From when the new home may be opened; `None` while somebody is at the old one.
    not_before: Option<u64>,
    hook: Hook,
}

/// A move's hook.
#[derive(Clone, Debug)]
enum Hook {
    /// There is none, or it has succeeded.
    None,
    Pending,
    Running {
        by: Incarnation,
        until: u64,
    },
}

impl Moving {
    /// Notes whether the old home is empty. Returns when somebody should look after the move.
    pub(super) fn emptied(&mut self, empty: bool, now: u64, rules: &Rules) -> u64 {
        if !empty {
            self.not_before = None;
            return self.deadline;
        }
        let not_before = *self.not_before.get_or_insert(now + rules.kick_delay);
        match &self.hook {
            Hook::None => not_before,
            Hook::Pending => now,
            Hook::Running { until, .. } => *until,
        }
    }

    /// The new home may be opened.
    pub(super) fn is_due(&self, now: u64) -> bool {
        matches!(self.hook, Hook::None) && self.not_before.is_some_and(|time| time <= now)
    }

    pub(super) fn view(&self, now: u64) -> MovingView {
        let hook = match &self.hook {
            Hook::None => HookState::None,
            Hook::Pending => HookState::Pending,
            Hook::Running { .. } => HookState::Running,
        };
        MovingView { to: self.to.clone(), left_ms: self.deadline.saturating_sub(now), hook }
    }
}

impl Shard {
    pub(super) fn begin_move(&mut self, order: &Move, now: u64, rules: &Rules) -> Moved {
        self.forget_old(&order.key, now, rules.remember);
        let Some(binding) = self.bindings.get(&order.key) else { return self.bind_first(order, now) };
        if order.seen.is_some_and(|seen| seen != binding.generation) {
            return Moved::Changed;
        }
        if binding.moving.is_some() && !order.force {
            return Moved::Busy;
        }
        let (home, generation) = (binding.backend.clone(), binding.generation);
        if order.pace.is_some() {
            // One of many: who waits for a dead proxy would only be locked out, and who is pinned here would come back.
            if binding.holders.keys().any(|holder| !self.leases.contains_key(holder)) {
                return Moved::Busy;
            }
            if self.marks.get(&order.key).is_some_and(|marks| marks.pin.as_ref() == Some(&home)) {
                return self.leave_there(order, home, generation, now);
            }
        }
        let target = match self.target(&order.key, &order.to, &home, now, rules) {
            Some(target) => target,
            None => return Moved::NoBackend,
        };
        if target == home && order.to != Target::Stay {
            return self.leave_there(order, home, generation, now);
        }
        if let Some(pace) = order.pace
            && let Some(ms) = self.too_fast(pace, now)
        {
            return Moved::Later(ms);
        }
        if order.force {
            return self.force(&order.key, &order.to, target, now);
        }
        self.empty(order, target, now, rules)
    }

    /// A key that is not bound needs no emptying: a first home can only be given to it.
    fn bind_first(&mut self, order: &Move, now: u64) -> Moved {
        let Target::Backend(backend) = &order.to else { return Moved::Unbound };
        if order.seen.is_some() {
            return Moved::Changed;
        }
        if !self.table.rows.get(backend).is_some_and(Row::usable) {
            return Moved::NoBackend;
        }
        let mut binding = Binding::new(backend.clone(), Generation(now), false);
        binding.idle = Some(now);
        self.bindings.insert(order.key.clone(), binding);
        Moved::Done { backend: backend.clone(), generation: Generation(now) }
    }

    /// Where the key would go now. `None`: nowhere, or nowhere that is allowed.
    fn target(&self, key: &Key, to: &Target, home: &BackendId, now: u64, rules: &Rules) -> Option<BackendId> {
        let pool = self.table.rows.get(home).map(|row| row.pool.clone());
        match to {
            Target::Stay => Some(home.clone()),
            Target::Backend(backend) => {
                let row = self.table.rows.get(backend).filter(|row| row.usable())?;
                pool.is_none_or(|pool| pool == row.pool).then(|| backend.clone())
            }
            Target::Anywhere => self.place(&anybody(key, pool), None, None, now, rules),
            Target::Elsewhere => self.place(&anybody(key, pool), None, Some(home), now, rules),
        }
    }

    /// It is where it should be. A generation of its own says that it has been placed since.
    fn leave_there(&mut self, order: &Move, home: BackendId, generation: Generation, now: u64) -> Moved {
        if order.force
            && let Some(binding) = self.bindings.get(&order.key)
            && binding.moving.is_some()
        {
            self.cancel(&order.key);
        }
        let anew = order.to == Target::Anywhere;
        let generation = if anew { self.renewed(generation, &home, now) } else { generation };
        if let Some(binding) = self.bindings.get_mut(&order.key) {
            binding.generation = generation;
        }
        Moved::Done { backend: home, generation }
    }

    /// Milliseconds to wait if there are enough moves already.
    fn too_fast(&mut self, pace: Pace, now: u64) -> Option<u64> {
        if self.moving.len() >= pace.parallel as usize {
            return Some(AGAIN);
        }
        if pace.per_second > 0 {
            let paced = self.paced.max(now * 1000);
            if paced > now * 1000 + BURST {
                return Some((paced - now * 1000 - BURST).div_ceil(1000));
            }
            self.paced = paced + 1_000_000 / u64::from(pace.per_second);
        }
        None
    }

    fn force(&mut self, key: &Key, to: &Target, target: BackendId, now: u64) -> Moved {
        let holders = self.bindings.get(key).map(|binding| binding.holders.clone()).unwrap_or_default();
        holders.keys().for_each(|holder| self.oust(key, holder));
        self.move_in(key, to, target, now, Some("force"));
        self.done(key)
    }

    fn empty(&mut self, order: &Move, target: BackendId, now: u64, rules: &Rules) -> Moved {
        let Some(binding) = self.bindings.get_mut(&order.key) else { return Moved::Unbound };
        let idle_enough = binding.idle.is_some_and(|idle| idle + rules.kick_delay <= now);
        if binding.sessions == 0 && !order.hook && (idle_enough || order.to == Target::Stay) {
            self.move_in(&order.key, &order.to, target, now, None);
            return self.done(&order.key);
        }
        let hook = if order.hook { Hook::Pending } else { Hook::None };
        let not_before = binding.idle.map(|idle| idle + rules.kick_delay);
        let deadline = now.saturating_add(order.timeout);
        let mut moving = Moving { to: order.to.clone(), began: binding.generation, deadline, not_before, hook };
        let attention = moving.emptied(binding.sessions == 0, now, rules);
        binding.moving = Some(moving);
        binding.generation = after(binding.generation, now);
        let (generation, sessions) = (binding.generation, binding.sessions);
        let holders = binding.holder_counts();
        self.moving.insert(order.key.clone(), attention);
        for (holder, _) in &holders {
            self.kick_out(&order.key, holder);
        }
        Moved::Begun { generation, sessions, holders }
    }

    fn done(&self, key: &Key) -> Moved {
        let home = self.bindings.get(key);
        home.map_or(Moved::Unbound, |home| Moved::Done { backend: home.backend.clone(), generation: home.generation })
    }

    /// Whoever has not closed its sessions yet may keep them.
    fn cancel(&mut self, key: &Key) {
        self.moving.remove(key);
        let Some(binding) = self.bindings.get_mut(key) else { return };
        binding.moving = None;
        let holders: Vec<_> = binding.holders.keys().cloned().collect();
        holders.iter().for_each(|holder| self.unkick(key, holder));
    }

    /// Ends a move of a key that nobody holds: its home is where `to` leads. `why` is what its history says, if not what
    /// follows from `to`.
    fn move_in(&mut self, key: &Key, to: &Target, backend: BackendId, now: u64, why: Option<&str>) {
        if matches!(to, Target::Anywhere | Target::Elsewhere) {
            self.placed.add(&backend, 1);
        }
        let usual = if *to == Target::Stay { "kick" } else { "move" };
        self.rehome(key, backend, now, why.unwrap_or(usual));
    }

    /// Gives a key that nobody holds another home, or the same anew.
    pub(super) fn rehome(&mut self, key: &Key, backend: BackendId, now: u64, why: &str) {
        let Some(old) = self.bindings.get(key) else { return };
        let (generation, unproven) = (self.renewed(old.generation, &backend, now), old.unproven);
        self.note_past(key, generation, why);
        self.moving.remove(key);
        let mut binding = Binding::new(backend, generation, unproven);
        // The home is as fresh as if somebody had just left it.
        binding.idle = Some(now);
        self.bindings.insert(key.clone(), binding);
    }

    /// The generation of a key that is given that home now. Not below the beginning of a flush there, which may be ahead of the
    /// clock (it is a version of the table): the key would be flushed again and again until the clock is there.
    fn renewed(&self, old: Generation, home: &BackendId, now: u64) -> Generation {
        let job = self.table.rows.get(home).and_then(|row| row.job.as_ref());
        let flushed = job.filter(|job| job.kind == JobKind::Flush).map_or(0, |job| job.since);
        after(old, now.max(flushed))
    }

    /// Writes the present home into the key's history: it ends with that generation.
    pub(super) fn note_past(&mut self, key: &Key, until: Generation, why: &str) {
        let Some(old) = self.bindings.get(key) else { return };
        let generation = old.moving.as_ref().map_or(old.generation, |moving| moving.began);
        let past = Past { backend: old.backend.clone(), generation, until, why: why.to_owned() };
        let pasts = self.pasts.entry(key.clone()).or_default();
        pasts.push_front(past);
        pasts.truncate(PASTS);
    }
}

/// A claim of that key by nobody in particular.
fn anybody(key: &Key, pool: Option<Pool>) -> Claim {
    let pool = pool.unwrap_or_default();
    Claim { key: key.clone(), have: 0, pool, pin: None, limit: 0, unproven: false, hint: None }
}

fn after(generation: Generation, now: u64) -> Generation {
    Generation(generation.0.saturating_add(1).max(now))
}

/// Keys and when somebody should look after their move.
pub(super) type Attention = BTreeMap<Key, u64>;
