//! What a proxy asks a shard and what it is answered: one type per Lua script, which bears the same name.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::{BackendId, Generation, Incarnation, Key, Pool, Weight};

/// The most keys in one [`Request::Declare`] or one page of [`Request::Held`] or [`Request::Reap`].
pub const PAGE: usize = 100;
/// The most kicks in the answer to one heartbeat.
pub const KICKS: usize = 500;
/// The most moves to settle in the answer to one heartbeat.
pub const SETTLES: usize = 100;

/// A request with the three things that make it safe to lose, repeat and delay.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who asks.
    pub incarnation: Incarnation,
    /// The server run that the last hello was answered by; empty in a hello.
    pub run: String,
    /// One more than the call before. A hello has one more than any call that this incarnation ever sent.
    pub seq: u64,
    /// What is asked.
    pub request: Request,
}

/// What can be asked. Each variant is one atomic script.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A link has connected: register, renew the lease, learn whether to re-assert.
    Hello(Hello),
    /// Renew the lease, advance the clock; hear of kicks, a newer table and chores.
    Heartbeat(Heartbeat),
    /// Give a key its home and count one session more.
    Claim(Claim),
    /// State how many sessions this incarnation holds of each key. At most [`PAGE`].
    Declare(Vec<Declared>),
    /// Read a page of the keys that the store thinks this incarnation holds. Changes nothing; `cursor` starts as "0".
    Held {
        /// From the answer before.
        cursor: String,
    },
    /// Chore: end an over-due lease; free a due orphan, page by page.
    Reap {
        /// Whose.
        orphan: Incarnation,
    },
    /// The incarnation is known to be dead: orphan it if it is not, and make it due for freeing now.
    Forget {
        /// Whose.
        dead: Incarnation,
    },
    /// Replace the backend table, if it is still the version that the new one was made from.
    Table {
        /// The version it was made from; 0 for none.
        based_on: u64,
        /// All rows.
        rows: BTreeMap<BackendId, Row>,
    },
}

/// See [`Request::Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The highest call number that was ever answered to this incarnation (0 for none). If the store's is lower, writes
    /// were lost and the proxy must re-assert.
    pub acked: u64,
    /// The last errand that it may have taken on (0 for none): a store that has lost its memory gives higher numbers.
    pub errand: u64,
    /// Configured name of the proxy.
    pub name: String,
    /// Version of homing.
    pub version: String,
}

/// See [`Request::Heartbeat`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// All that the hello asked for was given back: all of the ledger is declared and, to the shard that has the table, so
    /// is that. While a recovery window is open it stays open for whoever has yet to say so.
    pub asserted: bool,
    /// The version of the table that this proxy has.
    pub table_version: u64,
    /// This proxy's vote: the backends that it finds dead. `None` in a shard that has only a copy of the table: there
    /// nobody votes.
    pub failing: Option<Vec<BackendId>>,
    /// What this proxy still has to do for each backend's [`Job`].
    pub left: Vec<Left>,
    /// The number of the last errand that this proxy has taken on; see [`super::Ask`].
    pub errand: u64,
}

/// What a proxy still has to do for a backend's [`Job`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The backend.
    pub backend: BackendId,
    /// Keys with sessions that are still to be moved.
    pub keys: u32,
    /// Such as stay, for they are pinned there by the passdb or by an operator, and would come back.
    pub pinned: u32,
}

/// See [`Request::Claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose home.
    pub key: Key,
    /// Live sessions of the key at this proxy, without the one that claims.
    pub have: u32,
    /// The pool that may serve it.
    pub pool: Pool,
    /// The backend that the passdb names.
    pub pin: Option<BackendId>,
    /// The most sessions of the key, fleet-wide; 0 for any number.
    pub limit: u32,
    /// Nobody has checked the password yet: the backend will. A binding made by such a claim is deleted, not
    /// remembered, if its last session ends before one was proven.
    pub unproven: bool,
    /// Where this proxy last saw the key at home, not longer ago than `user_expire`. Only a key that the store knows
    /// nothing of goes back there, as to a remembered home: the store has lost its memory meanwhile.
    pub hint: Option<BackendId>,
}

