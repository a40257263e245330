//! What operators can do to the backend table. They have the last word: what they set is marked as such in the row, wins over
//! the files, and outlives every proxy. Pure; `in_force.rs` brings it about.

use super::Rows;
use super::wish::proposed;
use crate::backend::added_row;
use crate::model::{BackendId, Weight};
use crate::store::{BackendState, Job, JobKind, Row};

/// A change of some backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which. A flush or rebalance of none is one of all.
    pub backends: Vec<BackendId>,
    /// What becomes of them.
    pub verb: Verb,
}

/// What becomes of a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// It comes to the fleet: with these settings, one line as `Config::added_line` makes it; or, without, comes back
    /// after its removal, as this proxy's file has it.
    Add(Option<String>),
    /// It leaves the fleet, whatever files say.
    Remove,
    /// It takes users.
    Up,
    /// It takes no new users.
    Drain,
    /// It takes nobody, and its sessions end.
    Down,
    /// It gets that share of new users.
    Weight(Weight),
    /// What operators have set is forgotten: it is what files say.
    Reset,
    /// Bulk work begins.
    Begin(JobKind),
    /// Its bulk work rests.
    Pause,
    /// It goes on.
    Resume,
    /// It ends as it is.
    Abort,
}

impl Verb {
    /// What an operator means who says `word`, with an argument where there is one: settings, or a weight.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_words(word: &str, argument: Option<&str>) -> Result<Self, String> {
        let weight = || {
            let number = argument.and_then(|text| text.parse().ok()).and_then(Weight::new);
            number.ok_or_else(|| "a weight is a number from 0 to 10000".to_owned())
        };
        Ok(match word {
            "add" => Self::Add(argument.map(str::to_owned)),
            "remove" => Self::Remove,
            "up" => Self::Up,
            "drain" => Self::Drain,
            "down" => Self::Down,
            "weight" => Self::Weight(weight()?),
            "reset" => Self::Reset,
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "abort" => Self::Abort,
            _ => {
                Self::Begin(JobKind::from_word(word).ok_or_else(|| format!("{word:?} is nothing to do to a backend"))?)
            }
        })
    }

    /// Whether it may be said of all backends at once.
    fn fits_all(&self) -> bool {
        matches!(self, Self::Begin(JobKind::Flush | JobKind::Rebalance) | Self::Pause | Self::Resume | Self::Abort)
    }
}

impl Change {
    /// The rows after the change, with what the operator should know beside; `file` has the rows of this proxy's file.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn apply(&self, rows: &Rows, file: &Rows) -> Result<(Rows, Vec<String>), String> {
        let (mut after, mut notes) = (rows.clone(), Vec::new());
        if self.backends.is_empty() && !self.verb.fits_all() {
            return Err("say which backend".to_owned());
        }
        for name in self.meant(rows) {
            let row = edited(&name, &self.verb, rows.get(&name), file.get(&name), &mut notes)?;
            match row {
                Some(row) => after.insert(name, row),
                None => after.remove(&name),
            };
        }
        Ok((after, notes))
    }

    /// Those that are named; of bulk work for all, those that it can be done to.
    pub(super) fn meant(&self, rows: &Rows) -> Vec<BackendId> {
        let fit = |row: &Row| match self.verb {
            Verb::Begin(JobKind::Rebalance) => row.takes_users(),
            Verb::Begin(_) => row.usable() && row.unread.is_none(),
            _ => row.job.is_some(),
        };
        if !self.backends.is_empty() {
            return self.backends.clone();
        }
        rows.iter().filter(|(_, row)| fit(row)).map(|(name, _)| name.clone()).collect()
    }
}

fn edited(
    name: &BackendId,
    verb: &Verb,
    row: Option<&Row>,
    file: Option<&Row>,
    notes: &mut Vec<String>,
) -> Result<Option<Row>, String> {
    if let Verb::Add(settings) = verb {
        return add(name, settings.as_deref(), row, file).map(Some);
    }
    let row = row.ok_or_else(|| format!("there is no backend {name}"))?;
    if row.unread.is_some() {
        return Err(format!(
            "the table's row of {name} was written by a newer version of homing, and this proxy cannot read it: ask a proxy \
             of that version"
        ));
    }
    if matches!(verb, Verb::Reset) {
        return reset(name, row, file, notes);
    }
    if row.state == BackendState::Removed {
        return match verb {
            Verb::Remove => Ok(Some(row.clone())),
            _ => Err(format!("{name} is removed; bring it back with `homing backend add {name}` or `reset {name}`")),
        };
    }
    let mut row = row.clone();
    match verb {
        Verb::Up => {
            row = set_state(Row { job: row.job.filter(|job| job.kind != JobKind::Evict), ..row }, BackendState::Up)
        }
        Verb::Drain => row = set_state(row, BackendState::Drain),
        Verb::Down => row = set_state(Row { job: None, ..row }, BackendState::Down),
        Verb::Remove => row = removed(row),
        Verb::Weight(weight) => (row.weight, row.weight_set) = (*weight, true),
        Verb::Begin(kind) => begin(name, *kind, &mut row)?,
        Verb::Pause => *paused(name, &mut row)? = true,
        Verb::Resume => *paused(name, &mut row)? = false,
        Verb::Abort => abort(name, &mut row, notes)?,
        Verb::Add(_) | Verb::Reset => {} // dealt with above
    }
    Ok(Some(row))
}

