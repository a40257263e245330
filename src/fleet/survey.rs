//! What this proxy holds at the backends with bulk work: one look through the ledger for all of them, a portion at a time, for
//! there may be a million keys and logins wait for the same lock.

use std::collections::BTreeMap;

use tokio::task::yield_now;

use crate::ledger::{Held, Ledger};
use crate::model::{BackendId, Generation, Key};

/// Keys that are looked at in one go: about 0.2 ms.
const PORTION: usize = 2000;
/// The most keys of one backend that are noted to be moved: more than can be moved until the next look.
const NOTED: usize = 5000;

/// A key to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) key: Key,
    pub(super) generation: Generation,
    pub(super) sessions: u32,
}

/// How many keys have so many sessions.
type Sizes = BTreeMap<u32, u32>;

/// What is at one backend.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Only what was opened under an older generation is concerned; `None`: all.
    before: Option<Generation>,
    /// Sessions, also of those that are not concerned.
    pub(super) sessions: u64,
    /// Keys that stay, for they would come back.
    pub(super) pinned: u32,
    leaving: Sizes,
    movable: Sizes,
    /// Of the movable, those with few sessions.
    due: Vec<Due>,
}

impl Survey {
    pub(super) fn of(before: Option<Generation>) -> Self {
        Self { before, ..Self::default() }
    }

    fn note(&mut self, key: &Key, held: &Held<'_>, spared: bool) {
        self.sessions += u64::from(held.sessions);
        let generation = held.place.generation;
        if self.before.is_some_and(|before| generation >= before) {
            return;
        }
        if held.leaving {
            *self.leaving.entry(held.sessions).or_default() += 1;
        } else if held.pinned || spared {
            self.pinned += 1;
        } else {
            *self.movable.entry(held.sessions).or_default() += 1;
            self.due.push(Due { key: key.clone(), generation, sessions: held.sessions });
            if self.due.len() >= 2 * NOTED {
                self.keep_the_small();
            }
        }
    }

    fn keep_the_small(&mut self) {
        if self.due.len() > NOTED {
            self.due.select_nth_unstable_by_key(NOTED, |due| due.sessions);
            self.due.truncate(NOTED);
        }
    }

    /// Limits the work to so many sessions. Those that are leaving fill the quota first, then those with few.
    pub(super) fn limit(&mut self, mut quota: u64) {
        for sizes in [&mut self.leaving, &mut self.movable] {
            for (sessions, keys) in sizes.iter_mut() {
                let fit = quota.div_ceil(u64::from(*sessions).max(1)).min(u64::from(*keys));
                quota = quota.saturating_sub(fit * u64::from(*sessions));
                *keys = u32::try_from(fit).unwrap_or(*keys); // it is no more than those
            }
        }
    }

    /// Keys that are still to leave, those that are on their way among them.
    pub(super) fn left(&self) -> u32 {
        self.leaving.values().chain(self.movable.values()).fold(0, |sum, keys| sum.saturating_add(*keys))
    }

    /// Keys to be moved next: those whose move disturbs least come first.
    pub(super) fn next(mut self) -> Vec<Due> {
        self.keep_the_small();
        self.due.sort_by_key(|due| due.sessions);
        let movable = self.movable.values().map(|keys| *keys as usize).sum(); // a u32 fits
        self.due.truncate(movable);
        self.due
    }
}

/// Looks through the ledger for those backends. `spared`: the key is known to be pinned by an operator.
pub(super) async fn look(ledger: &Ledger, jobs: &mut BTreeMap<BackendId, Survey>, spared: impl Fn(&Key) -> bool) {
    let mut next = Some(usize::MAX);
    while let Some(from) = next {
        next = ledger.look_through(from, PORTION, |key, held| {
            if let Some(survey) = jobs.get_mut(&held.place.backend) {
                survey.note(key, held, spared(key));
            }
        });
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Place;

    fn note(survey: &mut Survey, keys: usize, sessions: u32, leaving: bool, pinned: bool) {
        let place = Place { backend: BackendId::new("a"), generation: Generation(5) };
        for n in 0..keys {
            let held = Held { place: &place, sessions, leaving, pinned };
            survey.note(&Key::new(format!("u{sessions}-{n}")), &held, false);
        }
    }

    #[test]
    fn those_who_leave_fill_the_quota_first_then_those_with_few_sessions() {
        let mut survey = Survey::of(None);
        note(&mut survey, 10, 3, false, false);
        note(&mut survey, 10, 1, false, false);
        note(&mut survey, 4, 1, true, false);
        note(&mut survey, 7, 1, false, true);
        assert_eq!((survey.left(), survey.pinned, survey.sessions), (24, 7, 51));
        survey.limit(18);
        assert_eq!(
            survey.left(),
            4 + 10 + 2,
            "4 sessions are leaving, 10 keys have one, and 4 sessions are left to fill"
        );
        let sizes: Vec<u32> = survey.next().iter().map(|due| due.sessions).collect();
        assert_eq!(sizes, [[1; 10].as_slice(), &[3, 3]].concat());
        let mut none = Survey::of(None);
        note(&mut none, 10, 1, true, false);
        none.limit(0);
        assert_eq!((none.left(), none.next().len()), (0, 0));
    }

    #[test]
    fn what_was_opened_since_is_not_concerned_and_of_many_the_small_ones_are_noted() {
        let mut survey = Survey::of(Some(Generation(5)));
        note(&mut survey, 10, 1, false, false);
        assert_eq!((survey.left(), survey.sessions), (0, 10));
        let mut survey = Survey::of(Some(Generation(6)));
        note(&mut survey, 3 * NOTED, 2, false, false);
        note(&mut survey, NOTED, 1, false, false);
        assert_eq!(survey.left() as usize, 4 * NOTED);
        let next = survey.next();
        assert!(next.len() == NOTED && next.iter().all(|due| due.sessions == 1));
    }
}
