//! Bulk work at backends: evict, flush, rebalance. Nobody owns it. It stands in the backend table; every proxy looks which of
//! its own keys it concerns, and orders their moves, as many and as fast as the store lets all proxies together. So it goes
//! on whichever proxy dies, and its progress is the sum of what each says it has left. Keys without a session are not
//! touched: they are placed anew when their users come back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::in_force::order;
use super::share::Share;
use super::{Fleet, Rows, Shard};
use crate::config::MovesConfig;
use crate::ledger::Held;
use crate::model::{BackendId, Generation};
use crate::store::{Census, Job, JobKind, Move, Moved, Order, Outcome, Pace, Row, Target};

/// Between two looks at what is to be done.
const ROUND: Duration = Duration::from_secs(1);
/// Attempts at a backend below which failures say nothing.
const ATTEMPTS: u64 = 20;
/// A job is not taken for finished before every proxy can have heard of it, in milliseconds.
const YOUNG: u64 = 3000;

/// Recent logins at a backend, as this proxy saw them: how many were tried and how many of these failed because of the
/// backend. `None` if nothing is known.
pub type Trouble = Arc<dyn Fn(&BackendId) -> Option<(u64, u64)> + Send + Sync>;

/// How bulk work is done.
#[derive(Clone)]
pub struct JobSettings {
    /// How fast, and when it stops; a reload changes it.
    pub moves: Arc<ArcSwap<MovesConfig>>,
    /// How long one user's move may take.
    pub move_timeout: Duration,
    /// A hook is to be run for every move.
    pub hook: bool,
    /// What a move takes at least, once the sessions have ended.
    pub kick_delay: Duration,
    /// How logins fare at the backends.
    pub trouble: Trouble,
}

impl Fleet {
    /// From now on this proxy takes part in bulk work.
    pub fn work(&self, settings: &JobSettings) {
        if self.jobs.set(settings.clone()).is_err() {
            return; // it does already
        }
        for shard in &self.shards {
            shard.tasks.spawn(keep(shard.clone(), settings.clone()));
        }
        self.shards[0].tasks.spawn(oversee(self.shards.clone(), settings.clone()));
    }
}

/// Looks at the table now and then, and at once when it changes.
async fn keep(shard: Shard, settings: JobSettings) {
    let mut news = shard.roster.news();
    let mut ticker = interval(ROUND);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut share = Share::default();
    loop {
        tokio::select! {
            _ = ticker.tick() => {}
            changed = news.changed() => if changed.is_err() { return },
        }
        round(&shard, &settings, &mut share).await;
    }
}

/// A key to be moved.
struct Due {
    backend: BackendId,
    kind: JobKind,
    held: Held,
}

/// Says what is left, and moves what can be moved until the next look is due.
async fn round(shard: &Shard, settings: &JobSettings, share: &mut Share) {
    let table = shard.roster.table();
    let jobs: Vec<_> = table.rows.iter().filter_map(|(name, row)| Some((name, row, row.job.as_ref()?))).collect();
    let census = match jobs.iter().any(|(.., job)| job.kind == JobKind::Rebalance) {
        true => timeout(shard.patience, shard.store.census(shard.number)).await.ok().and_then(Result::ok),
        false => None,
    };
    let tolerance = settings.moves.load().rebalance_tolerance;
    let (mut left, mut due) = (Vec::new(), Vec::new());
    for (name, row, job) in jobs {
        let held = shard.ledger.held_at(name);
        let Some(concerned) = concerned(name, job, held, census.as_ref(), share, tolerance) else { continue };
        left.push((name.clone(), concerned.left));
        if row.active_job().is_some() {
            let keys = concerned.keys.into_iter();
            due.extend(keys.map(|held| Due { backend: name.clone(), kind: job.kind, held }));
        }
    }
    share.retain(|name| left.iter().any(|(job, _)| job == name));
    shard.reports.left(left);
    // Whose move disturbs least goes first: who has few sessions.
    due.sort_by_key(|due| due.held.sessions);
    move_some(shard, settings, due, table.version).await;
}

