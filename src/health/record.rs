//! What is known of one service of one backend, and the opinion that follows.

use std::time::Duration;

use tokio::time::Instant;

use super::logins::{Bounds, Logins};
use super::rise_fall::{RiseFall, Verdict};
use super::window::Window;
use super::{LastFailure, Opinion, Traffic};
use crate::backend::{ConnectError, Outcome};
use crate::config::HealthConfig;
use crate::model::{BackendId, Protocol};

/// Users of whom one row of failed logins consists, at least and at most.
const USERS: (u32, u32) = (3, 32);
/// Characters of a failure that are kept: servers may say much.
const WORDS: usize = 300;

/// The record of one service.
pub(super) struct Record {
    probes: RiseFall,
    logins: Logins,
    verdict: Verdict,
    since: Instant,
    last_failure: Option<(String, Instant)>,
    /// When the last probe began whose end is known.
    looked: Option<Instant>,
    last_probe: Option<Duration>,
    /// The last probe was to log in, and was refused.
    probe_refused: bool,
    traffic: Traffic,
    window: Window,
}

/// How a probe ended.
pub(super) struct Probed {
    /// The time until all was seen, or why it was not.
    pub(super) outcome: Result<Duration, ConnectError>,
    /// It was to log in.
    pub(super) logged_in: bool,
    /// When it began.
    pub(super) began: Instant,
}

impl Record {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            probes: RiseFall::new(),
            logins: Logins::default(),
            verdict: Verdict::Fit,
            since: now,
            last_failure: None,
            looked: None,
            last_probe: None,
            probe_refused: false,
            traffic: Traffic::default(),
            window: Window::new(now),
        }
    }

    /// Takes what a probe has found. True if the backend has begun to refuse the probes' login.
    ///
    /// A server that greets and refuses that login has looked well: a password that was changed in one place alone is the
    /// same at all servers, and would make the fleet give up as many of them as it may.
    pub(super) fn probed(&mut self, probed: Probed, config: &HealthConfig, now: Instant) -> bool {
        let refused = matches!(&probed.outcome, Err(ConnectError::Refused { words, .. }) if !words.temporary);
        let begins = !std::mem::replace(&mut self.probe_refused, refused) && refused;
        self.looked = Some(probed.began);
        match probed.outcome {
            Ok(took) => {
                self.looked_well(took, config, now);
                if probed.logged_in {
                    self.logins.went_well(bounds(config));
                }
            }
            Err(error) if refused => {
                self.looked_well(now.saturating_duration_since(probed.began), config, now);
                self.failed(&error, now);
            }
            Err(error) => {
                // What this proxy lacks says nothing about the backend, but operators should see why nothing is known.
                if !error.is_ours() {
                    self.probes.bad(now, config.fall);
                }
                self.failed(&error, now);
            }
        }
        begins
    }

    /// All that a look shows went well.
    fn looked_well(&mut self, took: Duration, config: &HealthConfig, now: Instant) {
        self.last_probe = Some(took);
        self.probes.good(now, config.rise);
        self.logins.looked_well(now);
    }

    /// Takes how an attempt of the user with this hash went. True if a probe should look at once.
    ///
    /// A failure on the way to the login only brings the next probe forward: a server that restarts fails a hundred
    /// logins in one instant, and probes would see it as well. Behind the login the users' word counts, see [`Logins`].
    /// A refusal, for good or for now, is an answer: what the server says of a user or of its load is no reason to take all
    /// its users from it.
    pub(super) fn attempted(&mut self, user: u64, outcome: Outcome<'_>, config: &HealthConfig, now: Instant) -> bool {
        match outcome {
            Outcome::LoggedIn => {
                self.traffic.logins += 1;
                self.window.count(false, now);
                self.logins.went_well(bounds(config));
                self.served(config, now);
                false
            }
            Outcome::Refused => {
                self.traffic.refused += 1;
                false
            }
            Outcome::Postponed => {
                self.traffic.postponed += 1;
                self.window.count(true, now);
                false
            }
            Outcome::Failed { error, login_sent } => {
                self.traffic.failures += 1;
                self.window.count(true, now);
                self.failed(error, now);
                if login_sent {
                    self.logins.failed(user, now, bounds(config));
                }
                true
            }
        }
    }

    /// A user got in. That proves more than a probe, and ends a doubt at once; but a hundred in one instant are no longer
    /// row than one, so for a failing server they count no faster than probes.
    fn served(&mut self, config: &HealthConfig, now: Instant) {
        let due = |last: Instant| now.duration_since(last) >= config.fast_interval;
        if self.probes.verdict() == Verdict::Fit && self.probes.is_in_doubt()
            || self.probes.verdict() == Verdict::Failing && self.probes.counted().is_none_or(due)
        {
            self.probes.good(now, config.rise);
        }
    }

    fn failed(&mut self, error: &ConnectError, now: Instant) {
        self.last_failure = Some((words(error), now));
    }

    /// Forms the opinion anew; true if it has changed.
    pub(super) fn judge(&mut self, now: Instant) -> bool {
        let failing = self.probes.verdict() == Verdict::Failing || self.logins.are_failing();
        let verdict = if failing { Verdict::Failing } else { Verdict::Fit };
        let changed = std::mem::replace(&mut self.verdict, verdict) != verdict;
        if changed {
            self.since = now;
        }
        changed
    }

    /// The opinion.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Since when.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether a probe has looked at it, from begin to end, since then.
    pub(super) fn was_looked_at_since(&self, then: Instant) -> bool {
        self.looked >= Some(then)
    }

    /// What the last observation speaks for.
    pub(super) fn leaning(&self) -> Verdict {
        if self.probes.row().1 > 0 { Verdict::Failing } else { Verdict::Fit }
    }

    /// Whether the next probe should come soon.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.probes.is_in_doubt()
    }

    /// What failed last, in words.
    pub(super) fn last_words(&self) -> &str {
        self.last_failure.as_ref().map_or("", |(words, _)| words)
    }

    /// Attempts and failures lately.
    pub(super) fn recent(&self, now: Instant) -> (u32, u32) {
        self.window.sums(now)
    }

    /// All of it, for operators.
    pub(super) fn opinion(&self, backend: &BackendId, service: Protocol, probed: bool, now: Instant) -> Opinion {
        let (good, bad) = self.probes.row();
        let ago = |at: Instant| now.saturating_duration_since(at);
        Opinion {
            backend: backend.clone(),
            service,
            probed,
            verdict: self.verdict,
            lasting: ago(self.since),
            good,
            bad,
            logins_failing: self.logins.are_failing(),
            last_failure: self
                .last_failure
                .as_ref()
                .map(|(words, at)| LastFailure { words: words.clone(), ago: ago(*at) }),
            last_probe: self.last_probe,
            traffic: self.traffic,
            error_rate: super::ErrorRate::of(self.recent(now)),
        }
    }
}

fn bounds(config: &HealthConfig) -> Bounds {
    let users = config.fall.clamp(USERS.0, USERS.1) as usize; // at most 32
    Bounds { users, span: config.interval, rise: config.rise }
}

/// A failure in one bounded line. What the server said is the server's: it may hold anything.
fn words(error: &ConnectError) -> String {
    let mut line = match error {
        ConnectError::Refused { words, .. } => format!("{}: {}", error, words.text.escape_ascii()),
        _ => error.in_full(),
    };
    if let Some((end, _)) = line.char_indices().nth(WORDS) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}
