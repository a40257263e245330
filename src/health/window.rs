//! How many of the last logins failed: counts by the second, over a window that slides.

use tokio::time::Instant;

/// Seconds that the window covers, the one under way included.
pub(super) const SECONDS: u64 = 10;

/// What share of attempts failed lately.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorRate {
    /// Failures divided by attempts, 0 to 1.
    pub rate: f64,
    /// Attempts, at least 1: a rate over few of them says little.
    pub attempts: u32,
}

/// Counts of the last seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    began: Instant,
    /// A second's counts are at its number modulo `SECONDS`.
    seconds: [Second; SECONDS as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    attempts: u32,
    failures: u32,
}

impl Window {
    /// Begins to count.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, seconds: Default::default() }
    }

    /// Counts an attempt.
    pub(super) fn count(&mut self, failed: bool, now: Instant) {
        let number = self.second(now);
        let second = &mut self.seconds[(number % SECONDS) as usize]; // less than SECONDS
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second.attempts = second.attempts.saturating_add(1);
        second.failures = second.failures.saturating_add(u32::from(failed));
    }

    /// Attempts and failures within the window.
    pub(super) fn sums(&self, now: Instant) -> (u32, u32) {
        let number = self.second(now);
        let recent = self.seconds.iter().filter(|second| second.number + SECONDS > number);
        recent.fold((0, 0), |(attempts, failures), second| {
            (second.attempts.saturating_add(attempts), second.failures.saturating_add(failures))
        })
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs()
    }
}

impl ErrorRate {
    /// `None` without attempts.
    pub(super) fn of((attempts, failures): (u32, u32)) -> Option<Self> {
        (attempts > 0).then(|| Self { rate: f64::from(failures) / f64::from(attempts), attempts })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut window = Window::new(began);
        window.count(true, at(0));
        window.count(false, at(900));
        window.count(true, at(5000));
        assert_eq!(window.sums(at(9999)), (3, 2));
        assert_eq!(window.sums(at(10_000)), (1, 1));
        window.count(false, at(10_000)); // takes the place of the first second
        assert_eq!(window.sums(at(14_999)), (2, 1));
        assert_eq!(window.sums(at(15_000)), (1, 0));
        assert_eq!(window.sums(at(1_000_000)), (0, 0));
    }

    #[test]
    fn a_rate_needs_attempts() {
        assert_eq!(ErrorRate::of((0, 0)), None);
        assert_eq!(ErrorRate::of((4, 1)), Some(ErrorRate { rate: 0.25, attempts: 4 }));
    }
}
