//! The heartbeat: one call a second for the whole proxy, however many sessions it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use super::{Shard, Standing, chores};
use crate::config::FleetConfig;
use crate::model::{Clock, Ending};
use crate::store::link::LinkState;
use crate::store::{Beat, Reply, Request};

/// Times of the heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Between two heartbeats.
    beat: Duration,
    /// From the sending of a renewal to the isolation deadline, in milliseconds.
    isolation: u64,
}

impl Pace {
    /// The deadline lies 10 s before the store frees an orphan, or a quarter of the grace if that is less.
    pub(super) fn of(config: &FleetConfig) -> Self {
        let margin = Duration::from_secs(10).min(config.orphan_grace / 4);
        Self {
            beat: config.heartbeat(),
            isolation: (config.lease + config.orphan_grace - margin).as_millis() as u64, // both are bounded by config
        }
    }
}

/// The right to be counted. Past its isolation deadline this proxy must assume that its keys were given to others:
/// nothing more may be relayed, and no claim's answer used.
pub struct Lease {
    deadline: Arc<AtomicU64>,
    clock: Clock,
}

impl Lease {
    pub(super) fn new(clock: Clock) -> Self {
        Self { deadline: Arc::default(), clock }
    }

    /// The isolation deadline, in milliseconds of CLOCK_BOOTTIME; 0 before the first hello. Shared with every relay.
    pub fn deadline(&self) -> &Arc<AtomicU64> {
        &self.deadline
    }

    /// Whether the deadline is ahead.
    pub fn holds(&self) -> bool {
        self.clock.now_ms() < self.deadline.load(Ordering::Relaxed)
    }

    /// A renewal that was sent then has been answered. Whoever renews looks first whether the old deadline has passed:
    /// once it is extended, nobody can tell.
    fn renewed(&self, sent_boottime_ms: u64, pace: Pace) {
        self.deadline.fetch_max(sent_boottime_ms + pace.isolation, Ordering::Relaxed);
    }
}

/// Looks at the deadline, until the link is gone: the heartbeat may be waiting for an answer when it passes.
pub(super) async fn guard(shard: Shard, pace: Pace) {
    let mut ticker = interval(pace.beat);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let state = shard.link.state();
    while state.has_changed().is_ok() {
        ticker.tick().await;
        isolate(&shard);
    }
}

/// Renews until the link is gone.
pub(super) async fn keep(shard: Shard, pace: Pace, news: Arc<watch::Sender<Standing>>) {
    let mut state = shard.link.state();
    let mut ticker = interval(pace.beat);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chores = chores::Chores::new(&shard);
    let mut cursor = "0".to_owned();
    let mut standing = news.subscribe();
    loop {
        tokio::select! {
            biased; // whatever woke us, the same is done: no arm can starve another
            _ = ticker.tick() => {}
            changed = state.changed() => if changed.is_err() { return },
            // Asserted: peers wait for us to say so.
            _ = standing.changed() => {}
            () = shard.reports.due() => {}
        }
        let now = state.borrow_and_update().clone();
        if now.hello_boottime_ms > 0 {
            isolate(&shard);
            shard.lease.renewed(now.hello_boottime_ms, pace);
        }
        if now.welcome.is_some()
            && let Some(beat) = beat(&shard, pace, &now, &news).await
        {
            for kick in &beat.kicks {
                shard.ledger.kick(&kick.key, kick.backend.as_ref(), kick.generation);
            }
            chores.take_on(beat.chores);
            shard.reports.heard(beat.moves, beat.errands);
            super::reassert::audit_page(&shard, &mut cursor).await;
        }
    }
}

/// One heartbeat, and what it says about our standing.
async fn beat(shard: &Shard, pace: Pace, now: &LinkState, news: &watch::Sender<Standing>) -> Option<Beat> {
    let asserted = news.borrow().asserted >= now.assert_owed;
    // Were the recovery window to close before the table is agreed on, we could undo what operators change from then on.
    let given_back = asserted && shard.roster.has_agreed(now);
    let request = Request::Heartbeat(shard.reports.heartbeat(shard.number, given_back, shard.roster.known(now)));
    let answer = shard.link.call_under(now.hellos, request).await.ok()?;
    let Reply::Heartbeat(mut beat) = answer.reply else { return None };
    isolate(shard);
    shard.lease.renewed(answer.sent_boottime_ms, pace);
    let known = shard.roster.agree(shard, now, &mut beat).await;
    if asserted && !given_back && shard.roster.has_agreed(now) {
        shard.reports.beat_soon(); // peers wait for us to say so
    }
    let settled = asserted && beat.recovering_ms == 0 && known;
    news.send_if_modified(|standing| std::mem::replace(&mut standing.settled, settled) != settled);
    Some(beat)
}

/// Closes everything once the deadline has passed.
fn isolate(shard: &Shard) {
    if !shard.lease.holds() {
        let closed = shard.ledger.close_all(Ending::Isolated);
        if closed > 0 {
            error!(sessions = closed, "cut off from the store for longer than lease and grace: all sessions closed");
        }
    }
}
