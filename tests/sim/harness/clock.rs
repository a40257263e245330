//! The clocks of one simulated fleet: tokio's, which stands still until everybody waits, and each proxy's own, which also
//! stands still while its machine does. One fleet to a thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use homing::model::Clock;
use tokio::time::Instant;

use super::executor::{Owner, WORLD};

/// What the clocks show at first: long after 1970, as Redis' would, and never 0.
pub const DAWN: u64 = 1_000_000_000;

thread_local! {
    static BASE: Cell<Option<Instant>> = const { Cell::new(None) };
    static CURRENT: Cell<Owner> = const { Cell::new(WORLD) };
    static STOOD: RefCell<BTreeMap<Owner, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// A new fleet begins, on a runtime whose clock is paused.
pub fn begin() {
    BASE.set(Some(Instant::now()));
    CURRENT.set(WORLD);
    STOOD.take();
}

/// From now on it is that one who looks at its clock. Returns who it was before.
pub fn enter(owner: Owner) -> Owner {
    CURRENT.replace(owner)
}

/// True time, in milliseconds.
pub fn now() -> u64 {
    let passed = BASE.get().map_or(0, |base| base.elapsed().as_millis());
    DAWN + u64::try_from(passed).unwrap_or(u64::MAX)
}

/// What that proxy's clock shows.
pub fn of(owner: Owner) -> u64 {
    now() - STOOD.with_borrow(|stood| stood.get(&owner).copied().unwrap_or(0))
}

/// That proxy's clock has stood still for so long.
pub fn stood_still(owner: Owner, ms: u64) {
    STOOD.with_borrow_mut(|stood| *stood.entry(owner).or_default() += ms);
}

fn own() -> u64 {
    of(CURRENT.get())
}

/// The clock of whoever looks at it.
pub fn own_clock() -> Clock {
    Clock::simulated(own)
}
