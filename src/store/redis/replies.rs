//! The answers to orders, decoded in this one place.

use std::collections::BTreeMap;

use redis::Value;

use super::super::order::{Cancelled, Holder, Lock, Locker, Marked, Moved, Order, Outcome, Settled};
use super::super::request::Table;
use super::orders::target;
use super::reply::{Garbled, Words, rows};
use crate::model::{BackendId, Generation, Incarnation};

/// The answer to `order`.
pub(super) fn decode(order: &Order, value: Value) -> Result<Outcome, Garbled> {
    let mut words = Words::of(value)?;
    let status = words.text()?;
    match (order, status.as_str()) {
        (_, "recovering") => words.number().map(Outcome::Recovering),
        (Order::Move(_), status) => moved(status, words).map(Outcome::Move),
        (Order::Settle(_), status) => settled(status, words).map(Outcome::Settle),
        (Order::Mark(_), "ok") => marked(words).map(Outcome::Mark),
        (Order::Table { .. }, "ok") => words.number().map(|version| Outcome::Table(Ok(version))),
        (Order::Table { .. }, "late") => {
            let version = words.number()?;
            Ok(Outcome::Table(Err(Table { version, rows: rows(words.list()?)? })))
        }
        (Order::Copy(_) | Order::Answer { .. }, "ok") => Ok(Outcome::Done),
        (Order::Lift { .. }, "ok") => words.number().map(|lifted| Outcome::Lifted(lifted == 1)),
        (Order::Ask(_), "ok") => Ok(Outcome::Asked { errand: words.number()?, live: live(words)? }),
        (Order::Answers { .. }, "ok") => answers(words),
        _ => Err(Garbled),
    }
}

fn moved(status: &str, mut words: Words) -> Result<Moved, Garbled> {
    Ok(match status {
        "begun" => {
            let (generation, sessions) = (generation(&mut words)?, words.count()?);
            Moved::Begun { generation, sessions, holders: holder_counts(words.list()?)? }
        }
        "done" => Moved::Done { backend: backend(&mut words)?, generation: generation(&mut words)? },
        "changed" => Moved::Changed,
        "busy" => Moved::Busy,
        "unbound" => Moved::Unbound,
        "no_backend" => Moved::NoBackend,
        "later" => Moved::Later(words.number()?),
        _ => return Err(Garbled),
    })
}

fn settled(status: &str, mut words: Words) -> Result<Settled, Garbled> {
    Ok(match status {
        "still" => Settled::Still { backend: words.backend()?, generation: generation(&mut words)? },
        "waiting" => {
            let left_ms = words.number()?;
            Settled::Waiting { holders: holders(words.list()?)?, left_ms }
        }
        "run" => {
            let (from, to) = (backend(&mut words)?, target(&words.text()?).ok_or(Garbled)?);
            Settled::Run { from, to, again: words.number()? == 1 }
        }
        "done" => {
            let (from, backend) = (backend(&mut words)?, backend(&mut words)?);
            Settled::Done { from, backend, generation: generation(&mut words)? }
        }
        "cancelled" => {
            let why = words.text()?;
            let all = [Cancelled::Deadline, Cancelled::Hook, Cancelled::NoBackend];
            let why = all.into_iter().find(|one| one.word() == why).ok_or(Garbled)?;
            Settled::Cancelled { why, holders: holders(words.list()?)? }
        }
        _ => return Err(Garbled),
    })
}

fn marked(mut words: Words) -> Result<Marked, Garbled> {
    let possible = words.number()? == 1;
    Ok(Marked {
        backend: words.backend()?,
        generation: generation(&mut words)?,
        sessions: words.count()?,
        holders: holder_counts(words.list()?)?,
        no_backend: !possible,
        lock: lock(&mut words)?,
    })
}

fn lock(words: &mut Words) -> Result<Option<Lock>, Garbled> {
    let (locker, left_ms) = (words.text()?, words.number()?);
    if locker.is_empty() {
        return Ok(None);
    }
    Ok(Some(Lock { locker: Locker::parse(&locker).ok_or(Garbled)?, left_ms }))
}

fn backend(words: &mut Words) -> Result<BackendId, Garbled> {
    words.text().map(BackendId::new)
}

fn generation(words: &mut Words) -> Result<Generation, Garbled> {
    words.number().map(Generation)
}

/// By incarnation; a hash has no order.
fn holder_counts(mut words: Words) -> Result<Vec<(Incarnation, u32)>, Garbled> {
    let mut holders = BTreeMap::new();
    while let Some(holder) = words.left()? {
        holders.insert(Incarnation::new(holder), words.count()?);
    }
    Ok(holders.into_iter().collect())
}

fn holders(mut words: Words) -> Result<Vec<Holder>, Garbled> {
    let mut holders = Vec::new();
    while let Some(holder) = words.left()? {
        let (incarnation, sessions) = (Incarnation::new(holder), words.count()?);
        holders.push(Holder { incarnation, sessions, orphan: words.number_or_none()? });
    }
    holders.sort_by(|a, b| a.incarnation.cmp(&b.incarnation));
    Ok(holders)
}

fn live(mut words: Words) -> Result<Vec<Incarnation>, Garbled> {
    let mut live: Vec<_> = words.list()?.texts()?.into_iter().map(Incarnation::new).collect();
    live.sort();
    Ok(live)
}

fn answers(mut words: Words) -> Result<Outcome, Garbled> {
    let live = words.list()?.texts()?.into_iter();
    let mut all: BTreeMap<_, _> = live.map(|inc| (Incarnation::new(inc), None)).collect();
    let mut said = words.list()?;
    while let Some(incarnation) = said.left()? {
        all.insert(Incarnation::new(incarnation), Some(said.text()?));
    }
    Ok(Outcome::Answers(all.into_iter().collect()))
}
