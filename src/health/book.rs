//! What this proxy thinks of every backend. All evidence comes together here: probes, and the attempts of users.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Opinion;
use super::record::{Probed, Record};
use super::rise_fall::Verdict;
use super::window::ErrorRate;
use crate::backend::{Seen, Server, Service, Witness};
use crate::config::HealthConfig;
use crate::model::BackendId;

/// Every backend, by name. Short sections under one lock: a login passes here once.
pub(super) struct Book {
    inner: Mutex<Inner>,
    failing: watch::Sender<Vec<BackendId>>,
    /// Users are told apart by hashes, so that no name is kept.
    hasher: RandomState,
}

struct Inner {
    config: Arc<HealthConfig>,
    turns: Arc<Semaphore>,
    entries: BTreeMap<BackendId, Entry>,
}

struct Entry {
    server: Arc<Server>,
    services: Vec<(Service, Record)>,
    /// The next probe should come soon.
    hurry: Arc<Notify>,
    /// Who probes; `None` if it is not to be probed.
    task: Option<AbortHandle>,
}

/// What a prober is to do.
pub(super) struct Order {
    pub(super) server: Arc<Server>,
    pub(super) config: Arc<HealthConfig>,
    /// Bounds the probes under way.
    pub(super) turns: Arc<Semaphore>,
}

impl Book {
    pub(super) fn new(config: HealthConfig) -> Self {
        let turns = Arc::new(Semaphore::new(config.concurrency));
        let inner = Inner { config: Arc::new(config), turns, entries: BTreeMap::new() };
        let (failing, _) = watch::channel(Vec::new());
        Self { inner: Mutex::new(inner), failing, hasher: RandomState::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces settings and backends. What is known of a backend that stays is kept; `start` sets a prober to work.
    pub(super) fn update<'a>(
        &self,
        config: HealthConfig,
        servers: impl Iterator<Item = &'a Arc<Server>>,
        start: impl Fn(&BackendId, Arc<Notify>) -> AbortHandle,
    ) {
        let mut inner = self.inner();
        if inner.config.concurrency != config.concurrency {
            inner.turns = Arc::new(Semaphore::new(config.concurrency));
        }
        inner.config = Arc::new(config);
        let mut old = std::mem::take(&mut inner.entries);
        for server in servers {
            let mut entry = old.remove(&server.id).unwrap_or_else(|| Entry::new(server.clone()));
            entry.server = server.clone();
            entry.employ(|hurry| start(&server.id, hurry));
            inner.entries.insert(server.id.clone(), entry);
        }
        old.into_values().for_each(|mut entry| entry.dismiss());
        self.publish(&inner);
    }

    /// The settings in force.
    pub(super) fn config(&self) -> HealthConfig {
        HealthConfig::clone(&self.inner().config)
    }

    /// Ends all probes. The last opinions stand.
    pub(super) fn stop(&self) {
        self.inner().entries.values_mut().for_each(Entry::dismiss);
    }

    /// What the prober of a backend is to do; `None` if it is gone.
    pub(super) fn order(&self, backend: &BackendId) -> Option<Order> {
        let inner = self.inner();
        let server = inner.entries.get(backend)?.server.clone();
        Some(Order { server, config: inner.config.clone(), turns: inner.turns.clone() })
    }

    /// Whether the next probe of a backend should come soon.
    pub(super) fn is_in_doubt(&self, backend: &BackendId) -> bool {
        let inner = self.inner();
        inner.entries.get(backend).is_some_and(|entry| entry.services.iter().any(|(_, record)| record.is_in_doubt()))
    }

    /// Takes what a probe has found.
    pub(super) fn probed(&self, backend: &BackendId, service: Service, probed: Probed) {
        self.note(backend, service, |record, config, now| record.probed(probed, config, now));
    }

    /// Names of all that fail.
    pub(super) fn failing(&self) -> watch::Receiver<Vec<BackendId>> {
        self.failing.subscribe()
    }

    /// Everything, in order of names.
    pub(super) fn opinions(&self) -> Vec<Opinion> {
        let (inner, now) = (self.inner(), Instant::now());
        let of_entry = |(backend, entry): (&BackendId, &Entry)| {
            let opinion =
                |(service, record): &(Service, Record)| record.opinion(backend, *service, entry.server.probe, now);
            entry.services.iter().map(opinion).collect::<Vec<_>>()
        };
        inner.entries.iter().flat_map(of_entry).collect()
    }

    /// What share of attempts failed lately, all services together.
    pub(super) fn error_rate(&self, backend: &BackendId) -> Option<ErrorRate> {
        let (inner, now) = (self.inner(), Instant::now());
        let services = &inner.entries.get(backend)?.services;
        let sums = services.iter().map(|(_, record)| record.recent(now));
        ErrorRate::of(sums.fold((0, 0), |(attempts, failures), (more, failed)| (attempts + more, failures + failed)))
    }

    /// Changes a record; says so, once, if the opinion changes with it.
    fn note<T: Default>(
        &self,
        backend: &BackendId,
        service: Service,
        change: impl FnOnce(&mut Record, &HealthConfig, Instant) -> T,
    ) -> T {
        let (mut inner, now) = (self.inner(), Instant::now());
        let config = inner.config.clone();
        let Some(entry) = inner.entries.get_mut(backend) else { return T::default() };
        let Some((_, record)) = entry.services.iter_mut().find(|(known, _)| *known == service) else {
            return T::default();
        };
        let outcome = change(record, &config, now);
        // Without probes nothing could make it fit again.
        if entry.server.probe && record.judge(now) {
            announce(backend, service, record);
            self.publish(&inner);
        }
        outcome
    }

    /// Under the lock, so that the last word is the latest.
    fn publish(&self, inner: &Inner) {
        let failing = inner.entries.iter().filter(|(_, entry)| entry.is_failing(&inner.config.vital));
        let failing: Vec<_> = failing.map(|(backend, _)| backend.clone()).collect();
        self.failing.send_if_modified(|said| {
            let changed = *said != failing;
            *said = failing;
            changed
        });
    }
}

impl Witness for Book {
    fn saw(&self, seen: Seen<'_>) {
        let user = self.hasher.hash_one(seen.user);
        let change =
            |record: &mut Record, config: &HealthConfig, now| record.attempted(user, seen.outcome, config, now);
        if self.note(seen.backend, seen.service, change)
            && let Some(entry) = self.inner().entries.get(seen.backend)
        {
            entry.hurry.notify_one();
        }
    }
}

impl Entry {
    fn new(server: Arc<Server>) -> Self {
        Self { services: records(&server), server, hurry: Arc::default(), task: None }
    }

