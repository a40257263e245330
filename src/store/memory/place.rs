//! Which backend a key without a home goes to. A linear pass; `lua/include/place.lua` does the same arithmetic, but keeps
//! the candidates in order (`lua/include/rank.lua`) rather than look at each of them.

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
    /// Lowest first among equals: how often it was chosen since the table changed, for its share.
    turn: u64,
}

impl Candidate<'_> {
    /// Lowest `load / share`, then whose turn it is, then by name. Not `(load + 1) / share`: that would send every user to
    /// the heaviest backend while nobody has a session, and the first ones to it beyond its share.
    fn compare(&self, other: &Self) -> Ordering {
        // The quotient of two integers below 2^53 is the same in every double.
        let (mine, theirs) = (self.load as f64 / self.share as f64, other.load as f64 / other.share as f64);
        mine.total_cmp(&theirs).then(self.turn.cmp(&other.turn)).then(self.backend.cmp(other.backend))
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
        rows.map(move |(backend, row)| {
            let share = share(row, now, rules.slow_start);
            let turn = (u64::from(self.placed.get(backend)) + 1) * 1_000_000 / share;
            Candidate { backend, share, load: u64::from(self.load.get(backend)), turn }
        })
    }
}

/// Weight times percent: it grows linearly from 1 % to 100 % while `slow_start` runs.
fn share(row: &Row, now: u64, slow_start: u64) -> u64 {
    let age = now.saturating_sub(row.since);
    let percent = if row.since == 0 || age >= slow_start { 100 } else { (age * 100 / slow_start).max(1) };
    u64::from(row.weight.get()) * percent
}
