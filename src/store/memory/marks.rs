//! What operators set on a key, bound or not: a pin, a hold, a lock.

use super::super::order::{Lock, Locker, Mark, MarkChange, Marked};
use super::super::request::Row;
use super::binding::Binding;
use super::shard::Shard;
use crate::model::{BackendId, Generation};

/// What an operator has set on a key, bound or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    pub(super) pin: Option<BackendId>,
    /// Until when it is held; `u64::MAX` without end.
    pub(super) hold: Option<u64>,
    /// By whom it is locked, and until when.
    lock: Option<(Locker, u64)>,
}

impl Marks {
    /// Logins wait.
    pub(super) fn holds(&self, now: u64) -> bool {
        self.hold.is_some_and(|until| until > now) || self.lock(now).is_some()
    }

    /// The lock that is on.
    pub(super) fn lock(&self, now: u64) -> Option<Lock> {
        let (locker, until) = self.lock.as_ref().filter(|(_, until)| *until > now)?;
        Some(Lock { locker: locker.clone(), left_ms: until - now })
    }

    fn is_locked_by(&self, locker: &Locker, now: u64) -> bool {
        self.lock(now).is_some_and(|lock| lock.locker == *locker)
    }

    /// Lets go of what is over.
    pub(super) fn expire(&mut self, now: u64) {
        self.hold = self.hold.filter(|until| *until > now);
        self.lock = self.lock.take().filter(|(_, until)| *until > now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pin.is_none() && self.hold.is_none() && self.lock.is_none()
    }
}

impl Shard {
    pub(super) fn mark(&mut self, order: &Mark, now: u64, remember: u64) -> Marked {
        self.forget_old(&order.key, now, remember);
        let mut marks = self.marks.remove(&order.key).unwrap_or_default();
        let mut no_backend = false;
        match &order.change {
            MarkChange::Pin(backend) => {
                no_backend = !self.table.rows.get(backend).is_some_and(Row::usable);
                if !no_backend {
                    marks.pin = Some(backend.clone());
                }
            }
            MarkChange::Unpin => marks.pin = None,
            MarkChange::Hold(0) => marks.hold = Some(u64::MAX),
            MarkChange::Hold(ms) => marks.hold = Some(now.saturating_add(*ms)),
            MarkChange::Release => marks.hold = None,
            MarkChange::Lock(locker, ms) if self.may_lock(&marks, locker, now) => {
                marks.lock = Some((locker.clone(), now.saturating_add(*ms)));
            }
            MarkChange::Renew(locker, ms) if marks.is_locked_by(locker, now) => {
                marks.lock = Some((locker.clone(), now.saturating_add(*ms)));
            }
            MarkChange::Unlock(locker) if marks.is_locked_by(locker, now) => marks.lock = None,
            MarkChange::Lock(..) | MarkChange::Renew(..) | MarkChange::Unlock(_) => {}
        }
        marks.expire(now);
        let lock = marks.lock(now);
        if !marks.is_empty() {
            self.marks.insert(order.key.clone(), marks);
        }
        let home = self.bindings.get(&order.key);
        Marked {
            backend: home.map(|home| home.backend.clone()),
            generation: home.map_or(Generation(0), |home| home.generation),
            sessions: home.map_or(0, |home| home.sessions),
            holders: home.map(Binding::holder_counts).unwrap_or_default(),
            no_backend,
            lock,
        }
    }

    /// Nobody else has it locked, but for one who has neither lease nor grace any more, and so is dead.
    fn may_lock(&self, marks: &Marks, locker: &Locker, now: u64) -> bool {
        marks.lock(now).is_none_or(|lock| {
            let owner = &lock.locker.incarnation;
            lock.locker == *locker || !(self.leases.contains_key(owner) || self.orphans.contains_key(owner))
        })
    }
}
