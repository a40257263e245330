//! Bulk work at backends: evict, flush, rebalance. Nobody owns it. It stands in the backend table; every proxy looks which of
//! its own keys it concerns, and orders their moves, as many and as fast as the store lets all proxies together. So it goes
//! on whichever proxy dies, and its progress is the sum of what each says it has left. Keys without a session are not
//! touched: they are placed anew when their users come back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::in_force::order;
use super::share::Share;
use super::survey::{self, Due, Survey};
use super::{Fleet, Rows, Shard};
use crate::config::MovesConfig;
use crate::model::{BackendId, Generation, Key};
use crate::store::{Census, Job, JobKind, Left, Move, Moved, Order, Outcome, Pace, Row, Target};

/// Between two looks at what is to be done.
const ROUND: Duration = Duration::from_secs(1);
/// Attempts at a backend below which failures say nothing.
const ATTEMPTS: u64 = 20;
/// A job is not taken for finished before every proxy can have heard of it, in milliseconds.
const YOUNG: u64 = 3000;
/// How long a key that an operator has pinned is spared before the store is asked again.
const SPARED: Duration = Duration::from_secs(60);

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
    let mut memory = Memory::default();
    loop {
        tokio::select! {
            _ = ticker.tick() => {}
            changed = news.changed() => if changed.is_err() { return },
        }
        round(&shard, &settings, &mut memory).await;
    }
}

/// What is remembered between two looks.
#[derive(Default)]
struct Memory {
    share: Share,
    /// Keys that the store would not move, for an operator has pinned them there; until when that is believed.
    spared: HashMap<Key, Instant>,
}

/// Work at one backend: what kind, and the keys to be moved there.
struct Task {
    backend: BackendId,
    kind: JobKind,
    due: Due,
}

/// Says what is left, and moves what can be moved until the next look is due.
async fn round(shard: &Shard, settings: &JobSettings, memory: &mut Memory) {
    let table = shard.roster.table();
    let jobs: BTreeMap<_, _> =
        table.rows.iter().filter_map(|(name, row)| Some((name, (row, row.job.as_ref()?)))).collect();
    if jobs.is_empty() {
        *memory = Memory::default();
        shard.reports.left(Vec::new());
        return;
    }
    let census = match jobs.values().any(|(_, job)| job.kind == JobKind::Rebalance) {
        true => timeout(shard.patience, shard.store.census(shard.number)).await.ok().and_then(Result::ok),
        false => None,
    };
    memory.spared.retain(|_, until| *until > Instant::now());
    let before = |job: &Job| (job.kind == JobKind::Flush).then_some(Generation(job.since));
    let mut surveys = jobs.iter().map(|(name, (_, job))| ((*name).clone(), Survey::of(before(job)))).collect();
    survey::look(&shard.ledger, &mut surveys, |key| memory.spared.contains_key(key)).await;
    let tolerance = settings.moves.load().rebalance_tolerance;
    let (mut left, mut tasks) = (Vec::new(), Vec::new());
    for (name, mut survey) in surveys {
        let Some((row, job)) = jobs.get(&name) else { continue };
        if job.kind == JobKind::Rebalance {
            let Some(census) = &census else { continue }; // not known now
            survey.limit(memory.share.quota(&name, job, survey.sessions, census, tolerance));
        }
        left.push(Left { backend: name.clone(), keys: survey.left(), pinned: survey.pinned });
        if row.active_job().is_some() {
            let task = |due| Task { backend: name.clone(), kind: job.kind, due };
            tasks.extend(survey.next().into_iter().map(task));
        }
    }
    memory.share.retain(|name| left.iter().any(|left| left.backend == *name));
    shard.reports.left(left);
    // Whose move disturbs least goes first: who has few sessions.
    tasks.sort_by_key(|task| task.due.sessions);
    move_some(shard, settings, tasks, table.version, &mut memory.spared).await;
}

async fn move_some(
    shard: &Shard,
    settings: &JobSettings,
    tasks: Vec<Task>,
    version: u64,
    spared: &mut HashMap<Key, Instant>,
) {
    let until = Instant::now() + ROUND;
    let mut stuck: BTreeSet<BackendId> = BTreeSet::new();
    for task in tasks {
        if stuck.contains(&task.backend) {
            continue;
        }
        loop {
            // A change of the table may have ended or paused the job.
            if Instant::now() >= until || shard.roster.version() != version {
                return;
            }
            match move_one(shard, settings, &task).await {
                Step::Next => break,
                Step::Pinned => {
                    spared.insert(task.due.key, Instant::now() + SPARED);
                    break;
                }
                Step::Stuck => {
                    stuck.insert(task.backend.clone());
                    warn!(backend = %task.backend, "no other backend can take its users");
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
    /// An operator has pinned it where it is.
    Pinned,
    /// Nowhere to go from that backend.
    Stuck,
    /// Not now: in so many milliseconds.
    Later(u64),
    /// The store cannot.
    Enough,
}

async fn move_one(shard: &Shard, settings: &JobSettings, task: &Task) -> Step {
    let Task { backend: home, kind, due } = task;
    let moves = settings.moves.load();
    let wish = Move {
        key: due.key.clone(),
        seen: Some(due.generation),
        to: if *kind == JobKind::Flush { Target::Anywhere } else { Target::Elsewhere },
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
            shard.ledger.renew(&due.key, &backend, generation);
            // Whoever is to go elsewhere and stays is pinned.
            if *kind != JobKind::Flush && backend == *home { Step::Pinned } else { Step::Next }
        }
        Outcome::Move(Moved::Changed) => {
            look_again(shard, task).await;
            Step::Next
        }
        Outcome::Move(Moved::NoBackend) => Step::Stuck,
        Outcome::Move(Moved::Later(ms)) => Step::Later(ms),
        _ => Step::Enough,
    }
}

/// Somebody has renewed the key's home since its sessions here were opened. Unless it is being moved they belong to the new
/// generation as well.
async fn look_again(shard: &Shard, task: &Task) {
    let key = &task.due.key;
    let view = timeout(shard.patience, shard.store.binding(shard.number, key)).await;
    if let Ok(Ok(Some(view))) = view
        && view.moving.is_none()
        && view.backend.as_ref() == Some(&task.backend)
    {
        shard.ledger.renew(key, &task.backend, view.generation);
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
    let none = |left: &[Left]| left.iter().any(|left| left.backend == *name && left.keys == 0);
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