    /// Whoever has a home there has all services there: one that is vital is missed by all.
    fn is_failing(&self, vital: &[Service]) -> bool {
        let none_is_vital = !self.services.iter().any(|(service, _)| vital.contains(service));
        let mut counted = self.services.iter().filter(|(service, _)| none_is_vital || vital.contains(service));
        counted.any(|(_, record)| record.verdict() == Verdict::Failing)
    }

    /// Sees to it that it is probed exactly if it is to be, by what was said last.
    fn employ(&mut self, start: impl FnOnce(Arc<Notify>) -> AbortHandle) {
        match (self.server.probe, &self.task) {
            (true, None) => self.task = Some(start(self.hurry.clone())),
            (true, Some(_)) => self.hurry.notify_one(),
            (false, _) => {
                self.dismiss();
                self.services = records(&self.server);
            }
        }
    }

    fn dismiss(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

fn records(server: &Server) -> Vec<(Service, Record)> {
    let now = Instant::now();
    server.probed.iter().map(|service| (*service, Record::new(now))).collect()
}

/// The one line about a change of opinion.
fn announce(backend: &BackendId, service: Service, record: &Record) {
    let service = service.word();
    match record.verdict() {
        Verdict::Failing => {
            warn!(%backend, service, error = record.last_words(), "this proxy finds the backend failing");
        }
        Verdict::Fit => info!(%backend, service, "this proxy finds the backend fit again"),
    }
}
