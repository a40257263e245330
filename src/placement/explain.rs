//! Why a user is where they are, and where a login would go now. The store decides; this repeats its reasons (its
//! `claim` and `place`) over what it shows, and a test holds the two together.

use super::moves::{Moves, Refused};
use super::people::{People, Who};
use crate::fleet::NoOrder;
use crate::model::{BackendId, Key, Pool};
use crate::store::{BackendState, BackendView, BindingView, Census, Holder, JobKind, Row, Rules};

/// All that is known of one user's home.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The shard that the key is in.
    pub shard: u16,
    /// The binding; empty if there is none.
    pub binding: BindingView,
    /// When the binding's generation began: milliseconds ago.
    pub age_ms: u64,
    /// Who has sessions.
    pub holders: Vec<Who>,
    /// The store's clock, by which former homes are dated.
    pub now: u64,
    /// What a login would meet with.
    pub next: Next,
    /// The backends that a login could be placed at, the best first.
    pub candidates: Vec<Candidate>,
}

/// What a login would meet with now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A home, and why there.
    Goes(BackendId, &'static str),
    /// It waits, for this.
    Waits(String),
    /// It gets a temporary failure, because of this.
    Fails(String),
}

/// A backend that may take the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub backend: BackendId,
    /// Sessions there.
    pub load: u32,
    /// Users with sessions there.
    pub users: u32,
    /// Its share: weight times percent of the slow start.
    pub share: u64,
    /// Lowest first among the equally loaded.
    turn: u64,
}

impl Candidate {
    /// Sessions for each hundredth of weight: the lowest is chosen.
    pub fn load_per_share(&self) -> f64 {
        f64::from(self.load) * 10_000.0 / self.share as f64 // a share is at least 1
    }
}

impl Moves {
    /// Explains one user. `pool`: the one that the passdb would name; `None` for the present home's, or the default.
    pub async fn explain(&self, key: &Key, pool: Option<&Pool>) -> Result<Explanation, Refused> {
        let (binding, rules) = (self.binding(key).await?, &self.rules);
        let shard = self.shard(key);
        let census = super::in_time(self.fleet.store().census(shard)).await.map_err(NoOrder::Store)?;
        let holder = |(incarnation, sessions): &(_, u32)| Holder {
            incarnation: Clone::clone(incarnation),
            sessions: *sessions,
            orphan: None,
        };
        let holders: Vec<Holder> = binding.holders.iter().map(holder).collect();
        let home = binding.backend.as_ref().and_then(|home| row(&census, home));
        let pool = pool.cloned().or_else(|| home.map(|home| home.row.pool.clone())).unwrap_or_default();
        let candidates = candidates(&census, &pool, rules);
        let now = census.now;
        let holders = People::of(census.clone()).holders(&holders);
        let next = Judge {
            binding: &binding,
            census: &census,
            pool: &pool,
            candidates: &candidates,
            holders: &holders,
            rules,
        };
        let next = next.judge();
        let age_ms = if binding.backend.is_some() { now.saturating_sub(binding.generation.0) } else { 0 };
        Ok(Explanation { shard, binding, age_ms, holders, now, next, candidates })
    }
}

fn row<'a>(census: &'a Census, backend: &BackendId) -> Option<&'a BackendView> {
    census.backends.iter().find(|view| view.backend == *backend)
}

/// Those of a pool that take users, the best first.
fn candidates(census: &Census, pool: &Pool, rules: &Rules) -> Vec<Candidate> {
    let fits = |view: &&BackendView| view.row.pool == *pool && view.row.takes_users() && has_room(view);
    let candidate = |view: &BackendView| {
        let share = share(&view.row, census.now, rules.slow_start);
        let turn = (u64::from(view.placed) + 1) * 1_000_000 / share;
        Candidate { backend: view.backend.clone(), load: view.sessions, users: view.users, share, turn }
    };
    let mut all: Vec<Candidate> = census.backends.iter().filter(fits).map(candidate).collect();
    all.sort_by(|one, other| {
        let (mine, theirs) = (one.load_per_share(), other.load_per_share());
        mine.total_cmp(&theirs).then(one.turn.cmp(&other.turn)).then(one.backend.cmp(&other.backend))
    });
    all
}

fn has_room(view: &BackendView) -> bool {
    view.row.max_sessions == 0 || view.sessions < view.row.max_sessions
}

/// Weight times percent: it grows linearly from 1 % to 100 % while `slow_start` runs.
fn share(row: &Row, now: u64, slow_start: u64) -> u64 {
    let age = now.saturating_sub(row.since);
    let percent = if row.since == 0 || age >= slow_start { 100 } else { (age * 100 / slow_start).max(1) };
    u64::from(row.weight.get()) * percent
}

