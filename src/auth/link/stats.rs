//! What became of the questions to one source.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram's cells in microseconds; a last cell has what took longer.
pub const LATENCY_BOUNDS: [u64; 7] = [250, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000];

/// What became of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Granted,
    Denied,
    Unknown,
    Unavailable,
    TimedOut,
    Refused,
}

/// Counts since the chain was made. Read one by one while others write: the sums may differ by a few.
#[derive(Default)]
pub(super) struct Counters {
    outcomes: [AtomicU64; 6],
    micros: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS.len() + 1],
}

/// How one source fares, since the last start or reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStats {
    /// Kind and place.
    pub source: String,
    /// It is asked about master users.
    pub master: bool,
    /// Questions, refused ones included.
    pub asked: u64,
    /// Let in, or found.
    pub granted: u64,
    /// Known, and turned away.
    pub denied: u64,
    /// Not known here.
    pub unknown: u64,
    /// It answered that it could not, or with nonsense.
    pub unavailable: u64,
    /// No turn or no answer in time.
    pub timed_out: u64,
    /// Not asked, because it failed too often shortly before.
    pub refused: u64,
    /// It is left alone at the moment.
    pub paused: bool,
    /// Time of all that were asked, in microseconds; the computation of hashes counts.
    pub micros: u64,
    /// How many took up to [`LATENCY_BOUNDS`] each, and how many longer.
    pub latency: [u64; LATENCY_BOUNDS.len() + 1],
}

impl Counters {
    pub(super) fn note(&self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if outcome == Outcome::Refused {
            return;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let cell = LATENCY_BOUNDS.partition_point(|bound| *bound < micros);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.latency[cell].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, source: String, master: bool, paused: bool) -> SourceStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let outcomes = self.outcomes.each_ref().map(load);
        let count = |outcome: Outcome| outcomes[outcome as usize];
        SourceStats {
            source,
            master,
            asked: outcomes.iter().sum(),
            granted: count(Outcome::Granted),
            denied: count(Outcome::Denied),
            unknown: count(Outcome::Unknown),
            unavailable: count(Outcome::Unavailable),
            timed_out: count(Outcome::TimedOut),
            refused: count(Outcome::Refused),
            paused,
            micros: load(&self.micros),
            latency: self.latency.each_ref().map(load),
        }
    }
}
