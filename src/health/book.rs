//! What this proxy thinks of every backend. All evidence comes together here: probes, and the attempts of users.
//!
//! What it tells the fleet is the whole picture, and only once that is settled. A cause that all backends share, such as
//! this proxy's own network, makes one after the other failing, and one after the other fit again; told one by one, the
//! first (or the last) of them would be given up, as many as `fleet.max_down` allows. So the first sign of a change has all
//! others looked at soon, and nothing is told while one of them is in doubt; told at once, they are too many to be believed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Opinion;
use super::record::{Probed, Record};
use super::rise_fall::Verdict;
use super::window::ErrorRate;
use crate::backend::{Seen, Server, Servers, Witness};
use crate::config::HealthConfig;
use crate::model::{BackendId, Protocol};

/// Every backend, by name. Short sections under one lock: a login passes here once.
pub(super) struct Book {
    inner: Mutex<Inner>,
    /// What the fleet is told.
    failing: watch::Sender<Vec<BackendId>>,
    /// Users are told apart by hashes, so that no name is kept.
    hasher: RandomState,
}

struct Inner {
    config: Arc<HealthConfig>,
    turns: Arc<Semaphore>,
    entries: BTreeMap<BackendId, Entry>,
    /// The first sign of a change that the fleet was not told of yet.
    stirred: Option<Sign>,
}

/// Something has changed, or may be about to.
#[derive(Clone, Copy)]
struct Sign {
    /// Since then.
    at: Instant,
    /// To this. Backends that are so already have nothing to do with it.
    towards: Verdict,
}

