//! The scripts' answers, decoded in this one place.

use std::collections::BTreeMap;

use redis::Value;

use super::super::request::{Beat, Home, Kick, Reaped, Reply, Request, Row, Table, WaitReason, Welcome};
use super::rows;
use crate::model::{BackendId, Generation, Incarnation, Key};

/// An answer that no script of ours gives: another version's scripts, or not our server at all.
#[derive(Debug, PartialEq)]
pub(super) struct Garbled;

/// The elements of an answer, taken from the front.
pub(super) struct Words(std::vec::IntoIter<Value>);

impl Words {
    pub(super) fn of(value: Value) -> Result<Self, Garbled> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(Garbled),
        }
    }

    fn next(&mut self) -> Result<Value, Garbled> {
        self.0.next().ok_or(Garbled)
    }

    pub(super) fn text(&mut self) -> Result<String, Garbled> {
        text(self.next()?)
    }

    /// The next text, if there is a next.
    pub(super) fn left(&mut self) -> Result<Option<String>, Garbled> {
        self.0.next().map(text).transpose()
    }

    pub(super) fn number(&mut self) -> Result<u64, Garbled> {
        match self.next()? {
            Value::Int(number) => u64::try_from(number).map_err(|_| Garbled),
            other => text(other)?.parse().map_err(|_| Garbled),
        }
    }

    pub(super) fn count(&mut self) -> Result<u32, Garbled> {
        self.number()?.try_into().map_err(|_| Garbled)
    }

    /// A number, or -1 for none.
    pub(super) fn number_or_none(&mut self) -> Result<Option<u64>, Garbled> {
        match self.next()? {
            Value::Int(-1) => Ok(None),
            Value::Int(number) => u64::try_from(number).map(Some).map_err(|_| Garbled),
            _ => Err(Garbled),
        }
    }

    /// A backend, or nothing for none.
    pub(super) fn backend(&mut self) -> Result<Option<BackendId>, Garbled> {
        let name = self.text()?;
        Ok((!name.is_empty()).then(|| BackendId::new(name)))
    }

    pub(super) fn list(&mut self) -> Result<Self, Garbled> {
        Self::of(self.next()?)
    }

    pub(super) fn texts(self) -> Result<Vec<String>, Garbled> {
        self.0.map(text).collect()
    }
}

fn text(value: Value) -> Result<String, Garbled> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| Garbled),
        Value::SimpleString(text) => Ok(text),
        _ => Err(Garbled),
    }
}

/// The answer to `request`.
pub(super) fn decode(request: &Request, value: Value) -> Result<Reply, Garbled> {
    let mut words = Words::of(value)?;
    let status = words.text()?;
    match (request, status.as_str()) {
        (_, "lost") => Ok(Reply::Lost),
        (_, "stale") => Ok(Reply::Stale),
        (Request::Hello(_), "ok") => welcome(words).map(Reply::Hello),
        (Request::Heartbeat(_), "ok") => beat(words).map(Reply::Heartbeat),
        (Request::Claim(_), status) => home(status, words).map(Reply::Claim),
        (Request::Declare(_), "ok") => words.list().and_then(kicks).map(Reply::Declare),
        (Request::Held { .. }, "ok") => held(words),
        (Request::Reap { .. } | Request::Forget { .. }, status) => reaped(status).map(Reply::Reap),
        (Request::Table { .. }, "ok") => words.number().map(|version| Reply::Table(Ok(version))),
        (Request::Table { .. }, "late") => {
            let version = words.number()?;
            Ok(Reply::Table(Err(Table { version, rows: rows(words.list()?)? })))
        }
        _ => Err(Garbled),
    }
}

fn welcome(mut words: Words) -> Result<Welcome, Garbled> {
    Ok(Welcome {
        run: words.text()?,
        table_version: words.number()?,
        assert: words.number()? == 1,
        recovering_ms: words.number()?,
        peers: words.count()?,
    })
}

fn beat(mut words: Words) -> Result<Beat, Garbled> {
    let (version, recovering_ms) = (words.number()?, words.number()?);
    let mut kicks = kicks(words.list()?)?;
    kicks.sort_by(|a, b| a.key.cmp(&b.key)); // a set has no order
    let chores = words.list()?.texts()?.into_iter().map(Incarnation::new).collect();
    let table = match words.next()? {
        Value::Nil => None,
        listed => Some(Table { version, rows: rows(Words::of(listed)?)? }),
    };
    let moves = words.list()?.texts()?.into_iter().map(Key::new).collect();
    Ok(Beat { table_version: version, table, kicks, chores, moves, errands: errands(words.list()?)?, recovering_ms })
}

fn errands(mut words: Words) -> Result<Vec<(u64, String)>, Garbled> {
    let mut errands = Vec::new();
    while let Some(number) = words.0.next() {
        let Value::Int(number) = number else { return Err(Garbled) };
        errands.push((u64::try_from(number).map_err(|_| Garbled)?, words.text()?));
    }
    Ok(errands)
}

fn kicks(words: Words) -> Result<Vec<Kick>, Garbled> {
    words.0.map(kick).collect()
}

fn kick(value: Value) -> Result<Kick, Garbled> {
    let mut words = Words::of(value)?;
    let (key, backend, generation) = (words.text()?, words.backend()?, words.number()?);
    Ok(Kick { key: Key::new(key), backend, generation: Generation(generation) })
}

fn home(status: &str, mut words: Words) -> Result<Home, Garbled> {
    Ok(match status {
        "bound" => Home::Bound { backend: BackendId::new(words.text()?), generation: Generation(words.number()?) },
        "wait" => Home::Wait { ms: words.number()?, reason: reason(&words.text()?)? },
        "limit" => Home::Limit,
        "full" => Home::Full,
        "no_backend" => Home::NoBackend,
        _ => return Err(Garbled),
    })
}

fn reason(word: &str) -> Result<WaitReason, Garbled> {
    match word {
        "recovery" => Ok(WaitReason::Recovery),
        "closing" => Ok(WaitReason::Closing),
        "hold" => Ok(WaitReason::Hold),
        "moving" => Ok(WaitReason::Moving),
        _ => Err(Garbled),
    }
}

fn held(mut words: Words) -> Result<Reply, Garbled> {
    let cursor = words.text()?;
    let mut counts = words.list()?;
    let mut keys = Vec::new();
    while let Some(key) = counts.0.next() {
        keys.push((Key::new(text(key)?), counts.count()?));
    }
    Ok(Reply::Held(keys, (cursor != "0").then_some(cursor)))
}

fn reaped(status: &str) -> Result<Reaped, Garbled> {
    match status {
        "alive" => Ok(Reaped::Alive),
        "orphan" => Ok(Reaped::Orphan),
        "more" => Ok(Reaped::More),
        "gone" => Ok(Reaped::Gone),
        _ => Err(Garbled),
    }
}

/// Rows by the names that stand before them.
pub(super) fn rows(mut words: Words) -> Result<BTreeMap<BackendId, Row>, Garbled> {
    let mut rows = BTreeMap::new();
    while let Some(backend) = words.0.next() {
        let (backend, line) = (BackendId::new(text(backend)?), words.text()?);
        rows.insert(backend, rows::row(&line));
    }
    Ok(rows)
}
