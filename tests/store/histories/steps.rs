//! What may happen in a history, and how it is thrown.

use std::collections::{BTreeMap, BTreeSet};

use homing::model::{BackendId, Generation, Incarnation, Key, Pool, Weight};
use homing::store::*;

use crate::stage::*;

pub(super) const PROXIES: u64 = 4;
pub(super) const KEYS: u64 = 10;
const BACKENDS: [&str; 5] = ["a", "b", "c", "d", "gone"];

/// One step. It is resolved against what the proxies know when it is played, so any part of a history is one, too.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Hello(usize),
    Beat {
        who: usize,
        asserted: bool,
        knows_table: bool,
        failing: Option<Vec<BackendId>>,
        left: Vec<Left>,
        takes_errands: bool,
    },
    Claim {
        who: usize,
        claim: Claim,
    },
    /// `true`: with the home that this proxy was told, as a ledger would.
    Declare(usize, Vec<(Declared, bool)>),
    Held(usize),
    Reap {
        who: usize,
        whom: usize,
    },
    Forget {
        who: usize,
        whom: usize,
    },
    Table {
        who: usize,
        rows: BTreeMap<BackendId, Row>,
        late: bool,
    },
    /// `seen`: under the generation that the key has.
    Move {
        order: Move,
        seen: bool,
    },
    /// Of one of those that have begun. `told`: by whoever was told to run its hook.
    Settle {
        which: usize,
        who: usize,
        told: bool,
        hook: Option<bool>,
    },
    /// An operator forces a key away from where this proxy was told that it is; then the proxy, who has not heard of it,
    /// declares it.
    Defy(usize, Move, Declared),
    /// Every proxy says that it has no session (any more) of a key whose move has begun.
    Leave(usize),
    Mark(Mark),
    /// As [`Step::Table`], but as an order.
    Revise {
        rows: BTreeMap<BackendId, Row>,
        late: bool,
    },
    /// A version so many ms after the one in force.
    Copy {
        rows: BTreeMap<BackendId, Row>,
        newer: u64,
    },
    Ask(Ask),
    /// To the last errand.
    Answer(usize),
    /// To the last errand, or the one before.
    Answers {
        before: bool,
    },
    /// The last call arrives once more.
    Again(usize),
    /// So many calls never arrive.
    Lost(usize, u64),
    /// The proxy is started anew.
    Reborn(usize),
    /// The server's clock moves.
    Clock(i64),
    /// Seconds in which everybody who can sends heartbeats.
    Quiet(u64),
    /// The server is started anew, with its data.
    Restart,
    Flush,
    Save,
    /// Back to what was saved.
    Rollback,
}

