//! What operators, and proxies on their behalf, order of a shard: one type per Lua script.
//!
//! Orders are not numbered. They go over a connection of their own and change no count of sessions, except where an
//! operator forces it; each either names what it was based on, or may be repeated. So the death of whoever gave one
//! leaves nothing undone that somebody else could not go on with.

use std::collections::BTreeMap;
use std::fmt;

use super::request::{Row, Table};
use crate::model::{BackendId, Generation, Incarnation, Key};

/// What can be ordered. Each variant is one atomic script.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Empty a key's home, then open another.
    Move(Move),
    /// Go on with a move, or hear how far it is.
    Settle(Settle),
    /// Set or clear a key's pin, hold or lock.
    Mark(Mark),
    /// Replace the backend table, if it is still the version that the new one was made from.
    Table {
        /// The version it was made from; 0 for none.
        based_on: u64,
        /// All rows.
        rows: BTreeMap<BackendId, Row>,
    },
    /// Give a shard other than the first a copy of the table; ignored unless it is newer than the shard's.
    Copy(Table),
    /// Make the table's version a higher one, if it is still the one that was seen. The rows stay as they are.
    Lift {
        /// The version seen.
        seen: u64,
        /// What it becomes.
        to: u64,
    },
    /// Give every live proxy an errand.
    Ask(Ask),
    /// An errand is done.
    Answer {
        /// Which.
        errand: u64,
        /// By whom.
        incarnation: Incarnation,
        /// The result.
        text: String,
    },
    /// Read the answers to an errand.
    Answers {
        /// Which.
        errand: u64,
    },
}

/// See [`Order::Move`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whose home.
    pub key: Key,
    /// The generation that whoever orders has seen; `None` for any. Under another one nothing is done.
    pub seen: Option<Generation>,
    /// Where to.
    pub to: Target,
    /// Do not wait for the old sessions to end: nobody is at home there any more, they are merely told so. Two homes are
    /// possible for as long as that takes.
    pub force: bool,
    /// A hook is to be run between the end of the old home and the beginning of the new.
    pub hook: bool,
    /// After so many milliseconds it is given up.
    pub timeout: u64,
    /// It is one of many: not now, if there are already so many.
    pub pace: Option<Pace>,
}

/// Where a key is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To that backend.
    Backend(BackendId),
    /// Wherever a new user would go, but not where it is if there is another.
    Elsewhere,
    /// Wherever a new user would go.
    Anywhere,
    /// Nowhere: its sessions are ended, and it stays. This is a kick.
    Stay,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(backend) => write!(f, "to {backend}"),
            Self::Elsewhere => f.write_str("to another backend"),
            Self::Anywhere => f.write_str("to any backend"),
            Self::Stay => f.write_str("out, by a kick"),
        }
    }
}

/// How fast many keys are moved, by all proxies together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The most keys that are moved at once.
    pub parallel: u32,
    /// The most moves begun per second; 0 for any number.
    pub per_second: u32,
}

/// See [`Order::Settle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// Whose move.
    pub key: Key,
    /// Who looks after it, and so would run its hook.
    pub incarnation: Incarnation,
    /// How the hook that this incarnation was told to run went: whether it succeeded.
    pub hook: Option<bool>,
}

/// See [`Order::Mark`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which key.
    pub key: Key,
    /// What changes.
    pub change: MarkChange,
}

/// What a [`Mark`] changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkChange {
    /// Its home is that backend, whenever it can be. Sessions elsewhere are left alone.
    Pin(BackendId),
    /// Its home may be any again.
    Unpin,
    /// Its logins wait for so many milliseconds, or 0 without end.
    Hold(u64),
    /// Its logins do not wait any more, unless it is locked.
    Release,
    /// Its logins wait for so many milliseconds, on behalf of that locker. Not if somebody else has it locked who may live.
    Lock(Locker, u64),
    /// As [`MarkChange::Lock`], but only if that locker has it locked: else somebody may have come in meanwhile.
    Renew(Locker, u64),
    /// Its logins do not wait for that locker any more.
    Unlock(Locker),
}

/// As the log says it.
impl fmt::Display for MarkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(backend) => write!(f, "pinned to {backend}"),
            Self::Unpin => f.write_str("unpinned"),
            Self::Hold(0) => f.write_str("held without end"),
            Self::Hold(ms) => write!(f, "held for {ms} ms"),
            Self::Release => f.write_str("released"),
            Self::Lock(..) => f.write_str("locked"),
            Self::Renew(..) => f.write_str("still locked"),
            Self::Unlock(_) => f.write_str("unlocked"),
        }
    }
}

/// Who locks a key: a migration, or what else must be alone with a user and know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locker {
    /// The proxy that does it.
    pub incarnation: Incarnation,
    /// Tells apart what one proxy does.
    pub number: u64,
}