fn set_state(row: Row, state: BackendState) -> Row {
    Row { state, state_set: true, ..row }
}

fn removed(row: Row) -> Row {
    set_state(Row { job: None, added: None, ..row }, BackendState::Removed)
}

fn add(name: &BackendId, settings: Option<&str>, row: Option<&Row>, file: Option<&Row>) -> Result<Row, String> {
    if row.is_some_and(|row| row.state != BackendState::Removed) {
        return Err(format!("there is a backend {name} already"));
    }
    match (settings, file) {
        (Some(_), Some(_)) => Err(format!(
            "[backend.{name}] stands in this proxy's file: leave the settings out, or take it from the file"
        )),
        (Some(line), None) => added_row(name, line),
        (None, Some(file)) => Ok(file.clone()),
        (None, None) => Err(format!(
            "{name} is not in this proxy's file: say where it is, such as host=mail3.example.org, or ask a proxy whose \
             file has it"
        )),
    }
}

fn reset(name: &BackendId, row: &Row, file: Option<&Row>, notes: &mut Vec<String>) -> Result<Option<Row>, String> {
    let plain = Row { state_set: false, weight_set: false, job: None, ..row.clone() };
    match (file, &row.added) {
        (Some(file), _) => Ok(Some(Row { added: None, ..proposed(file, Some(&plain)) })),
        (None, Some(line)) => Ok(Some(proposed(&added_row(name, line)?, Some(&plain)))),
        (None, None) if row.state == BackendState::Removed => {
            notes.push(format!(
                "{name} is forgotten: a proxy whose file has it brings it back when it starts or reloads"
            ));
            Ok(None)
        }
        (None, None) => Err(format!("{name} is not in this proxy's file: ask a proxy whose file has it")),
    }
}

fn begin(name: &BackendId, kind: JobKind, row: &mut Row) -> Result<(), String> {
    if let Some(job) = row.job.as_ref().filter(|job| job.kind != kind) {
        return Err(format!("the {} of {name} is under way; abort that first", job.kind.word()));
    }
    match kind {
        JobKind::Evict => (row.state, row.state_set) = (BackendState::Drain, true),
        JobKind::Flush if row.usable() => {}
        JobKind::Rebalance if row.takes_users() => {}
        JobKind::Flush => return Err(format!("{name} has no users: it is down")),
        JobKind::Rebalance => return Err(format!("{name} has no share of the users: it takes none")),
    }
    let since = row.job.as_ref().map_or(0, |job| job.since);
    row.job = Some(Job { kind, since, paused: false, why: String::new() });
    Ok(())
}

/// Whether its job rests; whoever changes that takes the reason away.
fn paused<'a>(name: &BackendId, row: &'a mut Row) -> Result<&'a mut bool, String> {
    let job = row.job.as_mut().ok_or_else(|| idle(name))?;
    job.why.clear();
    Ok(&mut job.paused)
}

fn abort(name: &BackendId, row: &mut Row, notes: &mut Vec<String>) -> Result<(), String> {
    let job = row.job.take().ok_or_else(|| idle(name))?;
    if job.kind == JobKind::Evict {
        notes.push(format!("{name} stays drained; `homing backend up {name}` lets it take users again"));
    }
    Ok(())
}

