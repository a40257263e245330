//! What operators do, over any proxy's way to the store: orders are lost and late like calls, and nobody gives one
//! twice that may have been carried out.

use std::time::Duration;

use homing::fleet::{Change, Rows, Verb};
use homing::model::Key;
use homing::store::{BackendState, JobKind, Mark, MarkChange, Move, Order, Outcome, Row, Target};
use tokio::time::sleep;

use super::site::Site;

/// How often a store that is recovering is asked.
const TRIES: usize = 3;

/// Gives a shard an order through a proxy, with whatever befalls that.
fn order(site: &Site, shard: u16, order: Order) {
    let Some(proxy) = site.any_proxy() else { return };
    site.world.executor.spawn(proxy.owner, async move {
        for _ in 0..TRIES {
            let Ok(ordered) = proxy.fleet.store().order(shard, &order).await else { return };
            let Outcome::Recovering(ms) = ordered.outcome else { return };
            sleep(Duration::from_millis(ms)).await;
        }
    });
}

/// A move, or a kick.
pub fn moves(site: &Site) {
    let dice = &site.world.dice;
    let to = match dice.below(10) {
        0..4 => Target::Backend(site.any_backend()),
        4..6 => Target::Elsewhere,
        6..8 => Target::Anywhere,
        _ => Target::Stay,
    };
    let (key, force, hook) = (site.any_key(), dice.percent(6), dice.percent(25));
    let timeout = dice.between(1_000, 8_000);
    order(site, site.world.shard_of(&key), Order::Move(Move { key, seen: None, to, force, hook, timeout, pace: None }));
}

/// A pin or a hold, or the end of one.
pub fn marks(site: &Site) {
    let dice = &site.world.dice;
    let change = match dice.below(10) {
        0..3 => MarkChange::Pin(site.any_backend()),
        3..5 => MarkChange::Unpin,
        5..8 => MarkChange::Hold(dice.between(200, 4_000)),
        _ => MarkChange::Release,
    };
    let key = site.any_key();
    order(site, site.world.shard_of(&key), Order::Mark(Mark { key, change }));
}

/// A backend is drained, taken down, removed or brought back: by an order, or because a file has changed.
pub fn changes_table(site: &Site) {
    let (dice, backend) = (&site.world.dice, site.any_backend());
    if dice.percent(40) {
        let Some(proxy) = site.any_proxy() else { return };
        let (all, roster) = (site.rows(), proxy.fleet.shards()[0].roster.clone());
        let mut fewer = all.clone();
        fewer.remove(&backend);
        site.world.tell(|| format!("p{}'s file has {backend} no more", proxy.owner));
        roster.change(&all, fewer.clone());
        let (again, world) = (dice.span(200, 6_000), site.world.clone());
        site.world.executor.spawn(proxy.owner, async move {
            sleep(again).await;
            world.tell(|| format!("p{}'s file has all backends", proxy.owner));
            roster.change(&fewer, all);
        });
        return;
    }
    let states = [BackendState::Drain, BackendState::Down, BackendState::Removed, BackendState::Up];
    let Some(state) = dice.pick(&states).copied() else { return };
    let (version, mut rows) = table(site);
    if let Some(row) = rows.get_mut(&backend) {
        (row.state, row.state_set) = (state, true);
        if dice.percent(20) {
            row.max_sessions = dice.between(1, 4) as u32;
        }
        order(site, 0, Order::Table { based_on: version, rows });
    }
}

/// Bulk work begins, rests, goes on or ends: as an operator has it done, who waits for word of every proxy.
pub fn bulk_work(site: &Site) {
    let (dice, Some(proxy)) = (&site.world.dice, site.any_proxy()) else { return };
    let (verb, all) = match dice.below(10) {
        0..2 => (Verb::Begin(JobKind::Evict), false),
        2..5 => (Verb::Begin(JobKind::Flush), dice.percent(50)),
        5..7 => (Verb::Begin(JobKind::Rebalance), dice.percent(50)),
        7 => (Verb::Pause, true),
        8 => (Verb::Resume, true),
        _ => (Verb::Abort, true),
    };
    let change = Change { backends: if all { Vec::new() } else { vec![site.any_backend()] }, verb };
    let world = site.world.clone();
    site.world.executor.spawn(proxy.owner, async move {
        let done = proxy.fleet.change(&change).await;
        world.tell(|| format!("p{} {change:?}: {done:?}", proxy.owner));
    });
}

fn table(site: &Site) -> (u64, Rows) {
    let census = site.world.server.census(0);
    (census.table_version, census.backends.into_iter().map(|view| (view.backend, view.row)).collect())
}

/// Takes everything back: no key is pinned or held, and every backend is up.
pub async fn restores_all(site: &Site) {
    // Late orders come first, and a store that has forgotten the table gets it.
    sleep(Duration::from_secs(3)).await;
    for key in site.keys.iter() {
        unmark(site, key);
    }
    for _ in 0..100 {
        let (version, mut rows) = table(site);
        let plain = |row: &Row| row.takes_users() && row.max_sessions == 0 && row.job.is_none();
        if version > 0 && site.backends.iter().all(|backend| rows.get(backend).is_some_and(plain)) {
            return;
        }
        for backend in site.backends.iter() {
            let row = rows.entry(backend.clone()).or_default();
            (row.state, row.state_set, row.max_sessions, row.job) = (BackendState::Up, false, 0, None);
        }
        if version > 0 {
            let outcome = site.world.server.order(&site.world, 0, &Order::Table { based_on: version, rows });
            site.world.tell(|| format!("all backends are up: {}", matches!(outcome, Outcome::Table(Ok(_)))));
        }
        sleep(Duration::from_millis(500)).await;
    }
    site.world.fail("liveness: the backends cannot be brought back");
}

fn unmark(site: &Site, key: &Key) {
    for change in [MarkChange::Unpin, MarkChange::Release] {
        let shard = site.world.shard_of(key);
        site.world.server.order(&site.world, shard, &Order::Mark(Mark { key: key.clone(), change }));
    }
}
