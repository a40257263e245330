//! How long who failed so often waits before the next password is looked at.

use std::time::Duration;

/// After the first failure; doubled by each further one.
const FIRST: Duration = Duration::from_secs(1);
/// So many failures of a user cost nothing, for they may be somebody else's.
const FREE: usize = 4;
/// Doublings after which any limit is reached.
const MOST_DOUBLINGS: usize = 20;

/// At an address with so many failures.
pub(super) fn of_address(failures: usize, max: Duration) -> Duration {
    match failures.checked_sub(1) {
        Some(doublings) => (FIRST * (1 << doublings.min(MOST_DOUBLINGS))).min(max),
        None => Duration::ZERO,
    }
}

/// Of a user with so many, at an address that is not known: gentler, so that whoever attacks a user does not lock the
/// user out.
pub(super) fn of_user(failures: usize, max: Duration) -> Duration {
    of_address(failures.saturating_sub(FREE), max)
}
