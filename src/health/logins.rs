//! What the logins of users say that a probe cannot see: a server that greets well, and then fails everybody who logs in.
//!
//! One user whose mailbox makes the server break off says nothing about the others, and a restart breaks off many logins
//! in one instant. So it takes several users, over some time but not over days, and nobody who got in meanwhile. Such a
//! server may get no more logins by which it could prove itself, so it is believed again after a time, which doubles with
//! each relapse (as Envoy's outlier detection does).

use std::time::Duration;

use tokio::time::Instant;

/// For so long a failure is held against the server: where few log in, one a day would be a row some day.
const HELD: Duration = Duration::from_secs(300);
/// How long a server that fails all logins is not believed, at first.
const FIRST: Duration = Duration::from_secs(30);
/// And at most.
const LONGEST: Duration = Duration::from_secs(600);

/// What makes the logins of users a failure of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// So many users.
    pub(super) users: usize,
    /// Over so long.
    pub(super) span: Duration,
    /// So many logins that went well, one after the other, prove the contrary.
    pub(super) rise: u32,
}

/// The row of failed logins.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// Hashes of the users in it, and since when they are.
    users: Vec<(u64, Instant)>,
    distrust: Option<Distrust>,
    relapses: u32,
}

#[derive(Debug)]
struct Distrust {
    until: Instant,
    good: u32,
}

impl Logins {
    /// A login failed behind the point that probes get to.
    pub(super) fn failed(&mut self, user: u64, now: Instant, bounds: Bounds) {
        if let Some(distrust) = &mut self.distrust {
            distrust.good = 0;
            return;
        }
        let age = |since: Instant| now.saturating_duration_since(since);
        self.users.retain(|(_, since)| age(*since) <= HELD);
        if self.users.len() < bounds.users && self.users.iter().all(|(known, _)| *known != user) {
            self.users.push((user, now));
        }
        let lasting = self.users.iter().map(|(_, since)| age(*since)).max();
        if self.users.len() >= bounds.users && lasting >= Some(bounds.span.min(HELD)) {
            let pause = FIRST.saturating_mul(1 << self.relapses.min(10)).min(LONGEST);
            self.relapses += 1;
            self.distrust = Some(Distrust { until: now + pause, good: 0 });
            self.users.clear();
        }
    }

    /// A login went well: a user's, or a probe's.
    pub(super) fn went_well(&mut self, bounds: Bounds) {
        self.users.clear();
        match &mut self.distrust {
            None => self.relapses = 0,
            Some(distrust) => {
                distrust.good += 1;
                if distrust.good >= bounds.rise {
                    self.distrust = None;
                }
            }
        }
    }

    /// A probe that did not log in went well.
    pub(super) fn looked_well(&mut self, now: Instant) {
        if self.distrust.as_ref().is_some_and(|distrust| now >= distrust.until) {
            self.distrust = None;
        }
    }

    /// Whether the server is held to fail all logins.
    pub(super) fn are_failing(&self) -> bool {
        self.distrust.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { users: 3, span: Duration::from_secs(5), rise: 2 };

    fn at(seconds: u64) -> Instant {
        static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *BEGAN.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    fn after(failures: &[(u64, u64)]) -> Logins {
        let mut logins = Logins::default();
        fail(&mut logins, failures);
        logins
    }

    /// Users and seconds.
    fn fail(logins: &mut Logins, failures: &[(u64, u64)]) {
        failures.iter().for_each(|(user, second)| logins.failed(*user, at(*second), BOUNDS));
    }

    #[test]
    fn several_users_over_some_time_without_one_who_got_in_are_a_failure_of_the_server() {
        assert!(after(&[(1, 0), (2, 2), (3, 5)]).are_failing());
    }

    #[test]
    fn one_user_however_often_and_many_in_one_instant_are_not() {
        assert!(!after(&(0..1000).map(|second| (second % 2, second)).collect::<Vec<_>>()).are_failing());
        assert!(!after(&(0..1000).map(|user| (user, 4)).collect::<Vec<_>>()).are_failing());
    }

    #[test]
    fn failures_of_long_ago_are_held_against_it_no_more() {
        assert!(!after(&[(1, 0), (2, 302), (3, 604), (4, 906), (5, 1208)]).are_failing(), "one in a while");
        assert!(!after(&[(1, 0), (1, 299), (2, 302), (3, 302)]).are_failing(), "one for long, others in an instant");
        assert!(after(&[(1, 0), (2, 302), (3, 304), (4, 310)]).are_failing(), "three of them lately");
    }

    #[test]
    fn somebody_who_gets_in_proves_the_contrary() {
        let mut logins = after(&[(1, 0), (2, 2)]);
        logins.went_well(BOUNDS);
        logins.failed(3, at(5), BOUNDS);
        assert!(!logins.are_failing());
    }

    #[test]
    fn it_is_believed_again_after_good_logins_in_a_row_or_a_time_that_doubles_with_each_relapse() {
        let mut logins = after(&[(1, 0), (2, 2), (3, 5)]);
        logins.went_well(BOUNDS);
        logins.failed(4, at(6), BOUNDS);
        logins.went_well(BOUNDS);
        assert!(logins.are_failing(), "not in a row");
        logins.went_well(BOUNDS);
        assert!(!logins.are_failing());

        let mut logins = after(&[(1, 0), (2, 2), (3, 5)]);
        logins.looked_well(at(34));
        assert!(logins.are_failing());
        logins.looked_well(at(35));
        assert!(!logins.are_failing());
        fail(&mut logins, &[(1, 40), (2, 42), (3, 45)]);
        logins.looked_well(at(104));
        assert!(logins.are_failing(), "twice as long");
        logins.looked_well(at(105));
        assert!(!logins.are_failing());
        logins.went_well(BOUNDS);
        fail(&mut logins, &[(1, 110), (2, 112), (3, 115)]);
        logins.looked_well(at(145));
        assert!(!logins.are_failing(), "who was well between begins anew");
    }

    #[test]
    fn no_number_of_relapses_makes_it_longer_than_ten_minutes() {
        let (mut logins, mut now) = (Logins::default(), 0);
        for _ in 0..40 {
            fail(&mut logins, &[(1, now), (2, now), (3, now + 5)]);
            assert!(logins.are_failing());
            now += 605;
            logins.looked_well(at(now));
            assert!(!logins.are_failing());
        }
    }
}
