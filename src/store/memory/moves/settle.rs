//! settle: a move goes on, once its old home is empty, or is given up.

use super::super::super::Rules;
use super::super::super::order::{Cancelled, Holder, Settle, Settled, Target};
use super::super::super::request::Row;
use super::super::binding::Binding;
use super::super::shard::Shard;
use super::{Hook, Moving, anybody};
use crate::model::{BackendId, Generation, Incarnation, Key, Pool};

impl Shard {
    pub(in super::super) fn settle(&mut self, order: &Settle, now: u64, rules: &Rules) -> Settled {
        self.forget_old(&order.key, now, rules.remember);
        if self.hook_failed(order) {
            return self.give_up(&order.key, Cancelled::Hook, now);
        }
        self.hear_of_hook(order, now);
        let Some((binding, moving)) = self.moving_binding(&order.key) else { return self.still(&order.key) };
        let over = now >= moving.deadline;
        if binding.sessions > 0 {
            return if over {
                self.give_up(&order.key, Cancelled::Deadline, now)
            } else {
                self.waiting(&order.key, now)
            };
        }
        let again = match &moving.hook {
            Hook::None if moving.is_due(now) => {
                let pool = self.table.rows.get(&binding.backend).map(|row| row.pool.clone()).unwrap_or_default();
                return self.finish(&order.key, &pool, now, rules);
            }
            Hook::None => return self.waiting(&order.key, now),
            Hook::Running { until, .. } if *until > now => return self.waiting(&order.key, now),
            _ if over => return self.give_up(&order.key, Cancelled::Deadline, now),
            Hook::Running { .. } => true,
            Hook::Pending => false,
        };
        let (from, to) = (binding.backend.clone(), moving.to.clone());
        let until = now + rules.hook_lease;
        self.set_hook(&order.key, Hook::Running { by: order.incarnation.clone(), until });
        self.moving.insert(order.key.clone(), until);
        Settled::Run { from, to, again }
    }

    /// The verdict of whoever was told to run the hook, unless somebody else was told since.
    fn hear_of_hook(&mut self, order: &Settle, now: u64) {
        let Some((_, moving)) = self.moving_binding(&order.key) else { return };
        let told = matches!(&moving.hook, Hook::Running { by, .. } if *by == order.incarnation);
        if order.hook == Some(true) && told {
            self.set_hook(&order.key, Hook::None);
            if let Some(moving) = self.bindings.get_mut(&order.key).and_then(|binding| binding.moving.as_mut()) {
                // The hook has done what the delay is for.
                moving.not_before = moving.not_before.map(|time| time.min(now));
            }
        }
    }

    /// Whoever was told to run the hook says that it failed.
    fn hook_failed(&self, order: &Settle) -> bool {
        let told = |moving: &Moving| matches!(&moving.hook, Hook::Running { by, .. } if *by == order.incarnation);
        order.hook == Some(false) && self.moving_binding(&order.key).is_some_and(|(_, moving)| told(moving))
    }

    fn moving_binding(&self, key: &Key) -> Option<(&Binding, &Moving)> {
        let binding = self.bindings.get(key)?;
        Some((binding, binding.moving.as_ref()?))
    }

    fn set_hook(&mut self, key: &Key, hook: Hook) {
        if let Some(moving) = self.bindings.get_mut(key).and_then(|binding| binding.moving.as_mut()) {
            moving.hook = hook;
        }
    }

    fn still(&self, key: &Key) -> Settled {
        let home = self.bindings.get(key);
        Settled::Still {
            backend: home.map(|home| home.backend.clone()),
            generation: home.map_or(Generation(0), |home| home.generation),
        }
    }

    fn waiting(&self, key: &Key, now: u64) -> Settled {
        let left_ms = self.moving_binding(key).map_or(0, |(_, moving)| moving.deadline.saturating_sub(now));
        Settled::Waiting { holders: self.holders(key, now), left_ms }
    }

    fn holders(&self, key: &Key, now: u64) -> Vec<Holder> {
        let holders = self.bindings.get(key).map(|binding| &binding.holders).into_iter().flatten();
        let view = |(incarnation, sessions): (&Incarnation, &u32)| Holder {
            incarnation: incarnation.clone(),
            sessions: *sessions,
            orphan: self.orphans.get(incarnation).map(|due| due.saturating_sub(now)),
        };
        holders.map(view).collect()
    }

    /// Opens the new home, if one can take the key; else all stays as it was.
    pub(in super::super) fn finish(&mut self, key: &Key, pool: &Pool, now: u64, rules: &Rules) -> Settled {
        let Some((binding, moving)) = self.moving_binding(key) else { return self.still(key) };
        let (from, to) = (binding.backend.clone(), moving.to.clone());
        let claim = anybody(key, Some(pool.clone()));
        let usable = |backend: &BackendId| self.table.rows.get(backend).is_some_and(Row::usable);
        let backend = match &to {
            Target::Stay => Some(from.clone()),
            Target::Backend(backend) => Some(backend.clone()).filter(usable),
            Target::Anywhere => self.place(&claim, None, None, now, rules),
            Target::Elsewhere => self.place(&claim, None, Some(&from), now, rules),
        };
        let Some(backend) = backend else { return self.give_up(key, Cancelled::NoBackend, now) };
        self.move_in(key, &to, backend.clone(), now, None);
        let generation = self.bindings.get(key).map_or(Generation(0), |binding| binding.generation);
        Settled::Done { from, backend, generation }
    }

    fn give_up(&mut self, key: &Key, why: Cancelled, now: u64) -> Settled {
        let holders = self.holders(key, now);
        self.cancel(key);
        Settled::Cancelled { why, holders }
    }
}