/// One line of [`Request::Declare`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Which key.
    pub key: Key,
    /// Where its sessions are. Ignored if `count` is 0.
    pub backend: BackendId,
    /// The generation under which they were opened. Ignored if `count` is 0.
    pub generation: Generation,
    /// Sessions of the key at this proxy, now.
    pub count: u32,
    /// No session of the key here, present or past, has been accepted by passdb or backend since the key was claimed.
    /// Counts also if `count` is 0.
    pub unproven: bool,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a hello.
    Hello(Welcome),
    /// To a heartbeat.
    Heartbeat(Beat),
    /// To a claim.
    Claim(Home),
    /// To a declare: keys of this call whose sessions here must be closed.
    Declare(Vec<Kick>),
    /// To a held: keys with the number of sessions that their bindings count here (0 if there is no binding), and the
    /// cursor of the next page, or `None` at the end. A key may come twice.
    Held(Vec<(Key, u32)>, Option<String>),
    /// To a reap or forget: what is left to do for that incarnation.
    Reap(Reaped),
    /// To a table: the version it got, or, if it came too late, the table that is in force.
    Table(Result<u64, Table>),
    /// The proxy and the store do not share a past: say hello. Nothing was changed.
    Lost,
    /// A call with this number, or a later one, was applied before. Nothing was changed.
    Stale,
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// To be carried by every call from now on.
    pub run: String,
    /// Version of the table in this shard; 0 for none.
    pub table_version: u64,
    /// Declare all of the ledger, audit the rest, then say so in a heartbeat.
    pub assert: bool,
    /// Milliseconds until the recovery window may close; 0 if none is open.
    pub recovering_ms: u64,
    /// Other incarnations with a lease.
    pub peers: u32,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Version of the table in this shard; 0 for none.
    pub table_version: u64,
    /// The table, if it is newer than the proxy's.
    pub table: Option<Table>,
    /// At most [`KICKS`] keys whose sessions here must be closed. Repeated until declared 0 or claimed anew.
    pub kicks: Vec<Kick>,
    /// Incarnations that somebody should reap, at most 10.
    pub chores: Vec<Incarnation>,
    /// Keys whose move somebody should look after with a [`super::Settle`], at most [`SETTLES`].
    pub moves: Vec<Key>,
    /// Errands that this incarnation has not taken on yet, by number, at most 10.
    pub errands: Vec<(u64, String)>,
    /// A recovery window is open: milliseconds until it may close, at least 1 while somebody still has to re-assert.
    pub recovering_ms: u64,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// The key's home; `have + 1` sessions of it are now counted for this incarnation.
    Bound {
        /// Where.
        backend: BackendId,
        /// Since which generation.
        generation: Generation,
    },
    /// Not now; ask again after so many milliseconds. `have` sessions are counted.
    Wait {
        /// When to ask again.
        ms: u64,
        /// What is waited for.
        reason: WaitReason,
    },
    /// The key has as many sessions as it may. `have` sessions are counted.
    Limit,
    /// The key's home has as many sessions as it may. `have` sessions are counted.
    Full,
    /// No backend may take the key. `have` sessions are counted.
    NoBackend,
}

/// What a claim waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// A recovery window is open.
    Recovery,
    /// Sessions at a backend that is down or gone are still being closed.
    Closing,
    /// An operator keeps the user out for a while.
    Hold,
    /// The key is being moved.
    Moving,
}

/// Sessions of a key that must end: all that are at another backend than its binding's or of an older generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kick {
    /// Whose.
    pub key: Key,
    /// The backend it is bound to now; `None` if it is not bound.
    pub backend: Option<BackendId>,
    /// The binding's generation; 0 if it is not bound.
    pub generation: Generation,
}

/// How far the reaping of an incarnation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// Its lease has not run out: nothing was done.
    Alive,
    /// It is an orphan, off the load, but its keys are not due.
    Orphan,
    /// A page of keys was freed; there are more.
    More,
    /// Nothing is left of it.
    Gone,
}

/// The backends that claims may choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Grows with every change; 0 for none.
    pub version: u64,
    /// By name.
    pub rows: BTreeMap<BackendId, Row>,
}

impl Table {
    /// `rows` as they stand once they have replaced this table under `version`. Whether a backend fails is for the votes
    /// to say, so a row that this table has keeps that. A row that is new, or begins or ends to take users, counts from
    /// now, and so does a new job; the others go on counting. A store without a table takes rows as they are given, for it
    /// may merely have forgotten them.
    pub fn succeeded_by(&self, mut rows: BTreeMap<BackendId, Row>, version: u64) -> BTreeMap<BackendId, Row> {
        if self.version > 0 {
            for (name, row) in &mut rows {
                let before = self.rows.get(name);
                row.failing = row.unread.is_none() && before.is_some_and(|before| before.failing);
                row.continue_from(before, version);
            }
        }
        rows
    }
}

/// One backend of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its share of new users.
    pub weight: Weight,
    /// Its pool.
    pub pool: Pool,
    /// Whether it takes users, as files or operators say.
    pub state: BackendState,
    /// Since when it has been in that state, effectively: the version of the table that brought it, which is the store's
    /// clock in milliseconds or a little more; 0 for always. `slow_start` counts from here. The store sets it.
    pub since: u64,
    /// The fleet has voted that it is dead: it counts as down. The store sets it.
    pub failing: bool,
    /// The most sessions that it may have; 0 for any number.
    pub max_sessions: u32,
    /// An operator has set the weight: the files' does not count.
    pub weight_set: bool,
    /// An operator has set the state: the files' does not count.
    pub state_set: bool,
    /// An operator has added the backend: its `[backend.NAME]` in TOML on one line. No file needs to have it.
    pub added: Option<String>,
    /// Work at it that nobody owns.
    pub job: Option<Job>,
    /// What a newer version of homing says beside, by name: kept, and not understood.
    pub others: BTreeMap<String, Value>,
    /// The whole row as it stands in the store, if a newer version wrote it so that this one cannot read it: kept as it is.
    /// See [`Row::unread`].
    pub unread: Option<String>,
}

