//! What a proxy's file wants the fleet's table to be. Files propose, operators decide: what was set at runtime stands in the
//! row itself and outlives every restart.

use std::collections::BTreeSet;

use super::Rows;
use crate::model::BackendId;
use crate::store::{BackendState, Row};

/// What a file wants and the store was not told yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    /// Rows to have.
    pub(super) rows: Rows,
    /// Rows that the file had and has no more.
    removed: Vec<BackendId>,
    /// At the start: if this proxy is alone, rows of which only other files can know do not count.
    pub(super) first: bool,
}

impl Wish {
    /// A proxy starts with this file.
    pub(super) fn at_start(rows: Rows) -> Self {
        Self { rows, removed: Vec::new(), first: true }
    }

    /// What is wished after the file has changed, while `pending` was not granted yet.
    pub(super) fn of_change(pending: Option<Self>, old: &Rows, new: Rows) -> Self {
        let first = pending.as_ref().is_some_and(|wish| wish.first);
        let gone = old.keys().cloned().chain(pending.into_iter().flat_map(|wish| wish.removed));
        let removed: BTreeSet<BackendId> = gone.filter(|name| !new.contains_key(name)).collect();
        Self { rows: new, removed: removed.into_iter().collect(), first }
    }
}

/// The rows that the store should have. `alone`: no other proxy lives whose file could want more.
pub(super) fn wished(present: &Rows, wish: Option<&Wish>, alone: bool) -> Rows {
    let Some(wish) = wish else { return present.clone() };
    let mut rows = present.clone();
    if wish.first && alone {
        rows.retain(|_, row| is_set(row));
    }
    rows.retain(|name, row| outlives_files(row) || !wish.removed.contains(name));
    rows.extend(wish.rows.iter().map(|(name, row)| (name.clone(), proposed(row, present.get(name)))));
    rows
}

/// A file's row, but for what an operator or the store has said of it.
pub(super) fn proposed(file: &Row, present: Option<&Row>) -> Row {
    let Some(present) = present else { return file.clone() };
    if present.unread.is_some() {
        return present.clone(); // whoever wrote it knows what of it is the file's to say
    }
    Row {
        weight: if present.weight_set { present.weight } else { file.weight },
        state: if present.state_set { present.state } else { file.state },
        pool: file.pool.clone(),
        max_sessions: file.max_sessions,
        ..present.clone()
    }
}

/// `rows`, and those of `others` that it lacks, or of which an operator has said more there: a file was faster to give
/// the store a table than somebody who knew.
pub(super) fn with_missing(rows: &Rows, others: &Rows) -> Rows {
    let mut all = rows.clone();
    for (name, other) in others {
        if all.get(name).is_none_or(|row| is_set(other) && !is_set(row)) {
            all.insert(name.clone(), other.clone());
        }
    }
    all
}

/// An operator has said something of it, or may have.
fn is_set(row: &Row) -> bool {
    row.unread.is_some() || row.weight_set || row.state_set || row.added.is_some() || row.job.is_some()
}