fn idle(name: &BackendId) -> String {
    format!("nothing is under way at {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a";

    fn rows(names: &str) -> Rows {
        names.split_whitespace().map(|name| (BackendId::new(name), Row::default())).collect()
    }

    fn apply(verb: Verb, rows: &Rows, file: &str) -> Result<(Rows, Vec<String>), String> {
        Change { backends: vec![BackendId::new(A)], verb }.apply(rows, &self::rows(file))
    }

    /// The row of "a" after these, one after the other.
    fn after(verbs: &[Verb], file: &str) -> Row {
        let mut now = rows("a b");
        for verb in verbs {
            now = apply(verb.clone(), &now, file).unwrap().0;
        }
        now.remove(&BackendId::new(A)).unwrap()
    }

    #[test]
    fn what_is_set_is_marked_so_that_no_file_undoes_it_until_it_is_reset() {
        for (verb, state) in [
            (Verb::Drain, BackendState::Drain),
            (Verb::Down, BackendState::Down),
            (Verb::Remove, BackendState::Removed),
        ] {
            let row = after(std::slice::from_ref(&verb), "a");
            assert_eq!((row.state, row.state_set), (state, true));
            assert_eq!(after(&[verb, Verb::Reset], "a"), Row::default());
        }
        let row = after(&[Verb::Weight(Weight::new(7).unwrap())], "a");
        assert_eq!((row.weight.get(), row.weight_set), (7, true));
    }

    #[test]
    fn a_removed_backend_comes_back_only_by_add_or_reset() {
        let gone = apply(Verb::Remove, &rows("a b"), "a").unwrap().0;
        for verb in [Verb::Up, Verb::Drain, Verb::Down, Verb::Begin(JobKind::Evict)] {
            assert!(apply(verb, &gone, "a").unwrap_err().contains("removed"));
        }
        assert_eq!(apply(Verb::Add(None), &gone, "a").unwrap().0, rows("a b"));
        assert!(apply(Verb::Add(None), &gone, "").unwrap_err().contains("host="));
        let (forgotten, notes) = apply(Verb::Reset, &gone, "").unwrap();
        assert_eq!(forgotten, rows("b"));
        assert!(notes[0].contains("forgotten"));
    }

    #[test]
    fn an_added_backend_carries_its_settings_and_none_may_be_there_already() {
        let line = "{ host = \"mail3\", weight = 5, drain = true }".to_owned();
        let (added, _) = apply(Verb::Add(Some(line.clone())), &rows("b"), "").unwrap();
        let row = &added[&BackendId::new(A)];
        assert_eq!((row.weight.get(), row.state, row.added.as_ref()), (5, BackendState::Drain, Some(&line)));
        assert!(apply(Verb::Add(Some(line.clone())), &added, "").unwrap_err().contains("already"));
        assert!(apply(Verb::Add(Some(line)), &rows("b"), "a").unwrap_err().contains("this proxy's file"));
        let up = apply(Verb::Up, &added, "").unwrap().0;
        assert_eq!(apply(Verb::Reset, &up, "").unwrap().0, added, "its settings are what it is reset to");
    }

    #[test]
    fn an_evicted_backend_stays_drained_until_it_is_up_and_jobs_do_not_mix() {
        let evict = Verb::Begin(JobKind::Evict);
        let row = after(std::slice::from_ref(&evict), "a");
        assert_eq!((row.state, row.job.map(|job| job.kind)), (BackendState::Drain, Some(JobKind::Evict)));
        let row = after(&[evict.clone(), Verb::Up], "a");
        assert_eq!((row.state, row.job), (BackendState::Up, None));
        let row = after(&[evict.clone(), Verb::Abort], "a");
        assert_eq!((row.state, row.job), (BackendState::Drain, None));
        let evicted = apply(evict, &rows("a b"), "a").unwrap().0;
        assert!(apply(Verb::Begin(JobKind::Flush), &evicted, "a").unwrap_err().contains("abort"));
        assert!(apply(Verb::Begin(JobKind::Rebalance), &apply(Verb::Drain, &rows("a"), "a").unwrap().0, "a").is_err());
    }

    #[test]
    fn pause_and_resume_need_something_to_rest_and_clear_its_reason() {
        assert!(apply(Verb::Pause, &rows("a"), "a").unwrap_err().contains("nothing is under way"));
        let mut now = apply(Verb::Begin(JobKind::Flush), &rows("a b"), "a").unwrap().0;
        let job = now.get_mut(&BackendId::new(A)).unwrap().job.as_mut().unwrap();
        (job.paused, job.why) = (true, "b fails".to_owned());
        let job = apply(Verb::Resume, &now, "a").unwrap().0.remove(&BackendId::new(A)).unwrap().job.unwrap();
        assert_eq!((job.paused, job.why.as_str()), (false, ""));
        let all = Change { backends: Vec::new(), verb: Verb::Abort }.apply(&now, &rows("")).unwrap().0;
        assert_eq!(all, rows("a b"));
    }

    #[test]
    fn what_a_newer_version_wrote_is_carried_over_and_cannot_be_changed_unless_it_was_understood() {
        let mut now = rows("a b c");
        now.insert(BackendId::new("c"), Row::unread("v9 asleep"));
        now.get_mut(&BackendId::new("b")).unwrap().others.insert("zone".to_owned(), 7.into());
        for verb in [Verb::Drain, Verb::Remove, Verb::Reset, Verb::Begin(JobKind::Evict), Verb::Add(None)] {
            let change = Change { backends: vec![BackendId::new("c")], verb: verb.clone() };
            let refused = change.apply(&now, &rows("c")).unwrap_err();
            assert!(refused.contains("newer version") || verb == Verb::Add(None), "{refused}");
        }
        for change in [
            Change { backends: vec![BackendId::new("b")], verb: Verb::Drain },
            Change { backends: Vec::new(), verb: Verb::Begin(JobKind::Flush) },
        ] {
            let after = change.apply(&now, &rows("")).unwrap().0;
            assert_eq!(after[&BackendId::new("c")], Row::unread("v9 asleep"));
            assert_eq!(after[&BackendId::new("b")].others, now[&BackendId::new("b")].others);
        }
    }

    #[test]
    fn a_rebalance_of_all_is_one_of_those_that_take_users() {
        let drained = apply(Verb::Drain, &rows("a b c"), "a").unwrap().0;
        let change = Change { backends: Vec::new(), verb: Verb::Begin(JobKind::Rebalance) };
        let after = change.apply(&drained, &rows("")).unwrap().0;
        let at: Vec<_> = after.iter().filter(|(_, row)| row.job.is_some()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(at, ["b", "c"]);
    }
}
