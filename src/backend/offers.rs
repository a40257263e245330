//! What backends offer in each protocol, as logins and probes see it. Clients are shown what all have in common, before
//! anybody knows at which of them they are at home.

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
    first.iter().filter(|line| others.iter().all(|other| other.contains(line))).cloned().collect()
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
}