impl Locker {
    /// From its text in the store.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, incarnation) = text.split_once(' ')?;
        Some(Self { incarnation: Incarnation::new(incarnation), number: number.parse().ok()? })
    }
}

/// As it stands in the store.
impl fmt::Display for Locker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.incarnation)
    }
}

/// A lock that is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Whose.
    pub locker: Locker,
    /// Milliseconds until it ends, unless it is renewed.
    pub left_ms: u64,
}

/// See [`Order::Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What is to be done; the proxies understand it.
    pub text: String,
    /// It is forgotten, with its answers, after so many milliseconds.
    pub ttl: u64,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ordered {
    /// The store's answer.
    pub outcome: Outcome,
    /// How many replicas have it, and how many there are; `None` where nothing was written or there are none.
    pub replicas: Option<(u32, u32)>,
}

/// The store's answer to an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To a move.
    Move(Moved),
    /// To a settle.
    Settle(Settled),
    /// To a mark.
    Mark(Marked),
    /// To a table: the version it got, or, if it came too late, the table that is in force.
    Table(Result<u64, Table>),
    /// To a copy, and to an answer: done, or nothing to do.
    Done,
    /// To a lift: whether it was done.
    Lifted(bool),
    /// To an ask.
    Asked {
        /// The errand's number.
        errand: u64,
        /// Who has a lease and so will answer, by incarnation.
        live: Vec<Incarnation>,
    },
    /// To answers: by incarnation; `None` for an incarnation that has a lease and has not answered yet.
    Answers(Vec<Answered>),
    /// The store has no memory, or a recovery window is open: who holds what is not known. For so many milliseconds.
    Recovering(u64),
}

/// An incarnation, and its answer if it has given one.
pub type Answered = (Incarnation, Option<String>);

/// The answer to a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It has begun: nobody joins the old home any more, its holders are told to end their sessions.
    Begun {
        /// The generation of the move.
        generation: Generation,
        /// Sessions that must end.
        sessions: u32,
        /// Who has how many.
        holders: Vec<(Incarnation, u32)>,
    },
    /// It is done: nobody was there, or it was forced, or it is there already.
    Done {
        /// The home.
        backend: BackendId,
        /// Its generation.
        generation: Generation,
    },
    /// Another generation than the one that was seen.
    Changed,
    /// It is being moved already; or, as one of many, it is also held by a proxy that is dead and cannot confirm.
    Busy,
    /// There is nothing to move: the key is not bound.
    Unbound,
    /// The target is unknown, down, of another pool than the present home, or there is none.
    NoBackend,
    /// Enough are being moved: ask again after so many milliseconds.
    Later(u64),
}

/// The answer to a settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is not being moved (any more).
    Still {
        /// The home; `None` if it is not bound.
        backend: Option<BackendId>,
        /// Its generation.
        generation: Generation,
    },
    /// Not over yet.
    Waiting {
        /// Who still has how many sessions at the old home. Empty: the kick delay runs, or the hook.
        holders: Vec<Holder>,
        /// Milliseconds until it is given up.
        left_ms: u64,
    },
    /// Run the hook, then say how it went.
    Run {
        /// The old home.
        from: BackendId,
        /// Where to.
        to: Target,
        /// Somebody may have run it before, and died.
        again: bool,
    },
    /// It is over: the new home is open.
    Done {
        /// The old home.
        from: BackendId,
        /// The new home.
        backend: BackendId,
        /// Its generation.
        generation: Generation,
    },
    /// It was given up: the old home is what it was.
    Cancelled {
        /// Why.
        why: Cancelled,
        /// Who still has how many sessions there.
        holders: Vec<Holder>,
    },
}

/// An incarnation that has sessions of a key which is being moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub incarnation: Incarnation,
    /// How many.
    pub sessions: u32,
    /// Its lease is over; milliseconds until its keys are freed.
    pub orphan: Option<u64>,
}

/// Why a move was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It took too long.
    Deadline,
    /// The hook failed.
    Hook,
    /// No backend can take the key.
    NoBackend,
}

impl Cancelled {
    /// The word in the store and the CLI.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Hook => "hook",
            Self::NoBackend => "no_backend",
        }
    }
}

/// The hook of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// There is none, or it has succeeded.
    None,
    /// It is to be run when nobody is left at the old home.
    Pending,
    /// Somebody runs it.
    Running,
}

/// The answer to a mark: who has sessions of the key now, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// The home, if it is bound.
    pub backend: Option<BackendId>,
    /// Its generation; 0 if it is not bound.
    pub generation: Generation,
    /// Sessions in all.
    pub sessions: u32,
    /// Who has how many.
    pub holders: Vec<(Incarnation, u32)>,
    /// The pin's backend is not in the table or may not have users: nothing was done.
    pub no_backend: bool,
    /// The lock that is on now: another's, if it could not be locked.
    pub lock: Option<Lock>,
}