/// The keys here that a job concerns.
struct Concerned {
    /// Also of those that are on their way.
    left: u32,
    keys: Vec<Held>,
}

/// `None`: not known now.
fn concerned(
    name: &BackendId,
    job: &Job,
    mut held: Vec<Held>,
    census: Option<&Census>,
    share: &mut Share,
    tolerance: f64,
) -> Option<Concerned> {
    match job.kind {
        JobKind::Evict => {}
        JobKind::Flush => held.retain(|held| held.generation < Generation(job.since)),
        JobKind::Rebalance => held = share.beyond(name, job, held, census?, tolerance),
    }
    let left = u32::try_from(held.len()).unwrap_or(u32::MAX);
    held.retain(|held| !held.leaving);
    Some(Concerned { left, keys: held })
}

async fn move_some(shard: &Shard, settings: &JobSettings, due: Vec<Due>, version: u64) {
    let until = Instant::now() + ROUND;
    let mut stuck: BTreeMap<BackendId, u32> = BTreeMap::new();
    for due in due {
        if stuck.contains_key(&due.backend) {
            continue;
        }
        loop {
            // A change of the table may have ended or paused the job.
            if Instant::now() >= until || shard.roster.version() != version {
                return;
            }
            match move_one(shard, settings, &due).await {
                Step::Next => break,
                Step::Stuck => {
                    stuck.insert(due.backend.clone(), due.held.sessions);
                    warn!(backend = %due.backend, "no other backend can take its users");
                    break;
                }
                Step::Later(ms) => sleep_until(until.min(Instant::now() + Duration::from_millis(ms))).await,
                Step::Enough => return,
            }
        }
    }
}

enum Step {
    Next,
    /// Nowhere to go from that backend.
    Stuck,
    /// Not now: in so many milliseconds.
    Later(u64),
    /// The store cannot.
    Enough,
}

async fn move_one(shard: &Shard, settings: &JobSettings, due: &Due) -> Step {
    let moves = settings.moves.load();
    let wish = Move {
        key: due.held.key.clone(),
        seen: Some(due.held.generation),
        to: if due.kind == JobKind::Flush { Target::Anywhere } else { Target::Elsewhere },
        force: false,
        hook: settings.hook,
        timeout: u64::try_from(settings.move_timeout.as_millis()).unwrap_or(u64::MAX),
        pace: Some(Pace { parallel: moves.max_parallel_moves, per_second: moves.move_rate }),
    };
    drop(moves);
    let outcome = match order(shard, Order::Move(wish)).await {
        Ok(ordered) => ordered.outcome,
        Err(error) => {
            debug!(%error, "a move could not be ordered");
            return Step::Enough;
        }
    };
    match outcome {
        Outcome::Move(Moved::Begun { .. } | Moved::Busy | Moved::Unbound) => Step::Next,
        Outcome::Move(Moved::Done { backend, generation }) => {
            // Where it was: it is as if its sessions had been opened now.
            shard.ledger.renew(&due.held.key, &backend, generation);
            Step::Next
        }
        Outcome::Move(Moved::Changed) => {
            look_again(shard, due).await;
            Step::Next
        }
        Outcome::Move(Moved::NoBackend) => Step::Stuck,
        Outcome::Move(Moved::Later(ms)) => Step::Later(ms),
        _ => Step::Enough,
    }
}

/// Somebody has renewed the key's home since its sessions here were opened. Unless it is being moved they belong to the new
/// generation as well.
async fn look_again(shard: &Shard, due: &Due) {
    let view = timeout(shard.patience, shard.store.binding(shard.number, &due.held.key)).await;
    if let Ok(Ok(Some(view))) = view
        && view.moving.is_none()
        && view.backend.as_ref() == Some(&due.backend)
    {
        shard.ledger.renew(&due.held.key, &due.backend, view.generation);
    }
}

