//! A user is kept out while something is done that must be alone with them, and must know that it was: a migration, or a
//! move or kick that the mail server is to confirm.
//!
//! A lock is short and renewed while this proxy works, so its death keeps nobody out for longer than [`LOCKED`]. A lock that
//! has lapsed, or that the store has forgotten, is never renewed: who could renew it has had it all the time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::moves::{Moves, Refused, ms};
use crate::fleet::NoOrder;
use crate::model::Key;
use crate::store::{BindingView, Lock, Locker, MarkChange};

/// How long a user is kept out after the last sign of life of the proxy that has the lock.
const LOCKED: Duration = Duration::from_secs(120);
/// How often the lock is renewed, and so how soon its loss is seen.
const RENEW: Duration = Duration::from_secs(5);
/// How often an unlocking that got no answer is tried.
const ATTEMPTS: u32 = 10;
/// Between two of them.
const AGAIN: Duration = Duration::from_millis(500);

/// A user who is kept out. Dropped without [`Locked::open`], the lock lapses by itself.
pub(super) struct Locked<'a> {
    moves: &'a Moves,
    key: &'a Key,
    locker: Locker,
}

impl Moves {
    /// Keeps a user out. The error says who does so already, or that the store did not answer.
    pub(super) async fn lock<'a>(&'a self, key: &'a Key) -> Result<Locked<'a>, String> {
        let number = self.locks.fetch_add(1, Ordering::Relaxed);
        let locker = Locker { incarnation: self.fleet.incarnation().clone(), number };
        let locked = Locked { moves: self, key, locker };
        match locked.change(MarkChange::Lock(locked.locker.clone(), ms(LOCKED))).await {
            Ok(Some(lock)) if lock.locker == locked.locker => Ok(locked),
            Ok(Some(other)) => Err(self.occupied(key, &other).await),
            Ok(None) => Err("the store answered something else".to_owned()),
            Err(error) => {
                // It may be on all the same.
                let _ = locked.open().await;
                Err(error.to_string())
            }
        }
    }

    /// Refuses what would disturb whoever has locked the user, unless they are known to be dead.
    pub(super) async fn unlocked(&self, key: &Key, view: &BindingView) -> Result<(), Refused> {
        let Some(lock) = &view.lock else { return Ok(()) };
        let census = super::in_time(self.fleet.store().census(self.shard(key))).await.map_err(NoOrder::Store)?;
        match census.proxies.iter().any(|proxy| proxy.incarnation == lock.locker.incarnation) {
            true => Err(Refused::Lock(self.occupied(key, lock).await)),
            false => Ok(()),
        }
    }

    /// Who has the lock, as an operator is told who wanted it, too.
    async fn occupied(&self, key: &Key, lock: &Lock) -> String {
        let Lock { locker: Locker { incarnation, .. }, left_ms } = lock;
        let people = self.people(key).await;
        let proxy = people.name(incarnation).unwrap_or_else(|| incarnation.to_string());
        format!(
            "another migration or confirmed move of {key} is under way at {proxy}; should that proxy be dead, it ends \
             within {} s, or with: homing proxy forget {proxy}",
            left_ms.div_ceil(1000)
        )
    }
}

impl Locked<'_> {
    /// Whether that is this lock.
    pub(super) fn is(&self, lock: Option<&Lock>) -> bool {
        lock.is_some_and(|lock| lock.locker == self.locker)
    }

    /// Does the work while the lock is on. The error: it must be taken to have lapsed, so the work was broken off.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            done = work => Ok(done),
            lapsed = self.keep() => Err(lapsed),
        }
    }

    /// Renews it once; so if this succeeds, nobody has come in.
    pub(super) async fn renew(&self) -> Result<(), String> {
        match self.change(MarkChange::Renew(self.locker.clone(), ms(LOCKED))).await {
            Ok(lock) if self.is(lock.as_ref()) => Ok(()),
            Ok(_) => Err(self.lost()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Lets the user in again.
    pub(super) async fn open(&self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.change(MarkChange::Unlock(self.locker.clone())).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
            sleep(AGAIN).await;
        }
        Err(format!("{last}; logins wait for {} s at most", LOCKED.as_secs()))
    }

    /// Renews it. Ends only if it must be taken to have lapsed.
    async fn keep(&self) -> String {
        let mut held = Instant::now();
        loop {
            sleep(RENEW).await;
            let asked = Instant::now();
            match self.change(MarkChange::Renew(self.locker.clone(), ms(LOCKED))).await {
                Ok(lock) if self.is(lock.as_ref()) => held = asked,
                Ok(_) => return self.lost(),
                Err(error) if held.elapsed() + RENEW >= LOCKED => {
                    return format!("the lock could not be renewed, and may have lapsed: {error}");
                }
                Err(error) => warn!(key = %self.key, %error, "a lock could not be renewed yet"),
            }
        }
    }

    fn lost(&self) -> String {
        format!("the store has forgotten that {} is locked, so somebody may have come in meanwhile", self.key)
    }

    /// Changes the lock. Returns the one that is on then.
    async fn change(&self, change: MarkChange) -> Result<Option<Lock>, Refused> {
        Ok(self.moves.change_mark(self.key, change).await?.lock)
    }
}
