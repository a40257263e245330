//! Notes in Redis: plain keys with a time to live, over one connection per shard that all tasks share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tracing::warn;

use super::doors::{ask_within, no_answer};
use super::keys::Keys;
use super::reply::{Garbled, Words};
use super::scripts::{self, Arguments};
use super::{Redis, parse};
use crate::config::StoreAddress;
use crate::model::Incarnation;
use crate::store::StoreError;
use crate::store::notes::{MAX_NOTE, Name, Note, Noted, Notes, Trace};

/// After a failure nobody tries again for so long: a login that goes without notes is better than one that waits.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two complaints of the same.
const SILENCE: Duration = Duration::from_secs(60);
/// Keys looked at in one step of a scan.
const STEP: usize = 1000;

/// The lines to all shards.
#[derive(Default)]
pub(super) struct NoteLines {
    lines: Mutex<BTreeMap<u16, Line>>,
    /// Held by the one who opens a line, while all others wait for that.
    opening: Mutex<BTreeMap<u16, Arc<tokio::sync::Mutex<()>>>>,
    opened: AtomicU64,
    complained: Mutex<Option<Instant>>,
}

enum Line {
    Up(OpenLine),
    Down(Instant, StoreError),
}

#[derive(Clone)]
struct OpenLine {
    /// No two ever opened have the same.
    number: u64,
    at: StoreAddress,
    connection: MultiplexedConnection,
}

impl NoteLines {
    fn known(&self, shard: u16) -> Option<Result<OpenLine, StoreError>> {
        match self.lines().get(&shard)? {
            Line::Up(line) => Some(Ok(line.clone())),
            Line::Down(since, why) if since.elapsed() < PAUSE => Some(Err(why.clone())),
            Line::Down(..) => None,
        }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<u16, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, shard: u16) -> Arc<tokio::sync::Mutex<()>> {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(opening.entry(shard).or_default())
    }

    fn is_up(&self, shard: u16, at: StoreAddress, connection: MultiplexedConnection) -> OpenLine {
        let line = OpenLine { number: self.opened.fetch_add(1, Ordering::Relaxed), at, connection };
        self.lines().insert(shard, Line::Up(line.clone()));
        line
    }

    /// `number`: of the line that failed; `None` if none could be opened. A late answer says nothing of a line that is newer.
    fn is_down(&self, shard: u16, number: Option<u64>, why: StoreError) -> StoreError {
        let is_present = match self.lines().get(&shard) {
            Some(Line::Up(line)) => Some(line.number) == number,
            _ => number.is_none(),
        };
        if is_present {
            self.lines().insert(shard, Line::Down(Instant::now(), why.clone()));
            self.complain(shard, &why);
        }
        why
    }

    /// Seldom: it is tried again all the time.
    fn complain(&self, shard: u16, why: &StoreError) {
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= SILENCE) {
            *last = Some(Instant::now());
            warn!(
                shard, error = %why,
                "the store cannot be asked what the fleet notes of logins: passdbs are asked instead, and this proxy counts failures alone"
            );
        }
    }
}

impl Redis {
    async fn note_line(&self, shard: u16) -> Result<OpenLine, StoreError> {
        if let Some(line) = self.notes.known(shard) {
            return line;
        }
        let turn = self.notes.turn(shard);
        let _turn = turn.lock().await;
        if let Some(line) = self.notes.known(shard) {
            return line; // another has opened it, or failed to, meanwhile
        }
        let keys = self.keys(shard);
        let opened = async {
            let at = self.masters.of(&keys, &self.doors).await?.at;
            let mut connection = self.doors.own(&at).await?;
            let mut scripts = redis::pipe();
            for source in [&scripts::TRACE, &scripts::TALLY, &scripts::OCCUPY] {
                scripts.add_command(source.load()).ignore();
            }
            ask_within(self.doors.patience(), &at, &mut connection, &scripts).await?;
            Ok((at, connection))
        };
        match opened.await {
            Ok((at, connection)) => Ok(self.notes.is_up(shard, at, connection)),
            Err(error) => Err(self.notes.is_down(shard, None, error)),
        }
    }

    /// Sends a pipeline and reads its answers. Whatever goes wrong, nobody asks again for a while.
    async fn ask_notes<T>(
        &self,
        shard: u16,
        pipeline: &redis::Pipeline,
        read: impl FnOnce(Vec<Value>) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let OpenLine { number, at, mut connection } = self.note_line(shard).await?;
        let answers = ask_within(self.doors.patience(), &at, &mut connection, pipeline).await;
        let outcome = answers.and_then(|answers| {
            let values: RedisResult<Vec<_>> = answers.into_iter().map(none_if_no_note).collect();
            values.and_then(read).map_err(|error| no_answer(&at, &error))
        });
        outcome.map_err(|error| self.notes.is_down(shard, Some(number), error))
    }
}

