//! What bulk work would do, before it is begun.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::share::allowed;
use super::{Change, ChangeFault, Fleet, JobSettings, Rows, Verb};
use crate::model::BackendId;
use crate::store::{Census, JobKind};

/// Users are looked at in so many portions at most.
const PORTIONS: u64 = 10_000;

/// What bulk work would do at one backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where.
    pub backend: BackendId,
    /// Users with sessions that would be moved.
    pub users: u64,
    /// Their sessions.
    pub sessions: u64,
    /// How long that would take.
    pub takes: Duration,
    /// Where they would go, as loads are now.
    pub to: Vec<(BackendId, u64)>,
}

/// Sessions and users with sessions of each backend.
type Loads = BTreeMap<BackendId, (u64, u64)>;

impl Fleet {
    /// What a change that begins bulk work would do. Changes nothing.
    ///
    /// # Errors
    /// If it could not be begun, or the store does not say.
    pub async fn plan(&self, change: &Change) -> Result<Vec<Plan>, ChangeFault> {
        let first = &self.shards[0]; // there is always a first
        let Verb::Begin(kind) = change.verb else {
            return Err(ChangeFault::Refused("only evict, flush and rebalance can be tried dry".to_owned()));
        };
        let now = first.roster.table();
        let (rows, _) = change.apply(&now.rows, &first.roster.file()).map_err(ChangeFault::Refused)?;
        let mut loads = Loads::new();
        for shard in &self.shards {
            let census = timeout(shard.patience, self.store.census(shard.number)).await;
            match census {
                Ok(Ok(census)) => add(&mut loads, &census),
                Ok(Err(error)) => return Err(ChangeFault::Unreachable(error.to_string())),
                Err(late) => return Err(ChangeFault::Unreachable(late.to_string())),
            }
        }
        let (rate, tolerance) =
            self.jobs.get().map_or((f64::INFINITY, 0.0), |jobs| (rate(jobs), jobs.moves.load().rebalance_tolerance));
        Ok(change
            .meant(&now.rows)
            .into_iter()
            .map(|name| plan(name, kind, &rows, &mut loads, rate, tolerance))
            .collect())
    }
}

fn add(loads: &mut Loads, census: &Census) {
    for view in &census.backends {
        let load = loads.entry(view.backend.clone()).or_default();
        *load = (load.0 + u64::from(view.sessions), load.1 + u64::from(view.users));
    }
}

/// Users per second: what the pace lets begin, and what so many at once can finish.
fn rate(jobs: &JobSettings) -> f64 {
    let moves = jobs.moves.load();
    let finished = f64::from(moves.max_parallel_moves) / jobs.kick_delay.as_secs_f64().max(0.01);
    if moves.move_rate == 0 { finished } else { finished.min(f64::from(moves.move_rate)) }
}

/// Takes users away one by one and places them as claims would.
fn plan(name: BackendId, kind: JobKind, rows: &Rows, loads: &mut Loads, rate: f64, tolerance: f64) -> Plan {
    let (sessions, users) = loads.get(&name).copied().unwrap_or_default();
    let mut plan = Plan { backend: name.clone(), users: 0, sessions: 0, takes: Duration::ZERO, to: Vec::new() };
    let Some(row) = rows.get(&name) else { return plan };
    let per_user = sessions.checked_div(users).unwrap_or(0).max(1);
    let portion = users.div_ceil(PORTIONS).max(1);
    let pool: Vec<_> = rows.iter().filter(|(_, other)| other.pool == row.pool && other.takes_users()).collect();
    let total: u64 = pool.iter().map(|(at, _)| loads.get(*at).map_or(0, |load| load.0)).sum();
    let weights: u64 = pool.iter().map(|(_, row)| u64::from(row.weight.get())).sum();
    let allowed = allowed(total, row.weight, weights, tolerance);
    let mut gone: BTreeMap<BackendId, u64> = BTreeMap::new();
    while plan.users < users {
        let here = loads.get(&name).map_or(0, |load| load.0);
        if kind == JobKind::Rebalance && here <= allowed {
            break;
        }
        let may = |at: &BackendId| *at != name || kind == JobKind::Flush;
        let best = pool.iter().filter(|(at, _)| may(at)).min_by(|one, other| {
            let cost = |(at, row): &(&BackendId, &crate::store::Row)| {
                (loads.get(*at).map_or(0, |load| load.0) + 1) as f64 / f64::from(row.weight.get())
            };
            cost(one).total_cmp(&cost(other))
        });
        let Some(to) = best.map(|(at, _)| (*at).clone()).filter(|to| *to != name) else { break };
        let some = portion.min(users - plan.users);
        let moved = some * per_user;
        loads.entry(name.clone()).and_modify(|load| load.0 = load.0.saturating_sub(moved));
        loads.entry(to.clone()).or_default().0 += moved;
        *gone.entry(to).or_default() += some;
        (plan.users, plan.sessions) = (plan.users + some, (plan.sessions + moved).min(sessions));
    }
    plan.takes = Duration::try_from_secs_f64(plan.users as f64 / rate).unwrap_or(Duration::MAX);
    plan.to = gone.into_iter().collect();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;
    use crate::store::{BackendState, Row};

    fn planned(kind: JobKind, loads: &[(&str, u64)], change: impl Fn(&mut Rows)) -> Plan {
        let mut rows: Rows = loads.iter().map(|(name, _)| (BackendId::new(*name), Row::default())).collect();
        change(&mut rows);
        let mut loads = loads.iter().map(|(name, load)| (BackendId::new(*name), (*load, *load))).collect();
        plan(BackendId::new("a"), kind, &rows, &mut loads, 10.0, 0.1)
    }

    fn to(plan: &Plan) -> Vec<(&str, u64)> {
        plan.to.iter().map(|(name, users)| (name.as_str(), *users)).collect()
    }

    #[test]
    fn an_evict_takes_all_to_where_there_is_most_room() {
        let plan = planned(JobKind::Evict, &[("a", 100), ("b", 0), ("c", 50)], |rows| {
            rows.get_mut(&BackendId::new("a")).unwrap().state = BackendState::Drain;
        });
        assert_eq!((plan.users, plan.sessions, plan.takes.as_secs()), (100, 100, 10));
        assert_eq!(to(&plan), [("b", 75), ("c", 25)]);
    }

    #[test]
    fn a_flush_takes_those_who_would_be_placed_elsewhere_and_a_rebalance_those_beyond_the_share() {
        let weigh = |rows: &mut Rows| rows.get_mut(&BackendId::new("b")).unwrap().weight = Weight::new(300).unwrap();
        let users = planned(JobKind::Flush, &[("a", 50), ("b", 50)], weigh).users;
        assert!((24..=26).contains(&users), "{users}");
        assert_eq!(planned(JobKind::Flush, &[("a", 50), ("b", 50)], |_| ()).users, 0);
        assert_eq!(planned(JobKind::Rebalance, &[("a", 150), ("b", 150), ("c", 0)], |_| ()).users, 40);
    }

    #[test]
    fn nobody_goes_where_nobody_can_go() {
        let plan = planned(JobKind::Evict, &[("a", 100), ("b", 0)], |rows| {
            rows.get_mut(&BackendId::new("b")).unwrap().failing = true;
        });
        assert_eq!((plan.users, plan.to.len()), (0, 0));
    }
}
