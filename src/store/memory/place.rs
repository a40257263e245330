//! Which backend a key without a home goes to. One linear pass; `lua/include/place.lua` does the same arithmetic.

use std::cmp::Ordering;

use super::super::Rules;
use super::super::request::{Claim, Row};
use super::shard::Shard;
use crate::model::BackendId;

/// One that may take the key.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    backend: &'a BackendId,
    /// Its share: weight times percent of the slow start, 1 to 1,000,000.
    share: u64,
    load: u64,
    users: u32,
}

impl Candidate<'_> {
    /// Lowest `(load + 1) / share`; multiplied out, so that it is exact. Then fewer users, then by name.
    fn compare(&self, other: &Self) -> Ordering {
        let (mine, theirs) = ((self.load + 1) * other.share, (other.load + 1) * self.share);
        mine.cmp(&theirs).then(self.users.cmp(&other.users)).then(self.backend.cmp(other.backend))
    }
}

impl Shard {
    /// A pin is taken unless it is down or gone: whoever set it knows why, also while the backend drains. Then the
    /// `remembered` home while its load is below `balance_factor` times its fair share of what the pool will have.
    pub(super) fn place(
        &self,
        claim: &Claim,
        remembered: Option<&BackendId>,
        avoid: Option<&BackendId>,
        now: u64,
        rules: &Rules,
    ) -> Option<BackendId> {
        if let Some(pin) = &claim.pin {
            let fit = self.table.rows.get(pin).is_some_and(Row::usable);
            return fit.then(|| pin.clone());
        }
        let wanted = |candidate: &Candidate<'_>| avoid != Some(candidate.backend);
        let candidates = || self.candidates(claim, now, rules).filter(wanted);
        if let Some(home) = candidates().find(|candidate| Some(candidate.backend) == remembered) {
            let (loads, shares) = candidates().fold((0, 0), |(l, s), c| (l + c.load, s + c.share));
            // Both sides are products of integers far below 2^53 and of the factor: the same in every double.
            let fair = rules.balance_factor * ((loads + 1) * home.share) as f64;
            if ((home.load * shares) as f64) < fair {
                return Some(home.backend.clone());
            }
        }
        candidates().min_by(Candidate::compare).map(|best| best.backend.clone())
    }

    fn candidates(&self, claim: &Claim, now: u64, rules: &Rules) -> impl Iterator<Item = Candidate<'_>> {
        let fits = move |row: &Row| row.pool == claim.pool && row.takes_users();
        let has_room = |backend, row: &Row| row.max_sessions == 0 || self.load.get(backend) < row.max_sessions;
        let rows = self.table.rows.iter().filter(move |(backend, row)| fits(row) && has_room(backend, row));
        rows.map(move |(backend, row)| Candidate {
            backend,
            share: share(row, now, rules.slow_start),
            load: u64::from(self.load.get(backend)),
            users: self.users.get(backend),
        })
    }
}

/// Weight times percent: it grows linearly from 1 % to 100 % while `slow_start` runs.
fn share(row: &Row, now: u64, slow_start: u64) -> u64 {
    let age = now.saturating_sub(row.since);
    let percent = if row.since == 0 || age >= slow_start { 100 } else { (age * 100 / slow_start).max(1) };
    u64::from(row.weight.get()) * percent
}
