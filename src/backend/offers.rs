//! What backends offer in each protocol, as logins and probes see it. Clients are shown what all have in common, before
//! anybody knows at which of them they are at home. Where they differ in a number (`SIZE 1000`), that is the smallest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{BackendId, Protocol};

/// The last word of each backend.
#[derive(Default)]
pub struct Offers(Mutex<BTreeMap<Protocol, Said>>);

#[derive(Default)]
struct Said {
    by: BTreeMap<BackendId, Vec<String>>,
    common: Arc<[String]>,
}

impl Offers {
    /// `backend` has said `lines`; nothing, if its protocol has no such thing.
    pub fn saw(&self, protocol: Protocol, backend: &BackendId, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let mut all = self.all();
        let said = all.entry(protocol).or_default();
        if said.by.get(backend).is_some_and(|known| known == lines) {
            return;
        }
        said.by.insert(backend.clone(), lines.to_vec());
        said.common = common(&said.by);
    }

    /// Backends that are not of the table any more do not count.
    pub fn keep(&self, stays: impl Fn(&BackendId) -> bool) {
        for said in self.all().values_mut() {
            said.by.retain(|backend, _| stays(backend));
            said.common = common(&said.by);
        }
    }

    /// What all of them offer, in the order of the first; empty if none has said anything.
    pub fn common(&self, protocol: Protocol) -> Arc<[String]> {
        self.all().get(&protocol).map(|said| said.common.clone()).unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Protocol, Said>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn common(by: &BTreeMap<BackendId, Vec<String>>) -> Arc<[String]> {
    let mut lists = by.values();
    let Some(first) = lists.next() else { return Arc::default() };
    let others: Vec<_> = lists.collect();
    first.iter().filter_map(|line| others.iter().try_fold(line.clone(), |line, other| shared(&line, other))).collect()
}

/// What of a line is true of another list, too.
fn shared(line: &str, other: &[String]) -> Option<String> {
    if other.iter().any(|known| known == line) {
        return Some(line.to_owned());
    }
    let (name, ours) = counted(line)?;
    let theirs = other.iter().filter_map(|line| counted(line)).find(|(known, _)| known.eq_ignore_ascii_case(name))?.1;
    let least = ours.into_iter().chain(theirs).min();
    Some(least.map_or_else(|| name.to_owned(), |least| format!("{name} {least}")))
}

/// A name and the bound behind it. RFC 1870 section 3: no number, or zero, is no bound.
fn counted(line: &str) -> Option<(&str, Option<u64>)> {
    let (name, number) = line.split_once(' ').unwrap_or((line, "0"));
    let number = number.parse().ok()?;
    Some((name, (number > 0).then_some(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn clients_are_shown_what_all_backends_offer_and_those_that_left_do_not_count() {
        let (offers, [a, b]) = (Offers::default(), ["a", "b"].map(BackendId::new));
        assert!(offers.common(Protocol::Sieve).is_empty());
        offers.saw(Protocol::Sieve, &a, &lines(&["X", "Y", "Z"]));
        offers.saw(Protocol::Sieve, &b, &lines(&["Z", "X"]));
        offers.saw(Protocol::Sieve, &b, &[]);
        assert_eq!(*offers.common(Protocol::Sieve), *lines(&["X", "Z"]));
        assert!(offers.common(Protocol::Submission).is_empty(), "each protocol has its own");
        offers.keep(|backend| *backend != b);
        assert_eq!(*offers.common(Protocol::Sieve), *lines(&["X", "Y", "Z"]));
    }

    #[test]
    fn where_backends_differ_in_a_number_clients_are_shown_the_smallest() {
        for (lists, expected) in [
            (vec!["SIZE 30", "SIZE 9", "SIZE 200"], vec!["SIZE 9"]),
            (vec!["SIZE", "size 30"], vec!["SIZE 30"]),
            (vec!["SIZE 30", "SIZE 0", "SIZE"], vec!["SIZE 30"]),
            (vec!["SIZE 0", "SIZE"], vec!["SIZE"]),
            (vec!["SIZE 30", "EXPIRE 30"], vec![]),
            (vec!["BURL imap", "BURL imap imap://a"], vec![]),
            (vec!["EXPIRE NEVER", "EXPIRE 7"], vec![]),
        ] {
            let offers = Offers::default();
            for (at, list) in lists.iter().enumerate() {
                offers.saw(Protocol::Submission, &BackendId::new(at.to_string()), &lines(&["DSN", list]));
            }
            let expected = [vec!["DSN"], expected].concat();
            assert_eq!(*offers.common(Protocol::Submission), *lines(&expected), "{lists:?}");
        }
    }
}
