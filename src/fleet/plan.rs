//! What bulk work would do, before it is begun.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;

use super::share::allowed;
use super::survey::{self, Survey};
use super::{Change, ChangeFault, Fleet, JobSettings, Rows, Verb};
use crate::model::{BackendId, Pool};
use crate::store::{Census, JobKind, Row};

/// Users of all backends are looked at in so many portions at most, each of which looks at every backend of a pool.
const PORTIONS: u64 = 10_000;
/// Those of one backend in as many at least.
const FEWEST: u64 = 50;

/// What bulk work would do at one backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where.
    pub backend: BackendId,
    /// Users with sessions that would be moved.
    pub users: u64,
    /// Their sessions.
    pub sessions: u64,
    /// Users with sessions at this proxy who would stay, for the passdb has pinned them there. Others may know more.
    pub pinned_here: u64,
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
        let meant = change.meant(&now.rows);
        let mut known: BTreeMap<_, _> = meant.iter().map(|name| (name.clone(), Survey::of(None))).collect();
        for shard in &self.shards {
            survey::look(&shard.ledger, &mut known, |_| false).await;
        }
        let (rate, tolerance) =
            self.jobs.get().map_or((f64::INFINITY, 0.0), |jobs| (rate(jobs), jobs.moves.load().rebalance_tolerance));
        let portions = (PORTIONS / (meant.len() as u64).max(1)).max(FEWEST);
        let mut planner = Planner { kind, rows: &rows, loads, rate, tolerance, portions };
        let mut plans = Vec::new();
        for name in meant {
            let pinned = known.get(&name).map_or(0, |survey| u64::from(survey.pinned));
            plans.push(planner.plan(name, pinned));
            yield_now().await;
        }
        Ok(plans)
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

/// Takes users away, a portion at a time, and places them as claims would. Looks at one backend after the other, each as the ones
/// before would leave it.
struct Planner<'a> {
    kind: JobKind,
    rows: &'a Rows,
    loads: Loads,
    rate: f64,
    tolerance: f64,
    /// Users of one backend are looked at in so many portions at most.
    portions: u64,
}

/// Where users could go.
struct Goal {
    name: BackendId,
    weight: u32,
    load: u64,
    /// Users who would go there.
    come: u64,
}

impl Planner<'_> {
    fn plan(&mut self, name: BackendId, pinned_here: u64) -> Plan {
        let (mut here, all) = self.loads.get(&name).copied().unwrap_or_default();
        let (users, sessions) = (all.saturating_sub(pinned_here), here);
        let mut plan =
            Plan { backend: name.clone(), users: 0, sessions: 0, pinned_here, takes: Duration::ZERO, to: Vec::new() };
        let Some(row) = self.rows.get(&name) else { return plan };
        let per_user = sessions.checked_div(all).unwrap_or(0).max(1);
        let portion = users.div_ceil(self.portions).max(1);
        let mut goals = self.goals(&row.pool);
        let total: u64 = goals.iter().map(|goal| goal.load).sum();
        let weights: u64 = goals.iter().map(|goal| u64::from(goal.weight)).sum();
        let allowed = allowed(total, row.weight, weights, self.tolerance);
        goals.retain(|goal| goal.name != name || self.kind == JobKind::Flush);
        while plan.users < users && (self.kind != JobKind::Rebalance || here > allowed) {
            let cost = |goal: &Goal| (goal.load + 1) as f64 / f64::from(goal.weight);
            let best = goals.iter_mut().min_by(|one, other| cost(one).total_cmp(&cost(other)));
            let Some(to) = best.filter(|to| to.name != name) else { break };
            let some = portion.min(users - plan.users);
            let moved = some * per_user;
            (to.load, to.come) = (to.load + moved, to.come + some);
            here = here.saturating_sub(moved);
            goals.iter_mut().filter(|goal| goal.name == name).for_each(|own| own.load = here);
            (plan.users, plan.sessions) = (plan.users + some, (plan.sessions + moved).min(sessions));
        }
        plan.takes = Duration::try_from_secs_f64(plan.users as f64 / self.rate).unwrap_or(Duration::MAX);
        self.loads.entry(name).or_default().0 = here;
        for goal in goals.into_iter().filter(|goal| goal.come > 0) {
            self.loads.entry(goal.name.clone()).or_default().0 = goal.load;
            plan.to.push((goal.name, goal.come));
        }
        plan
    }

    /// Backends of a pool that take users, by name.
    fn goals(&self, pool: &Pool) -> Vec<Goal> {
        let fit = self.rows.iter().filter(|(_, row)| row.pool == *pool && row.takes_users());
        let goal = |(name, row): (&BackendId, &Row)| Goal {
            name: name.clone(),
            weight: row.weight.get(),
            load: self.loads.get(name).map_or(0, |load| load.0),
            come: 0,
        };
        fit.map(goal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;
    use crate::store::BackendState;

    fn planned(kind: JobKind, loads: &[(&str, u64)], change: impl Fn(&mut Rows)) -> Plan {
        let mut rows: Rows = loads.iter().map(|(name, _)| (BackendId::new(*name), Row::default())).collect();
        change(&mut rows);
        let loads = loads.iter().map(|(name, load)| (BackendId::new(*name), (*load, *load))).collect();
        let mut planner = Planner { kind, rows: &rows, loads, rate: 10.0, tolerance: 0.1, portions: PORTIONS };
        planner.plan(BackendId::new("a"), 0)
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
    fn users_who_are_pinned_are_not_counted_among_those_who_go() {
        let rows: Rows = ["a", "b"].map(|name| (BackendId::new(name), Row::default())).into_iter().collect();
        let loads = [("a", (200, 100)), ("b", (0, 0))].map(|(name, load)| (BackendId::new(name), load));
        let (kind, loads) = (JobKind::Evict, loads.into_iter().collect());
        let mut planner = Planner { kind, rows: &rows, loads, rate: 10.0, tolerance: 0.1, portions: 7 };
        let plan = planner.plan(BackendId::new("a"), 30);
        assert_eq!((plan.users, plan.sessions, plan.pinned_here, to(&plan)), (70, 140, 30, vec![("b", 70)]));
    }

    #[test]
    fn nobody_goes_where_nobody_can_go() {
        let plan = planned(JobKind::Evict, &[("a", 100), ("b", 0)], |rows| {
            rows.get_mut(&BackendId::new("b")).unwrap().failing = true;
        });
        assert_eq!((plan.users, plan.to.len()), (0, 0));
    }
}