/// SplitMix64: a seed gives the same history for ever.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn count(&mut self, bound: u64) -> u32 {
        u32::try_from(self.below(bound)).expect("a small number")
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).expect("an index")]
    }

    fn proxy(&mut self) -> usize {
        usize::try_from(self.below(PROXIES)).expect("an index")
    }

    fn key(&mut self) -> Key {
        Key::new(format!("k{}", self.below(KEYS)))
    }

    pub(super) fn step(&mut self) -> Step {
        let who = self.proxy();
        match self.below(130) {
            0..34 => Step::Claim { who, claim: self.claim() },
            34..56 => Step::Declare(who, (0..=self.below(4)).map(|_| self.line()).collect()),
            56..68 => self.beat(who),
            68..76 => Step::Hello(who),
            76..80 => Step::Reap { who, whom: self.proxy() },
            80..82 => Step::Held(who),
            82..84 => Step::Table { who, rows: self.rows(), late: self.once_in(5) },
            84..86 => Step::Again(who),
            86..87 => Step::Lost(who, 1 + self.below(3)),
            87..88 => Step::Forget { who, whom: self.proxy() },
            88..89 => Step::Reborn(who),
            89..93 => Step::Clock(i64::try_from(self.below(6000)).expect("ms")),
            93..94 => Step::Clock([-3_600_000, 3_600_000][usize::from(self.once_in(2))]),
            94..97 => Step::Quiet(1 + self.below(25)),
            97 => [Step::Restart, Step::Flush][usize::from(self.once_in(3))].clone(),
            98 => Step::Save,
            99 => Step::Rollback,
            _ => self.order(who),
        }
    }

    fn order(&mut self, who: usize) -> Step {
        match self.below(40) {
            38.. => {
                let (line, order) = (self.line().0, Move { force: true, pace: None, ..self.a_move() });
                Step::Defy(who, order, Declared { count: 1 + self.count(3), ..line })
            }
            30.. => Step::Leave(usize::try_from(self.below(8)).expect("an index")),
            0..11 => Step::Move { order: self.a_move(), seen: self.once_in(2) },
            11..20 => {
                let hook = [None, None, Some(true), Some(false)][self.proxy()];
                let which = usize::try_from(self.below(8)).expect("an index");
                Step::Settle { which, who, told: !self.once_in(4), hook }
            }
            20..24 => Step::Mark(self.mark(who)),
            24 => Step::Revise { rows: self.rows(), late: self.once_in(3) },
            25 => Step::Copy { rows: self.rows(), newer: self.below(3) },
            26 => Step::Ask(Ask { text: format!("errand {}\n", self.below(9)), ttl: 1000 + self.below(60_000) }),
            27 | 28 => Step::Answer(who),
            _ => Step::Answers { before: self.once_in(3) },
        }
    }

    fn a_move(&mut self) -> Move {
        let to = match self.below(8) {
            0 => Target::Stay,
            1 | 2 => Target::Anywhere,
            3 | 4 => Target::Elsewhere,
            _ => Target::Backend(BackendId::new(self.one_of(&BACKENDS))),
        };
        let pace = Pace { parallel: 1 + self.count(3), per_second: [0, 1, 7, 100][self.proxy()] };
        Move {
            key: self.key(),
            seen: None,
            to,
            force: self.once_in(6),
            hook: self.once_in(3),
            timeout: 500 + self.below(60_000),
            pace: self.once_in(2).then_some(pace),
        }
    }

    fn mark(&mut self, who: usize) -> Mark {
        let locker = || Locker { incarnation: Incarnation::new(format!("p{who}")), number: 1 };
        let change = match self.below(9) {
            0 | 1 => MarkChange::Hold([0, 1, 1000, 15_000][self.proxy()]),
            2 => MarkChange::Pin(BackendId::new(self.one_of(&BACKENDS))),
            3 => MarkChange::Unpin,
            4 | 5 => MarkChange::Lock(locker(), [1, 1000, 15_000, 90_000][self.proxy()]),
            6 => MarkChange::Renew(locker(), 2000),
            7 => MarkChange::Unlock(locker()),
            _ => MarkChange::Release,
        };
        // Few keys, else all are held in the end.
        Mark { key: Key::new(format!("k{}", self.below(3))), change }
    }

    fn beat(&mut self, who: usize) -> Step {
        let failing = (!self.once_in(4)).then(|| self.some_backends());
        let concerned: BTreeSet<_> = self.some_backends().into_iter().collect();
        let left =
            concerned.into_iter().map(|backend| Left { backend, keys: self.count(9), pinned: self.count(3) }).collect();
        let (asserted, knows_table) = (!self.once_in(4), self.once_in(2));
        Step::Beat { who, asserted, knows_table, failing, left, takes_errands: self.once_in(2) }
    }

    /// Often none.
    fn some_backends(&mut self) -> Vec<BackendId> {
        (0..self.below(3)).map(|_| BackendId::new(self.one_of(&BACKENDS))).collect()
    }

    fn claim(&mut self) -> Claim {
        Claim {
            key: self.key(),
            have: if self.once_in(3) { self.count(4) } else { 0 },
            pool: Pool::new(if self.once_in(8) { "gold" } else { Pool::DEFAULT }),
            pin: self.once_in(10).then(|| BackendId::new(self.one_of(&BACKENDS))),
            limit: if self.once_in(4) { 1 + self.count(5) } else { 0 },
            unproven: self.once_in(3),
            hint: self.once_in(4).then(|| BackendId::new(self.one_of(&BACKENDS))),
        }
    }

    fn line(&mut self) -> (Declared, bool) {
        let line = Declared {
            key: self.key(),
            backend: BackendId::new(self.one_of(&BACKENDS)),
            generation: Generation(DAWN + self.below(120_000)),
            count: if self.once_in(2) { 0 } else { self.count(5) },
            unproven: self.once_in(3),
        };
        (line, !self.once_in(3))
    }

    fn rows(&mut self) -> BTreeMap<BackendId, Row> {
        let (mut rows, even) = (BTreeMap::new(), self.once_in(2));
        for name in &BACKENDS[..4] {
            if !self.once_in(8) {
                let row = match self.below(16) {
                    0 => Row::unread(&format!("v9 {}", self.below(3))),
                    _ if even => self.candidate(),
                    _ => self.row(),
                };
                rows.insert(BackendId::new(name), row);
            }
        }
        rows
    }

    /// One of those among which users are placed, unless it is found dead or full.
    fn candidate(&mut self) -> Row {
        Row {
            weight: Weight::new([50, 100, 100, 300][self.proxy()]).expect("weight"),
            pool: Pool::default(),
            state: BackendState::Up,
            ..self.row()
        }
    }

    fn row(&mut self) -> Row {
        let state = match self.below(8) {
            0 => BackendState::Down,
            1 => BackendState::Drain,
            2 => BackendState::Removed,
            _ => BackendState::Up,
        };
        let kind =
            [JobKind::Evict, JobKind::Flush, JobKind::Rebalance][usize::from(self.once_in(2)) * self.proxy() % 3];
        let job = Job { kind, since: DAWN + self.below(60_000), paused: self.once_in(4), why: "{\"".to_owned() };
        Row {
            weight: Weight::new([0, 50, 100, 300][self.proxy()]).expect("weight"),
            pool: Pool::new(if self.once_in(5) { "gold" } else { Pool::DEFAULT }),
            state,
            since: if self.once_in(2) { 0 } else { DAWN + self.below(60_000) },
            failing: self.once_in(8),
            max_sessions: if self.once_in(3) { 1 + self.count(6) } else { 0 },
            weight_set: self.once_in(2),
            state_set: self.once_in(2),
            added: self.once_in(4).then(|| "{ host = \"x\" }".to_owned()),
            job: self.once_in(3).then_some(job),
            others: self.once_in(8).then(|| ("zone".to_owned(), self.below(3).into())).into_iter().collect(),
            unread: None,
        }
    }
}