/// Takes finished jobs out of the table, and pauses those that do harm. Every proxy does: whoever is late finds it done.
async fn oversee(shards: Vec<Shard>, settings: JobSettings) {
    let Some(first) = shards.first() else { return };
    let mut ticker = interval(ROUND);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        let table = first.roster.table();
        if table.rows.values().all(|row| row.active_job().is_none()) {
            continue;
        }
        let harmful = harmful(&table.rows, &settings);
        let finished = finished(&shards, &table.rows).await;
        if harmful.is_empty() && finished.is_empty() {
            continue;
        }
        // Only of what was looked at: somebody may have resumed what is harmful no more.
        let replace = Order::Table { based_on: table.version, rows: without(&table.rows, &harmful, &finished) };
        match order(first, replace).await.map(|ordered| ordered.outcome) {
            Ok(Outcome::Table(Ok(_))) => {
                first.reports.beat_soon();
                info!(?finished, paused = ?harmful, "bulk work at backends");
            }
            Ok(_) => {} // somebody was faster
            Err(error) => debug!(%error, "the state of bulk work could not be changed"),
        }
    }
}

/// Backends whose work should rest, and why: somewhere that it moves users to, logins fail.
fn harmful(rows: &Rows, settings: &JobSettings) -> BTreeMap<BackendId, String> {
    let bearable = settings.moves.load().max_errors;
    let ill = |name: &BackendId| {
        let (attempts, failures) = (settings.trouble)(name)?;
        let too_many = attempts >= ATTEMPTS && failures as f64 > attempts as f64 * bearable;
        too_many.then(|| format!("{failures} of {attempts} recent logins at {name} failed"))
    };
    let active = rows.iter().filter(|(_, row)| row.active_job().is_some());
    let why = |(name, row): (&BackendId, &Row)| {
        let target = |(other, at): &(&BackendId, &Row)| *other != name && at.pool == row.pool && at.takes_users();
        Some((name.clone(), rows.iter().filter(target).find_map(|(other, _)| ill(other))?))
    };
    active.filter_map(why).collect()
}

/// Backends whose flush or rebalance has nothing left to do at any live proxy, in any shard.
async fn finished(shards: &[Shard], rows: &Rows) -> Vec<BackendId> {
    let ends = |row: &Row| row.active_job().is_some_and(|job| job.kind != JobKind::Evict);
    let own = |name: &BackendId| shards.iter().all(|shard| shard.reports.left_of(name) == Some(0));
    let mut done: Vec<_> =
        rows.iter().filter(|(name, row)| ends(row) && own(name)).map(|(name, _)| name.clone()).collect();
    for shard in shards {
        if done.is_empty() {
            break;
        }
        let census = timeout(shard.patience, shard.store.census(shard.number)).await;
        let Ok(Ok(census)) = census else { return Vec::new() };
        done.retain(|name| nobody_has_any(&census, name));
    }
    done
}

fn nobody_has_any(census: &Census, name: &BackendId) -> bool {
    let job = |view: &&crate::store::BackendView| view.backend == *name && view.row.job.is_some();
    let since = census.backends.iter().find(job).and_then(|view| view.row.job.as_ref()).map(|job| job.since);
    let old = since.is_some_and(|since| census.now >= since.saturating_add(YOUNG));
    let none = |left: &[(BackendId, u32)]| left.iter().any(|(backend, left)| backend == name && *left == 0);
    old && census.proxies.iter().filter(|proxy| !proxy.orphan).all(|proxy| none(&proxy.left))
}

/// `rows` with those jobs ended or paused.
fn without(rows: &Rows, harmful: &BTreeMap<BackendId, String>, finished: &[BackendId]) -> Rows {
    let mut rows = rows.clone();
    for (name, row) in &mut rows {
        if finished.contains(name) {
            row.job = None;
        }
        if let (Some(why), Some(job)) = (harmful.get(name), &mut row.job) {
            (job.paused, job.why) = (true, why.clone());
        }
    }
    rows
}
