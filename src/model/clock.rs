//! The clock by which this proxy's own deadlines run, and what carries its tasks: given to the rooms by value, so that a
//! test can lead a whole fleet through hours within a moment, and stop one proxy while the others go on.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of CLOCK_BOOTTIME. It never jumps, and it goes on while the machine sleeps: a proxy that was suspended must
/// know that its time is over.
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // The clock starts at zero with the machine, so that neither part can be negative.
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// A clock that never jumps and goes on while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> u64);

impl Clock {
    /// The machine's, [`boottime_ms`].
    pub fn boottime() -> Self {
        Self(boottime_ms)
    }

    /// A test's: milliseconds, never fewer than before, never 0.
    pub fn simulated(now: fn() -> u64) -> Self {
        Self(now)
    }

    /// Milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.0()
    }
}

/// A task that runs beside its starter.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts tasks that live as long as their proxy.
#[derive(Clone)]
pub struct Tasks(Arc<dyn Fn(Task) + Send + Sync>);

impl Tasks {
    /// `start` has a task run from now on.
    pub fn new(start: impl Fn(Task) + Send + Sync + 'static) -> Self {
        Self(Arc::new(start))
    }

    /// Runs a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.0)(Box::pin(task));
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tasks")
    }
}