/// What the store would look at.
struct Judge<'a> {
    binding: &'a BindingView,
    census: &'a Census,
    pool: &'a Pool,
    candidates: &'a [Candidate],
    holders: &'a [Who],
    rules: &'a Rules,
}

impl Judge<'_> {
    /// In the order of the store's claim.
    fn judge(&self) -> Next {
        let binding = self.binding;
        if let Some(ms) = self.census.recovering_ms {
            return Next::Waits(format!("the store is recovering what it lost, for at least {ms} ms more"));
        }
        match binding.hold_ms {
            Some(0) => return Next::Waits("an operator holds the user".to_owned()),
            Some(ms) => return Next::Waits(format!("an operator holds the user, for {} s more", ms.div_ceil(1000))),
            None => {}
        }
        if let Some(lock) = &binding.lock {
            let seconds = lock.left_ms.div_ceil(1000);
            return Next::Waits(format!("the user is being migrated; should that break off, for {seconds} s more"));
        }
        if self.census.table_version == 0 {
            return Next::Fails("no proxy has brought the backend table to the store yet".to_owned());
        }
        let Some(home) = &binding.backend else { return self.anew(None, self.rules.balance_factor) };
        if let Some(moving) = &binding.moving {
            return Next::Waits(format!(
                "the user is being moved {}, for at most {} s more",
                moving.to,
                moving.left_ms.div_ceil(1000)
            ));
        }
        let Some(row) = row(self.census, home).filter(|view| view.row.usable()) else {
            return self.leave_the_dead(home);
        };
        if binding.sessions > 0 { enter(row, "the user has sessions there") } else { self.come_back(home, row) }
    }

    fn leave_the_dead(&self, home: &BackendId) -> Next {
        let closing = |who: &&Who| self.rules.strict || who.orphan_ms.is_none();
        match self.holders.iter().find(closing) {
            Some(who) => Next::Waits(format!(
                "{} has yet to close {} sessions at {home}, which may not have users any more",
                who.name.as_deref().unwrap_or(who.incarnation.as_str()),
                who.sessions
            )),
            None => self.anew(None, self.rules.balance_factor),
        }
    }

    /// Nobody has sessions, but the home is remembered.
    fn come_back(&self, home: &BackendId, view: &BackendView) -> Next {
        if let Some(pin) = &self.binding.pin {
            return if pin == home { enter(view, "it is pinned there") } else { self.anew(None, 0.0) };
        }
        match view.row.active_job().map(|job| (job.kind, job.since)) {
            Some((JobKind::Flush, since)) if self.binding.generation.0 < since => {
                return self.anew(None, self.rules.balance_factor);
            }
            Some((JobKind::Rebalance, _)) => return self.anew(Some(home), 1.0),
            _ => {}
        }
        let fits = view.row.state == BackendState::Up && view.row.pool == *self.pool;
        if fits && self.binding.idle_ms.is_none_or(|idle| idle < self.rules.user_expire) {
            return enter(view, "the user was there not longer than fleet.user_expire ago");
        }
        self.anew(Some(home), self.rules.balance_factor)
    }

    /// The store would place the user.
    fn anew(&self, remembered: Option<&BackendId>, factor: f64) -> Next {
        if let Some(pin) = &self.binding.pin {
            return match row(self.census, pin).filter(|view| view.row.usable()) {
                Some(_) => Next::Goes(pin.clone(), "it is pinned there"),
                None => Next::Fails(format!("the user is pinned to {pin}, which is down or gone")),
            };
        }
        if let Some(home) = self.candidates.iter().find(|candidate| Some(&candidate.backend) == remembered) {
            let sums = self.candidates.iter().fold((0, 0), |(l, s), c| (l + u64::from(c.load), s + c.share));
            let fair = factor * ((sums.0 + 1) * home.share) as f64;
            if ((u64::from(home.load) * sums.1) as f64) < fair {
                return Next::Goes(home.backend.clone(), "it is the remembered home, and not overloaded");
            }
        }
        match self.candidates.first() {
            Some(best) => Next::Goes(best.backend.clone(), "it has the lowest load for its weight"),
            None => Next::Fails(format!("no backend of the pool {} takes users", self.pool)),
        }
    }
}

fn enter(view: &BackendView, why: &'static str) -> Next {
    if has_room(view) {
        return Next::Goes(view.backend.clone(), why);
    }
    Next::Fails(format!("{} has as many sessions as it may ({})", view.backend, view.row.max_sessions))
}
