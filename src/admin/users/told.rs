//! Reports of the rooms as they go over the wire.

use std::time::Duration;

use super::super::wire;
use crate::model::BackendId;
use crate::placement::{MarkReport, MigrationReport, MoveEnd, MoveReport, Who};
use crate::store::{BindingView, MovingView};

pub(super) fn moved(report: MoveReport) -> wire::Moved {
    let (end, why) = match report.end {
        MoveEnd::Done => ("done", None),
        MoveEnd::Begun => ("begun", None),
        MoveEnd::Cancelled(why) => ("cancelled", Some(why)),
        MoveEnd::Unknown(why) => ("unknown", Some(why)),
    };
    let backend_let_go = report.quiet.as_ref().map(Result::is_ok);
    let why = why.or_else(|| report.quiet.and_then(Result::err));
    let left: u32 = report.left.iter().map(|who| who.sessions).sum();
    wire::Moved {
        key: report.key.to_string(),
        from: name(report.from.as_ref()),
        home: name(report.home.as_ref()),
        end: end.to_owned(),
        why,
        backend_let_go,
        proxies: report.proxies,
        confirmed: report.proxies.saturating_sub(report.left.len()),
        closed: report.sessions.saturating_sub(left),
        left: report.left.iter().map(holder).collect(),
        ms: ms(report.took),
    }
}

pub(super) fn marked(report: MarkReport) -> wire::Marked {
    wire::Marked {
        key: report.key.to_string(),
        home: name(report.home.as_ref()),
        holders: report.holders.iter().map(holder).collect(),
        moved: report.moved.map(moved),
    }
}

pub(super) fn migrated(report: MigrationReport) -> wire::Migrated {
    let (failed, why) = report.failed.map(|(step, why)| (step.word().to_owned(), why)).unzip();
    wire::Migrated {
        key: report.key.to_string(),
        from: name(report.from.as_ref()),
        home: name(report.home.as_ref()),
        failed,
        why,
        closed: report.closed,
        left: report.left.iter().map(holder).collect(),
        ms: ms(report.took),
    }
}

pub(super) fn holder(who: &Who) -> wire::Holder {
    wire::Holder {
        proxy: who.name.clone(),
        incarnation: who.incarnation.to_string(),
        sessions: who.sessions,
        orphan_ms: who.orphan_ms,
    }
}

pub(super) fn home(binding: &BindingView, holders: &[Who]) -> Option<wire::Home> {
    Some(wire::Home {
        backend: binding.backend.as_ref()?.to_string(),
        generation: binding.generation.0,
        sessions: binding.sessions,
        holders: holders.iter().map(holder).collect(),
        idle_s: binding.idle_ms.map(|ms| ms / 1000),
    })
}

pub(super) fn marks(binding: &BindingView) -> wire::Marks {
    let moving = |moving: &MovingView| moving.to.to_string();
    wire::Marks {
        pin: name(binding.pin.as_ref()),
        hold_ms: binding.hold_ms,
        locked_by: binding.lock.as_ref().map(|lock| lock.locker.incarnation.to_string()),
        locked_ms: binding.lock.as_ref().map(|lock| lock.left_ms),
        moving: binding.moving.as_ref().map(moving),
        moving_left_ms: binding.moving.as_ref().map(|moving| moving.left_ms),
        hook: binding.moving.as_ref().map(|moving| format!("{:?}", moving.hook).to_lowercase()),
    }
}

fn name(backend: Option<&BackendId>) -> Option<String> {
    backend.map(ToString::to_string)
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