#[async_trait]
impl Notes for Redis {
    async fn exchange(&self, shard: u16, notes: &[Note]) -> Result<Vec<Noted>, StoreError> {
        if notes.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys(shard);
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for note in notes {
            pipeline.add_command(command(note, &keys));
        }
        // As many as were asked for: the library sees to that.
        let read = |values: Vec<Value>| notes.iter().zip(values).map(|(note, value)| decode(note, value)).collect();
        self.ask_notes(shard, &pipeline, read).await
    }

    async fn forget_all(&self, shard: u16) -> Result<u64, StoreError> {
        let keys = self.keys(shard);
        let (mut cursor, mut gone) = ("0".to_owned(), 0);
        loop {
            let mut scan = redis::pipe();
            scan.ignore_errors();
            scan.cmd("SCAN").arg(&cursor).arg("MATCH").arg(keys.notes_pattern()).arg("COUNT").arg(STEP);
            let (next, names): (String, Vec<String>) = self.ask_notes(shard, &scan, only).await?;
            if !names.is_empty() {
                let mut drop = redis::pipe();
                drop.ignore_errors();
                drop.cmd("DEL").arg(&names);
                gone += self.ask_notes::<u64>(shard, &drop, only).await?;
            }
            if next == "0" {
                return Ok(gone);
            }
            cursor = next;
        }
    }
}

fn only<T: redis::FromRedisValue>(mut values: Vec<Value>) -> RedisResult<T> {
    parse(values.pop().unwrap_or(Value::Nil))
}

/// A key that is no string is nobody's note, and none. All other errors are of the store.
fn none_if_no_note(answer: RedisResult<Value>) -> RedisResult<Value> {
    match answer {
        Err(error) if error.code() == Some("WRONGTYPE") => Ok(Value::BulkString(Vec::new())),
        other => other,
    }
}

fn command(note: &Note, keys: &Keys) -> Cmd {
    match note {
        // Whatever somebody has put there, no more of it is read than shows that it is too long.
        Note::Recall(name) => Cmd::getrange(keys.note(name), 0, MAX_NOTE as isize),
        Note::Keep { name, value, ttl } => Cmd::pset_ex(keys.note(name), value, (*ttl).max(1)),
        Note::Drop(name) => Cmd::del(keys.note(name)),
        Note::Traces(name) => Cmd::smembers(keys.guard(name)),
        Note::Wipe { name, traces } => {
            Cmd::srem(keys.guard(name), traces.iter().map(Trace::to_string).collect::<Vec<_>>())
        }
        Note::Leave { name, trace, ttl, most } => scripts::TRACE.call(&keys.stem(), &left(name, trace, *ttl, *most)),
        Note::Tally { name, ttl } => scripts::TALLY.call(&keys.stem(), &tallied(name, *ttl)),
        Note::Occupy { name, holder, count, most, ttl } => {
            scripts::OCCUPY.call(&keys.stem(), &occupied(name, holder, [*count, *most], *ttl))
        }
    }
}

pub(super) fn left(name: &Name, trace: &Trace, ttl: u64, most: u32) -> Arguments {
    let mut a = Arguments::default();
    a.put("name", name).put("trace", trace).put("ttl", ttl.max(1)).put("most", most.max(1));
    a
}

pub(super) fn tallied(name: &Name, ttl: u64) -> Arguments {
    let mut a = Arguments::default();
    a.put("name", name).put("ttl", ttl.max(1));
    a
}

pub(super) fn occupied(name: &Name, holder: &Incarnation, [count, most]: [u32; 2], ttl: u64) -> Arguments {
    let mut a = Arguments::default();
    a.put("name", name).put("holder", holder).put("count", count).put("most", most).put("ttl", ttl.max(1));
    a
}

fn decode(note: &Note, value: Value) -> RedisResult<Noted> {
    match note {
        Note::Recall(_) => {
            let kept: Vec<u8> = parse(value)?;
            Ok(Noted::Kept(Some(kept).filter(|kept| (1..=MAX_NOTE).contains(&kept.len()))))
        }
        Note::Keep { .. } => parse::<()>(value).map(|()| Noted::Done),
        Note::Drop(_) => parse(value).map(Noted::Dropped),
        Note::Traces(_) => {
            let found: Vec<String> = parse(value)?;
            // What is no trace was not left by us, and says nothing.
            Ok(Noted::Traces(found.iter().filter_map(|text| text.parse().ok()).collect()))
        }
        Note::Wipe { .. } => parse(value).map(Noted::Counted),
        Note::Leave { .. } | Note::Tally { .. } | Note::Occupy { .. } => scripted(note, value).map_err(|_| {
            (redis::ErrorKind::UnexpectedReturnType, "an answer that homing's scripts do not give").into()
        }),
    }
}

fn scripted(note: &Note, value: Value) -> Result<Noted, Garbled> {
    let mut words = Words::of(value)?;
    let status = words.text()?;
    let number = words.count()?;
    match (note, status.as_str()) {
        (Note::Occupy { .. }, "ok" | "full") => Ok(Noted::Occupied { fits: status == "ok", others: number }),
        (_, "ok") => Ok(Noted::Counted(number)),
        _ => Err(Garbled),
    }
}
