//! A key's home, marks, move and history, as operators see them.

use super::orders::target;
use super::view::{Fields, count, counts_behind, number};
use crate::model::{BackendId, Generation, Incarnation};
use crate::store::{BindingView, HookState, Lock, Locker, MovingView, Past};

/// What the binding's hash and its history say; `None` if they say nothing (any more).
pub(super) fn view(fields: &Fields, past: &[String], now: u64, remember: u64) -> Option<BindingView> {
    let backend = fields.get("be").filter(|_| !is_forgotten(fields, now, remember)).map(BackendId::new);
    let marks = BindingView {
        pin: fields.get("pin").map(BackendId::new),
        hold_ms: hold_ms(fields, now),
        lock: lock(fields, now),
        past: past.iter().filter_map(|line| former(line)).filter(|past| past.until.0 + remember > now).collect(),
        ..BindingView::default()
    };
    if backend.is_none() {
        return (marks.pin.is_some() || marks.hold_ms.is_some() || marks.lock.is_some()).then_some(marks);
    }
    let holders = counts_behind(fields, "h:").into_iter();
    Some(BindingView {
        backend,
        generation: Generation(number(fields, "gen")),
        sessions: count(fields, "n"),
        holders: holders.map(|(name, held)| (Incarnation::new(name), held)).collect(),
        idle_ms: idle(fields).map(|idle| now.saturating_sub(idle)),
        unproven: fields.contains_key("unproven"),
        moving: moving(fields, now),
        ..marks
    })
}

fn idle(fields: &Fields) -> Option<u64> {
    fields.get("idle").and_then(|idle| idle.parse().ok())
}

/// As `lua/include/fetch.lua` has it.
fn is_forgotten(fields: &Fields, now: u64, remember: u64) -> bool {
    let idle_for_long = idle(fields).is_some_and(|idle| idle + remember <= now);
    count(fields, "n") == 0 && idle_for_long && !fields.contains_key("to")
}

fn hold_ms(fields: &Fields, now: u64) -> Option<u64> {
    match fields.get("hold")?.parse().ok()? {
        0 => Some(0),
        until => (until > now).then(|| until - now),
    }
}

fn lock(fields: &Fields, now: u64) -> Option<Lock> {
    let left_ms = number(fields, "lock").checked_sub(now).filter(|left| *left > 0)?;
    Some(Lock { locker: Locker::parse(fields.get("locker")?)?, left_ms })
}

fn moving(fields: &Fields, now: u64) -> Option<MovingView> {
    let hook = match fields.get("hook").map(String::as_str) {
        None => HookState::None,
        Some("pending") => HookState::Pending,
        Some(_) => HookState::Running,
    };
    let to = target(fields.get("to")?)?;
    Some(MovingView { to, left_ms: number(fields, "deadline").saturating_sub(now), hook })
}

/// A former home from its text in the store, which `lua/include/note_past.lua` writes.
fn former(line: &str) -> Option<Past> {
    let mut parts = line.splitn(4, ' ');
    let generation = Generation(parts.next()?.parse().ok()?);
    let until = Generation(parts.next()?.parse().ok()?);
    let why = parts.next()?.to_owned();
    Some(Past { backend: BackendId::new(parts.next()?), generation, until, why })
}