/// It stays although the files that had it have it no more.
fn outlives_files(row: &Row) -> bool {
    row.unread.is_some() || row.added.is_some() || row.state == BackendState::Removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;
    use crate::store::{Job, JobKind};

    fn rows(names: &str) -> Rows {
        names.split_whitespace().map(|name| (BackendId::new(name), Row::default())).collect()
    }

    fn first(names: &str) -> Wish {
        Wish::at_start(rows(names))
    }

    fn with(names: &str, change: impl Fn(&mut Row)) -> Rows {
        let mut rows = rows(names);
        rows.values_mut().for_each(change);
        rows
    }

    fn both(one: Rows, other: Rows) -> Rows {
        one.into_iter().chain(other).collect()
    }

    #[test]
    fn a_proxy_that_is_alone_at_its_start_wants_only_what_its_file_says() {
        assert_eq!(wished(&rows("b1 b2"), Some(&first("b2 b3")), true), rows("b2 b3"));
    }

    #[test]
    fn a_proxy_among_others_keeps_what_only_their_files_have() {
        assert_eq!(wished(&rows("b1 b2"), Some(&first("b2 b3")), false), rows("b1 b2 b3"));
    }

    #[test]
    fn without_a_wish_the_table_stays_as_it_is() {
        let present = with("b1 b2", |row| row.since = 7);
        assert_eq!(wished(&present, None, true), present);
    }

    #[test]
    fn a_change_of_the_file_removes_what_it_had_and_nothing_else() {
        let wish = Wish::of_change(None, &rows("b1 b2"), rows("b2"));
        assert_eq!(wished(&rows("b1 b2 other"), Some(&wish), false), rows("b2 other"));
    }

    #[test]
    fn a_removal_that_the_store_was_not_told_yet_outlives_the_next_change() {
        let wish = Wish::of_change(None, &rows("b1 b2 b3"), rows("b1 b2"));
        let wish = Wish::of_change(Some(wish), &rows("b1 b2"), rows("b1"));
        assert_eq!(wished(&rows("b1 b2 b3 other"), Some(&wish), false), rows("b1 other"));
        let back = Wish::of_change(Some(wish), &rows("b1"), rows("b1 b3"));
        assert_eq!(wished(&rows("b1 b2 b3"), Some(&back), false), rows("b1 b3"));
    }

    #[test]
    fn a_change_before_the_first_answer_of_the_store_leaves_it_the_first() {
        let wish = Wish::of_change(Some(first("b1")), &rows("b1"), rows("b2"));
        assert_eq!(wished(&rows("b1 old"), Some(&wish), true), rows("b2"));
    }

    #[test]
    fn what_the_store_said_of_a_row_is_not_a_difference() {
        let present = with("b1 b2", |row| (row.since, row.failing) = (7, true));
        assert_eq!(wished(&present, Some(&first("b1 b2")), false), present);
    }

    #[test]
    fn what_an_operator_has_set_wins_over_every_file_and_needs_none() {
        let job = Job { kind: JobKind::Evict, since: 5, paused: false, why: String::new() };
        let weight = with("b1", |row| (row.weight, row.weight_set) = (Weight::new(5).unwrap(), true));
        let evicted = with("b2", |row| {
            (row.state, row.state_set, row.job) = (BackendState::Drain, true, Some(job.clone()));
        });
        let removed = with("b3", |row| (row.state, row.state_set) = (BackendState::Removed, true));
        let added = with("b4", |row| row.added = Some("{ host = \"x\" }".to_owned()));
        let present = both(both(weight, evicted), both(removed, added));
        assert_eq!(wished(&present, Some(&first("b1 b2 b3 b4")), true), present, "it wins over the file");
        assert_eq!(wished(&present, Some(&first("b1")), true), present, "and no file needs to have it");
        let heavier = with("b2", |row| row.weight = Weight::new(7).unwrap());
        let row = &wished(&present, Some(&Wish::at_start(heavier)), true)[&BackendId::new("b2")];
        assert_eq!((row.weight.get(), row.state), (7, BackendState::Drain), "the rest is the file's");
    }

    #[test]
    fn what_a_newer_version_wrote_outlives_every_file_of_this_one() {
        let strange: Rows = [(BackendId::new("b1"), Row::unread("v9 asleep"))].into();
        let present = both(strange.clone(), rows("b2"));
        assert_eq!(wished(&present, Some(&first("b1 b2")), true), present, "no file says what it is");
        assert_eq!(wished(&present, Some(&first("b2")), true), present, "and none need to have it");
        let wish = Wish::of_change(None, &rows("b1 b2"), rows("b2"));
        assert_eq!(wished(&present, Some(&wish), false), present, "or takes it away");
        assert_eq!(with_missing(&rows("b1 b2"), &strange), present, "a store that forgot it is told it again");
        let zoned = with("b1", |row| _ = row.others.insert("zone".to_owned(), 7.into()));
        assert_eq!(wished(&zoned, Some(&first("b1")), false), zoned, "nor the fields that it does not know");
    }

    #[test]
    fn a_file_that_drops_what_it_had_drops_it_also_if_it_was_drained_but_not_if_it_was_added_or_removed() {
        let drained = with("b1", |row| (row.state, row.state_set) = (BackendState::Drain, true));
        let removed = with("b2", |row| (row.state, row.state_set) = (BackendState::Removed, true));
        let added = with("b3", |row| row.added = Some("{ host = \"x\" }".to_owned()));
        let wish = Wish::of_change(None, &rows("b1 b2 b3 b4"), rows("b4"));
        let kept = both(both(removed.clone(), added.clone()), rows("b4"));
        assert_eq!(wished(&both(both(drained, removed), both(added, rows("b4"))), Some(&wish), false), kept);
    }

    #[test]
    fn rows_in_force_before_an_amnesia_join_those_that_somebody_gave_the_store_since() {
        let lighter = with("b1 b2", |row| row.weight = Weight::new(5).unwrap());
        let mut before = rows("b2 b3");
        before.extend(with("b1", |row| row.state_set = true));
        let merged = with_missing(&lighter, &before);
        let weights: Vec<_> = merged.iter().map(|(name, row)| (name.as_str(), row.weight.get())).collect();
        assert_eq!(weights, [("b1", 100), ("b2", 5), ("b3", 100)], "what an operator had set is not forgotten");
    }
}