/// Bulk work at a backend, done by every proxy for its own keys there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What is to be done.
    pub kind: JobKind,
    /// Since when, as [`Row::since`]; the store sets it. A flush moves keys whose generation is older.
    pub since: u64,
    /// Not for now.
    pub paused: bool,
    /// Why it was paused, if it was not an operator who did; one line.
    pub why: String,
}

/// What a [`Job`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Moves every key away. The backend's state is [`BackendState::Drain`].
    Evict,
    /// Places every key anew that was placed before the job began, here again or elsewhere.
    Flush,
    /// Moves keys away until the backend has no more than its share.
    Rebalance,
}

impl JobKind {
    /// The word in the store and the CLI.
    pub fn word(self) -> &'static str {
        match self {
            Self::Evict => "evict",
            Self::Flush => "flush",
            Self::Rebalance => "rebalance",
        }
    }

    /// The job of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Evict, Self::Flush, Self::Rebalance].into_iter().find(|kind| kind.word() == word)
    }
}

impl Row {
    /// The row of which this version knows nothing but how it stands in the store. It is as if drained: its sessions are left
    /// alone, and nobody is placed there by a proxy that does not know what the backend is meant for.
    pub fn unread(line: &str) -> Self {
        Self { weight: Weight::NONE, state: BackendState::Drain, unread: Some(line.to_owned()), ..Self::default() }
    }

    /// Whether users may be there at all: a row that fails, is down or removed may not have any.
    pub fn usable(&self) -> bool {
        !self.failing && !matches!(self.state, BackendState::Down | BackendState::Removed)
    }

    /// Whether it takes users that are placed anew.
    pub fn takes_users(&self) -> bool {
        !self.failing && self.state == BackendState::Up && self.weight.get() > 0
    }

    /// What operators are told of its state, in a word.
    pub fn condition(&self) -> &'static str {
        match self {
            Self { unread: Some(_), .. } => "unreadable",
            Self { failing: true, .. } => "failing",
            Self { state, .. } => state.word(),
        }
    }

    /// The job, unless it is paused.
    pub fn active_job(&self) -> Option<&Job> {
        self.job.as_ref().filter(|job| !job.paused)
    }

    /// Makes times of another shard's clock such that they can be compared with this shard's, where it is `now`.
    pub fn begin_no_later_than(&mut self, now: u64) {
        self.since = self.since.min(now);
        if let Some(job) = &mut self.job {
            job.since = now;
        }
    }

    /// Sets since when state and job have been what they are, if this row follows `before` at `now`.
    pub fn continue_from(&mut self, before: Option<&Self>, now: u64) {
        let same = |before: &&Self| before.state == self.state && before.failing == self.failing;
        if self.unread.is_some() {
            return; // whoever can read it knows
        }
        self.since = before.filter(same).map_or(now, |before| before.since);
        if let Some(job) = &mut self.job {
            let before = before.and_then(|before| before.job.as_ref());
            job.since = before.filter(|before| before.kind == job.kind).map_or(now, |before| before.since);
        }
    }
}

/// Whether a backend takes users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendState {
    /// Takes new users.
    #[default]
    Up,
    /// Takes nobody; its sessions are to be closed.
    Down,
    /// Takes no new users; users without sessions leave at their next claim.
    Drain,
    /// Is not of the fleet any more, whatever the files say, until an operator adds it again. As down.
    Removed,
}

impl BackendState {
    /// The word in the store, the configuration and the CLI.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Drain => "drain",
            Self::Removed => "removed",
        }
    }

    /// The state of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Up, Self::Down, Self::Drain, Self::Removed].into_iter().find(|state| state.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: BackendState, since: u64) -> Row {
        Row { state, since, ..Row::default() }
    }

    #[test]
    fn a_row_counts_from_when_it_came_or_changed_its_state_and_not_from_other_changes() {
        let names = ["kept", "turned", "new"].map(BackendId::new);
        let old = [(names[0].clone(), row(BackendState::Up, 5)), (names[1].clone(), row(BackendState::Drain, 6))];
        let new = names.clone().map(|name| (name, row(BackendState::Up, 0)));
        let after = Table { version: 7, rows: old.into() }.succeeded_by(new.clone().into(), 9);
        assert_eq!(names.clone().map(|name| after[&name].since), [5, 9, 9]);
        let first = Table::default().succeeded_by(new.into(), 9);
        assert_eq!(names.map(|name| first[&name].since), [0, 0, 0]);
    }
}
