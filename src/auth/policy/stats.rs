//! What a policy server was asked and told.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Word;

/// Counts since the chain was made.
#[derive(Debug, Default)]
pub(super) struct Counters {
    welcome: AtomicU64,
    delayed: AtomicU64,
    unwelcome: AtomicU64,
    silent: AtomicU64,
    reported: AtomicU64,
    lost: AtomicU64,
}

/// How a policy server fares, since the last start or reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStats {
    /// Where it is.
    pub server: String,
    /// Questions to which it said yes.
    pub welcome: u64,
    /// Questions to which it ordered a delay.
    pub delayed: u64,
    /// Questions to which it said no.
    pub unwelcome: u64,
    /// Questions without an answer, or that were not asked because it failed too often shortly before.
    pub unavailable: u64,
    /// Reports that it took.
    pub reported: u64,
    /// Reports that it did not take.
    pub lost: u64,
    /// It is left alone at the moment.
    pub paused: bool,
}

impl Counters {
    /// A question was answered, or not.
    pub(super) fn note(&self, word: Option<&Word>) {
        let counter = match word {
            Some(Word::Welcome) => &self.welcome,
            Some(Word::Later(_)) => &self.delayed,
            Some(Word::Unwelcome(_)) => &self.unwelcome,
            None => &self.silent,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A report was taken, or not.
    pub(super) fn note_report(&self, taken: bool) {
        let counter = if taken { &self.reported } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, server: String, paused: bool) -> PolicyStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PolicyStats {
            server,
            welcome: load(&self.welcome),
            delayed: load(&self.delayed),
            unwelcome: load(&self.unwelcome),
            unavailable: load(&self.silent),
            reported: load(&self.reported),
            lost: load(&self.lost),
            paused,
        }
    }
}
