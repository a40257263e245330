//! A backend's fair share of its pool, and how many of this proxy's sessions there are beyond it.

use std::collections::BTreeMap;

use crate::model::{BackendId, Weight};
use crate::store::{Census, Job};

/// What is remembered between two looks at a rebalance.
#[derive(Default)]
pub(super) struct Share {
    /// Since when each runs, and the most sessions that its pool had meanwhile: those that are on their way count nowhere,
    /// and will be back.
    pools: BTreeMap<BackendId, (u64, u64)>,
}

impl Share {
    /// Forgets the rebalances of all others.
    pub(super) fn retain(&mut self, which: impl Fn(&BackendId) -> bool) {
        self.pools.retain(|name, _| which(name));
    }

    /// Of the sessions that this proxy has at a backend, `here` in all, as many as are its part of what is there beyond the fair
    /// share and `tolerance` (a part of it).
    pub(super) fn quota(&mut self, name: &BackendId, job: &Job, here: u64, census: &Census, tolerance: f64) -> u64 {
        self.excess(name, job, census, tolerance).map_or(0, |(excess, load)| part(excess, here, load))
    }

    /// Sessions at the backend beyond what it should have, and all of them. `None`: it has no share.
    fn excess(&mut self, name: &BackendId, job: &Job, census: &Census, tolerance: f64) -> Option<(u64, u64)> {
        let own = census.backends.iter().find(|view| view.backend == *name && view.row.takes_users())?;
        let pool = census.backends.iter().filter(|view| view.row.takes_users() && view.row.pool == own.row.pool);
        let (sessions, weights) = pool.fold((0, 0), |(sessions, weights), view| {
            (sessions + u64::from(view.sessions), weights + u64::from(view.row.weight.get()))
        });
        let (since, most) = self.pools.entry(name.clone()).or_insert((job.since, 0));
        *most = if *since == job.since { sessions.max(*most) } else { sessions };
        *since = job.since;
        let load = u64::from(own.sessions);
        Some((load.saturating_sub(allowed(*most, own.row.weight, weights, tolerance)), load))
    }
}

/// The most sessions that a backend of that weight may have, if its pool has so many sessions, and weights of that sum.
pub(super) fn allowed(sessions: u64, weight: Weight, weights: u64, tolerance: f64) -> u64 {
    // Sessions and weights are far below 2^53.
    let fair = sessions as f64 * f64::from(weight.get()) / weights.max(1) as f64;
    (fair + fair * tolerance).ceil() as u64
}

/// Of `excess` sessions out of `load`, those of somebody who has `here`. Rounded up: somebody must begin.
fn part(excess: u64, here: u64, load: u64) -> u64 {
    if load == 0 { 0 } else { (excess * here).div_ceil(load).min(here) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BackendView, JobKind, Row};

    fn census(loads: &[(&str, u32, u32)]) -> Census {
        let view = |&(name, sessions, weight): &(&str, u32, u32)| BackendView {
            backend: BackendId::new(name),
            row: Row { weight: Weight::new(weight).unwrap(), ..Row::default() },
            sessions,
            users: sessions,
            votes: 0,
            placed: 0,
        };
        Census { backends: loads.iter().map(view).collect(), ..Census::default() }
    }

    fn job() -> Job {
        Job { kind: JobKind::Rebalance, since: 1, paused: false, why: String::new() }
    }

    fn quota(share: &mut Share, here: u64, loads: &[(&str, u32, u32)]) -> u64 {
        share.quota(&BackendId::new("a"), &job(), here, &census(loads), 0.1)
    }

    #[test]
    fn a_proxy_moves_its_part_of_what_is_beyond_the_fair_share_and_its_tolerance() {
        // 300 on three: 100 each, 110 allowed, 40 too many, of which a third is here.
        assert_eq!(quota(&mut Share::default(), 50, &[("a", 150, 100), ("b", 150, 100), ("c", 0, 100)]), 14);
        // A backend of double weight may have double.
        assert_eq!(quota(&mut Share::default(), 150, &[("a", 150, 200), ("b", 150, 200), ("c", 0, 100)]), 18);
        assert_eq!(quota(&mut Share::default(), 110, &[("a", 110, 100), ("b", 95, 100), ("c", 95, 100)]), 0);
        assert_eq!(quota(&mut Share::default(), 110, &[("a", 110, 0), ("b", 0, 100)]), 0, "it has no share");
    }

    #[test]
    fn whoever_is_on_the_way_counts_as_moved_and_will_be_back() {
        let mut share = Share::default();
        assert_eq!(quota(&mut share, 150, &[("a", 150, 100), ("b", 150, 100), ("c", 0, 100)]), 40);
        // 40 of "b" have left and not come back yet: the fair share is what it was.
        assert_eq!(quota(&mut share, 150, &[("a", 150, 100), ("b", 110, 100), ("c", 0, 100)]), 40);
        assert_eq!(quota(&mut share, 110, &[("a", 110, 100), ("b", 110, 100), ("c", 0, 100)]), 0);
    }
}
