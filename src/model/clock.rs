//! The clock by which this proxy's own deadlines run.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of CLOCK_BOOTTIME. It never jumps, and it goes on while the machine sleeps: a proxy that was suspended must
/// know that its time is over.
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // The clock starts at zero with the machine, so that neither part can be negative.
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}
