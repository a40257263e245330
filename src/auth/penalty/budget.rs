//! How many names of users, or addresses, a proxy notes as new: so that whoever invents names, or has many addresses, does not
//! fill the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So many as last at most, each for the time after which failures are forgotten.
pub(super) const MOST_NOTED: u64 = 500_000;
const MINUTE: u64 = 60;

/// What is left for this minute.
pub(super) struct Budget {
    began: Instant,
    /// The minute, and how many were new in it, in the lower half.
    spent: AtomicU64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), spent: AtomicU64::new(0) }
    }

    /// One more may be noted, for so long.
    pub(super) fn allows(&self, forget: Duration) -> bool {
        self.allows_at(self.began.elapsed().as_secs() / MINUTE, forget)
    }

    pub(super) fn allows_at(&self, minute: u64, forget: Duration) -> bool {
        let most = (MOST_NOTED * MINUTE / forget.as_secs().max(MINUTE)).max(1);
        let spend = |spent: u64| {
            let (then, count) = (spent >> 32, spent & u64::from(u32::MAX));
            let count = if then == minute { count } else { 0 };
            (count < most).then_some((minute << 32) | (count + 1))
        };
        self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}