struct Entry {
    server: Arc<Server>,
    services: Vec<(Protocol, Record)>,
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
        let inner = Inner { config: Arc::new(config), turns, entries: BTreeMap::new(), stirred: None };
        let (failing, _) = watch::channel(Vec::new());
        Self { inner: Mutex::new(inner), failing, hasher: RandomState::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces backends, and settings if there are new ones. What is known of a backend that stays is kept; `start` sets a
    /// prober to work. `latest` is asked when it is our turn: of two who call at once, the second brings what is newest.
    pub(super) fn update(
        &self,
        config: Option<HealthConfig>,
        latest: impl FnOnce() -> Arc<Servers>,
        start: impl Fn(&BackendId, Arc<Notify>) -> AbortHandle,
    ) {
        let mut inner = self.inner();
        if let Some(config) = config {
            if inner.config.concurrency != config.concurrency {
                inner.turns = Arc::new(Semaphore::new(config.concurrency));
            }
            inner.config = Arc::new(config);
        }
        let servers = latest();
        let mut old = std::mem::take(&mut inner.entries);
        for server in servers.all() {
            let mut entry = old.remove(&server.id).unwrap_or_else(|| Entry::new(server.clone()));
            entry.server = server.clone();
            entry.employ(|hurry| start(&server.id, hurry));
            inner.entries.insert(server.id.clone(), entry);
        }
        old.into_values().for_each(|mut entry| entry.dismiss());
        // Those that are gone or not probed any more can be left out at once.
        let counts = |name: &BackendId| inner.entries.get(name).is_some_and(|entry| entry.server.probe);
        let said = self.failing.borrow().iter().filter(|name| counts(name)).cloned().collect();
        self.tell(said);
        self.settle(&mut inner, Instant::now());
    }

    /// Whom probes log in.
    pub(super) fn probe_user(&self) -> Option<String> {
        self.inner().config.login.as_ref().map(|login| login.user.clone())
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
    pub(super) fn probed(&self, backend: &BackendId, service: Protocol, probed: Probed) {
        let refused = self.note(backend, service, |record, config, now| record.probed(probed, config, now));
        if refused {
            let service = service.word();
            warn!(
                %backend,
                service,
                "the backend greets, and refuses the login of our probes: correct probe_user and probe_password in [health], \
                 or master_user in [backend.{backend}]; until then probes see no more than the greeting"
            );
        }
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
                |(service, record): &(Protocol, Record)| record.opinion(backend, *service, entry.server.probe, now);
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
        service: Protocol,
        change: impl FnOnce(&mut Record, &HealthConfig, Instant) -> T,
    ) -> T {
        let (mut inner, now) = (self.inner(), Instant::now());
        let config = inner.config.clone();
        let Some(entry) = inner.entries.get_mut(backend) else { return T::default() };
        let Some((_, record)) = entry.services.iter_mut().find(|(known, _)| *known == service) else {
            return T::default();
        };
        let doubted = record.is_in_doubt();
        let outcome = change(record, &config, now);
        // Without probes nothing could make it fit again.
        if entry.server.probe {
            let changed = record.judge(now);
            if changed {
                announce(backend, service, record);
            }
            if changed || record.is_in_doubt() && !doubted {
                let towards = if changed { record.verdict() } else { record.leaning() };
                inner.stir(backend, Sign { at: now, towards });
            }
        }
        self.settle(&mut inner, now);
        outcome
    }

    /// Tells the fleet what has changed, if the picture is whole. Not that a backend which never comes to an end of its
    /// doubts should keep all others from being told of: it is waited for as long as certainty may take.
    fn settle(&self, inner: &mut Inner, now: Instant) {
        let Some(stirred) = inner.stirred else { return };
        let overdue = now.saturating_duration_since(stirred.at) >= certainty(&inner.config);
        if overdue || inner.entries.values().all(|entry| entry.is_settled(stirred)) {
            inner.stirred = None;
            let failing = inner.entries.iter().filter(|(_, entry)| entry.is_failing(&inner.config.vital));
            self.tell(failing.map(|(backend, _)| backend.clone()).collect());
        }
    }

    /// Called under the lock, so that the last word is the latest.
    fn tell(&self, failing: Vec<BackendId>) {
        self.failing.send_if_modified(|said| {
            let changed = *said != failing;
            *said = failing;
            changed
        });
    }
}

impl Inner {
    /// Something may be about to change at a backend: are the others concerned?
    fn stir(&mut self, backend: &BackendId, sign: Sign) {
        if self.stirred.is_none() {
            self.stirred = Some(sign);
            let others = self.entries.iter().filter(|(name, _)| *name != backend);
            others.for_each(|(_, entry)| entry.hurry.notify_one());
        }
    }
}

/// The longest that it takes to be certain of a backend once it is in doubt, and of those that are looked at because of it.
fn certainty(config: &HealthConfig) -> Duration {
    let look = config.timeout + config.fast_interval.saturating_mul(2);
    look.saturating_mul(config.fall.max(config.rise).saturating_add(1))
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
    fn is_failing(&self, vital: &[Protocol]) -> bool {
        let none_is_vital = !self.services.iter().any(|(service, _)| vital.contains(service));
        let mut counted = self.services.iter().filter(|(service, _)| none_is_vital || vital.contains(service));
        counted.any(|(_, record)| record.verdict() == Verdict::Failing)
    }

    /// Nothing more is to be learnt of it soon: no service is in doubt, and each has been looked at since, has changed, or
    /// was so before. That another service of the same server has been looked at says nothing of it.
    fn is_settled(&self, stirred: Sign) -> bool {
        let certain = |(_, record): &(Protocol, Record)| {
            let looked = record.was_looked_at_since(stirred.at);
            !record.is_in_doubt() && (looked || record.since() >= stirred.at || record.verdict() == stirred.towards)
        };
        !self.server.probe || self.services.iter().all(certain)
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

fn records(server: &Server) -> Vec<(Protocol, Record)> {
    let now = Instant::now();
    server.probed.iter().map(|service| (*service, Record::new(now))).collect()
}

/// The one line about a change of opinion.
fn announce(backend: &BackendId, service: Protocol, record: &Record) {
    let service = service.word();
    match record.verdict() {
        Verdict::Failing => {
            warn!(%backend, service, error = record.last_words(), "this proxy finds the backend failing");
        }
        Verdict::Fit => info!(%backend, service, "this proxy finds the backend fit again"),
    }
}
