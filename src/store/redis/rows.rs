//! A line of the backend table as it stands in the store; `lua/include/row.lua` reads its head.
//!
//! What scripts decide by comes first and can be read by one pattern; the rest is JSON behind it, left out if it says
//! nothing: `weight state since failing max_sessions job since paused length pool{json}`, with the pool's length in bytes.
//!
//! While a fleet is upgraded, versions share one table. So what a newer one has written is kept: a field of the JSON that
//! this one does not know as it is, and a line that it cannot read at all as that line ([`Row::unread`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::request::{BackendState, Job, JobKind, Row};
use crate::model::{Pool, Weight};

/// In place of a job's word.
const NO_JOB: &str = "none";

/// What no script needs to know.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Tail {
    #[serde(skip_serializing_if = "is_default")]
    weight_set: bool,
    #[serde(skip_serializing_if = "is_default")]
    state_set: bool,
    #[serde(skip_serializing_if = "is_default")]
    added: Option<String>,
    /// The job's.
    #[serde(skip_serializing_if = "is_default")]
    why: String,
    /// What this version does not know.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A row as it stands in the store.
pub(super) fn text(row: &Row) -> String {
    let Row { weight, pool, state, since, failing, max_sessions, weight_set, state_set, added, job, others, unread } =
        row;
    if let Some(line) = unread {
        return line.clone();
    }
    let (kind, job_since, paused) =
        job.as_ref().map_or((NO_JOB, 0, false), |job| (job.kind.word(), job.since, job.paused));
    let why = job.as_ref().map(|job| job.why.clone()).unwrap_or_default();
    let tail =
        Tail { weight_set: *weight_set, state_set: *state_set, added: added.clone(), why, others: others.clone() };
    // Plain fields, and what was read from JSON: nothing in them that JSON could not say.
    let tail = if is_default(&tail) { String::new() } else { serde_json::to_string(&tail).unwrap_or_default() };
    let (failing, paused, length) = (u8::from(*failing), u8::from(paused), pool.as_str().len());
    let (weight, state) = (weight.get(), state.word());
    format!("{weight} {state} {since} {failing} {max_sessions} {kind} {job_since} {paused} {length} {pool}{tail}")
}

/// A row from the text that it has in the store.
pub(super) fn row(line: &str) -> Row {
    read(line).unwrap_or_else(|| Row::unread(line))
}

fn read(line: &str) -> Option<Row> {
    let mut parts = line.splitn(10, ' ');
    let mut next = || parts.next();
    let weight = Weight::new(next()?.parse().ok()?)?;
    let state = BackendState::from_word(next()?)?;
    let since = next()?.parse().ok()?;
    let failing = next()? == "1";
    let max_sessions = next()?.parse().ok()?;
    let (kind, job_since, paused) = (next()?, next()?.parse().ok()?, next()? == "1");
    let length: usize = next()?.parse().ok()?;
    let (pool, tail) = next()?.split_at_checked(length)?;
    let tail = if tail.is_empty() { Tail::default() } else { serde_json::from_str(tail).ok()? };
    let job = match kind {
        NO_JOB => None,
        word => Some(Job { kind: JobKind::from_word(word)?, since: job_since, paused, why: tail.why }),
    };
    let Tail { weight_set, state_set, added, others, .. } = tail;
    let pool = Pool::new(pool);
    let row = Row { weight, pool, state, since, failing, max_sessions, weight_set, state_set, added, ..Row::default() };
    Some(Row { job, others, ..row })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_as_it_was_written() {
        let job =
            Job { kind: JobKind::Rebalance, since: 1, paused: true, why: "errors at b: \"no\" {\u{7}".to_owned() };
        let full = Row {
            weight: Weight::new(7).unwrap(),
            pool: Pool::new("a pool {of} wörds 3 "),
            state: BackendState::Removed,
            since: 1_700_000_000_000,
            failing: true,
            max_sessions: u32::MAX,
            weight_set: true,
            state_set: true,
            added: Some("{ host = \"ä\", port = 143 }".to_owned()),
            job: Some(job),
            others: [("zone".to_owned(), serde_json::json!({ "name": "ä", "rank": [1, null] }))].into(),
            unread: None,
        };
        for written in [Row::default(), Row { pool: Pool::new(""), ..Row::default() }, full] {
            assert_eq!(row(&text(&written)), written, "{}", text(&written));
        }
        assert_eq!(text(&Row::default()), "100 up 0 0 0 none 0 0 7 default");
    }

    #[test]
    fn a_line_that_this_version_cannot_read_is_kept_as_it_is() {
        for line in [
            "",
            "100 up 0 default",
            "100 up 0 0 0 none 0 0 9 default",
            "1 up 0 0 0 nap 0 0 0 ",
            "1 asleep 0 0 0 none 0 0 0 ",
            "1 up 0 0 0 none 0 0 1 ä",
            "1 up 0 0 0 none 0 0 0 {\"weight_set\":\"twice\"}",
            "v2 {\"weight\":1}",
        ] {
            let row = row(line);
            assert_eq!((row.unread.as_deref(), text(&row).as_str()), (Some(line), line));
            assert!(row.usable() && !row.takes_users(), "who is there stays, and nobody comes: {line}");
        }
    }
}
