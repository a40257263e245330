//! Errands: what every live proxy is to do once and to report on.

use std::collections::BTreeMap;

use super::super::order::{Ask, Outcome};
use super::shard::Shard;
use crate::model::Incarnation;

/// The most errands in the answer to one heartbeat.
const ERRANDS: usize = 10;

/// One errand.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    text: String,
    until: u64,
    answers: BTreeMap<Incarnation, String>,
}

impl Shard {
    pub(super) fn ask(&mut self, ask: &Ask, now: u64) -> Outcome {
        self.errands.retain(|_, errand| errand.until > now);
        // Also beyond what a live proxy has taken on before the store lost its memory: it would take a lower one for done.
        let taken = self.leases.keys().filter_map(|inc| self.proxies.get(inc)).map(|proxy| proxy.errand).max();
        let errand = now.max(self.last_errand.max(taken.unwrap_or(0)).saturating_add(1));
        self.last_errand = errand;
        let new = Errand { text: ask.text.clone(), until: now.saturating_add(ask.ttl), answers: BTreeMap::new() };
        self.errands.insert(errand, new);
        self.nudge_all();
        Outcome::Asked { errand, live: self.leases.keys().cloned().collect() }
    }

    pub(super) fn answer(&mut self, errand: u64, incarnation: &Incarnation, text: &str) -> Outcome {
        if let Some(errand) = self.errands.get_mut(&errand) {
            errand.answers.insert(incarnation.clone(), text.to_owned());
        }
        Outcome::Done
    }

    /// Also of those that have a lease and have not answered; of none, once the errand is forgotten.
    pub(super) fn answers(&self, errand: u64, now: u64) -> Outcome {
        let Some(errand) = self.errands.get(&errand).filter(|errand| errand.until > now) else {
            return Outcome::Answers(Vec::new());
        };
        let silent = self.leases.keys().map(|inc| (inc.clone(), None));
        let said = errand.answers.iter().map(|(inc, text)| (inc.clone(), Some(text.clone())));
        let all: BTreeMap<_, _> = silent.chain(said).collect();
        Outcome::Answers(all.into_iter().collect())
    }

    /// What an incarnation that has taken on all errands up to `taken` has not heard of.
    pub(super) fn errands_after(&self, taken: u64, now: u64) -> Vec<(u64, String)> {
        let new = self.errands.range(taken.saturating_add(1)..).filter(|(_, errand)| errand.until > now);
        new.take(ERRANDS).map(|(number, errand)| (*number, errand.text.clone())).collect()
    }
}
