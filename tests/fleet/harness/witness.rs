//! Sees what the backends see: which of them has open sessions of a key, at every instant.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homing::ledger::Place;
use homing::model::{BackendId, Key};

/// Swears that no key has sessions at two backends.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// Live sessions: who has them, and where.
    live: HashMap<Key, Vec<(u64, String, Place)>>,
    astray: Vec<String>,
    visits: u64,
}

/// An open session at a backend.
pub struct Visit {
    witness: Witness,
    key: Key,
    number: u64,
}

impl Witness {
    /// A session opens. Sets of backends grow only here, so here is where two homes show.
    pub fn enter(&self, key: &Key, place: &Place, who: &str) -> Visit {
        let mut seen = self.seen();
        seen.visits += 1;
        let number = seen.visits;
        let live = seen.live.entry(key.clone()).or_default();
        let other = live.iter().find(|(_, _, at)| at.backend != place.backend);
        let astray =
            other.map(|(_, whose, at)| format!("{key} at {place:?} through {who}, while at {at:?} through {whose}"));
        live.push((number, who.to_owned(), place.clone()));
        seen.astray.extend(astray);
        Visit { witness: self.clone(), key: key.clone(), number }
    }

    /// I1.
    #[track_caller]
    pub fn swears_one_home(&self) {
        let seen = self.seen();
        assert!(seen.astray.is_empty(), "{} sessions, two homes: {:#?}", seen.visits, seen.astray);
    }

    /// Sessions per key and per backend now.
    pub fn now(&self) -> (BTreeMap<Key, u32>, BTreeMap<BackendId, u32>) {
        let (mut keys, mut backends) = (BTreeMap::new(), BTreeMap::new());
        for (key, live) in &self.seen().live {
            for (_, _, place) in live {
                *keys.entry(key.clone()).or_default() += 1;
                *backends.entry(place.backend.clone()).or_default() += 1;
            }
        }
        (keys, backends)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(live) = self.witness.seen().live.get_mut(&self.key) {
            live.retain(|(number, ..)| *number != self.number);
        }
    }
}
