//! One verdict from a row of observations: so many bad ones in a row make what was fit failing, so many good ones the
//! other way round. Knows no clock; the caller says what time it is.

use tokio::time::Instant;

/// Whether something is fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Users can be served. Also what has not been looked at yet is held to be so.
    Fit,
    /// They cannot.
    Failing,
}

impl Verdict {
    /// The fixed word of logs, metrics and the admin API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fit => "ok",
            Self::Failing => "failing",
        }
    }
}

/// A verdict, and what may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RiseFall {
    verdict: Verdict,
    good: u32,
    bad: u32,
    /// When an observation last counted.
    counted: Option<Instant>,
}

impl RiseFall {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self { verdict: Verdict::Fit, good: 0, bad: 0, counted: None }
    }

    /// All was well.
    pub(super) fn good(&mut self, now: Instant, rise: u32) {
        (self.good, self.bad, self.counted) = (self.good.saturating_add(1), 0, Some(now));
        if self.good >= rise {
            self.verdict = Verdict::Fit;
        }
    }

    /// Something was not.
    pub(super) fn bad(&mut self, now: Instant, fall: u32) {
        (self.good, self.bad, self.counted) = (0, self.bad.saturating_add(1), Some(now));
        if self.bad >= fall {
            self.verdict = Verdict::Failing;
        }
    }

    /// The last observation speaks against the verdict: it may be about to change.
    pub(super) fn is_in_doubt(&self) -> bool {
        match self.verdict {
            Verdict::Fit => self.bad > 0,
            Verdict::Failing => self.good > 0,
        }
    }

    /// The verdict.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Good observations since the last bad one, and the other way round; one of them is 0.
    pub(super) fn row(&self) -> (u32, u32) {
        (self.good, self.bad)
    }

    /// When an observation last counted.
    pub(super) fn counted(&self) -> Option<Instant> {
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict after each letter: `g`ood or `b`ad, with rise 2 and fall 3. Failing is `F`.
    fn verdicts(row: &str) -> String {
        let mut judge = RiseFall::new();
        let now = Instant::now();
        row.chars()
            .map(|letter| {
                if letter == 'g' {
                    judge.good(now, 2)
                } else {
                    judge.bad(now, 3)
                }
                if judge.verdict() == Verdict::Failing { 'F' } else { '-' }
            })
            .collect()
    }

    #[test]
    fn only_bad_ones_in_a_row_make_it_failing_and_only_good_ones_in_a_row_fit() {
        assert_eq!(verdicts("bbgbbgbbb"), "--------F");
        assert_eq!(verdicts("bbbgbgbgg"), "--FFFFFF-");
        assert_eq!(verdicts("gggggbbb"), "-------F");
    }

    #[test]
    fn it_is_in_doubt_while_the_last_observation_speaks_against_the_verdict() {
        let (mut judge, now) = (RiseFall::new(), Instant::now());
        assert!(!judge.is_in_doubt());
        judge.bad(now, 2);
        assert!(judge.is_in_doubt());
        judge.bad(now, 2);
        assert!(!judge.is_in_doubt(), "it is certain now");
        judge.good(now, 2);
        assert!(judge.is_in_doubt());
        judge.good(now, 2);
        assert!(!judge.is_in_doubt());
    }

    #[test]
    fn with_a_lower_bound_the_next_observation_decides() {
        let (mut judge, now) = (RiseFall::new(), Instant::now());
        judge.bad(now, 5);
        judge.bad(now, 2);
        assert_eq!(judge.verdict(), Verdict::Failing);
    }
}
