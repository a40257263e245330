//! Where a store takes time and run id from: its server, or a test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most that the shard's clock advances between two heartbeats, in milliseconds: whatever the server's clock did
/// meanwhile (stepped, stood still, belonged to another machine), nothing expires early.
pub const STEP: u64 = 2000;

/// Milliseconds since the epoch by this machine's clock; what Redis answers to TIME.
pub(super) fn system_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The shard's time, from what it was when the server's clock was last `seen` and what that shows now.
pub(super) fn advance(clock: u64, seen: u64, server: u64) -> u64 {
    clock + server.saturating_sub(seen).min(STEP)
}

/// A server whose clock and run id a test sets, so that both stores can be led through the same history.
#[derive(Debug)]
pub struct Simulated {
    ms: AtomicU64,
    run: Mutex<String>,
}

impl Simulated {
    /// A server that was started as `run` and whose clock shows `ms`.
    pub fn new(ms: u64, run: &str) -> Self {
        Self { ms: AtomicU64::new(ms), run: Mutex::new(run.to_owned()) }
    }

    /// Sets the clock, also backwards.
    pub fn set_ms(&self, ms: u64) {
        self.ms.store(ms, Ordering::Relaxed);
    }

    /// What the clock shows.
    pub fn ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }

    /// The server was restarted, or another took over: its data are what they are, its run id is new.
    pub fn restart(&self, run: &str) {
        run.clone_into(&mut self.run.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The server's run id.
    pub fn run(&self) -> String {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
