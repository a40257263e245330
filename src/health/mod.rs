//! Which mail servers are fit, as this proxy sees them. Its opinion is one vote: whether a backend is down, the store
//! decides by what all proxies say.
//!
//! Evidence comes from two sides. `probe.rs` looks at each backend from time to time, on the road that a login takes; and
//! [`Health::witness`] is told by `backend` how the attempts of users go. `record.rs` weighs both for one service of one
//! backend: `rise_fall.rs` counts rows of good and bad probes, `logins.rs` sees what probes that do not log in cannot see,
//! `window.rs` has the error rate of the last seconds. `book.rs` holds all records, says when an opinion changes, and tells
//! the fleet when the picture is whole.

mod book;
mod logins;
mod probe;
mod record;
mod rise_fall;
mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::backend::{Servers, Witness};
use crate::config::HealthConfig;
use crate::model::{BackendId, Protocol};
use book::Book;
pub use probe::{Prober, Visitor};
pub use rise_fall::Verdict;
pub use window::ErrorRate;

/// What this proxy thinks of every backend. Probes end when it is dropped.
pub struct Health {
    book: Arc<Book>,
    prober: Arc<dyn Prober>,
}

/// What this proxy thinks of one service of one backend, and why.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// Which backend.
    pub backend: BackendId,
    /// Which service.
    pub service: Protocol,
    /// It is probed; if not, the verdict never changes.
    pub probed: bool,
    /// The opinion.
    pub verdict: Verdict,
    /// For how long it has been so.
    pub lasting: Duration,
    /// Good probes since the last bad one.
    pub good: u32,
    /// Bad probes since the last good one.
    pub bad: u32,
    /// Logins of several users failed in a row, behind what probes see.
    pub logins_failing: bool,
    /// What failed last, in a probe or for a user, however long ago.
    pub last_failure: Option<LastFailure>,
    /// How long the last good probe took.
    pub last_probe: Option<Duration>,
    /// Attempts of users since this proxy started.
    pub traffic: Traffic,
    /// What share of them failed in the last seconds, temporary refusals included.
    pub error_rate: Option<ErrorRate>,
}

/// Something that failed.
#[derive(Clone, Debug)]
pub struct LastFailure {
    /// In words, one line.
    pub words: String,
    /// How long ago.
    pub ago: Duration,
}

/// How many attempts of users went how. Several may belong to one login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The user got in; by LMTP, the backend has said what became of the mail.
    pub logins: u64,
    /// The backend refused the user, as it does with a wrong password.
    pub refused: u64,
    /// It refused the user for now.
    pub postponed: u64,
    /// The backend could not be used.
    pub failures: u64,
}

impl Health {
    /// Begins to probe the backends.
    pub fn start(config: &HealthConfig, servers: Arc<Servers>, prober: Arc<dyn Prober>) -> Self {
        let health = Self { book: Arc::new(Book::new(config.clone())), prober };
        health.renew(None, || servers);
        health
    }

    /// Settings or backends have changed. What is known of a backend that stays is kept. `latest` has the backends that are
    /// in force when it is asked: others may be changing them at this moment.
    pub fn update(&self, config: &HealthConfig, latest: impl FnOnce() -> Arc<Servers>) {
        self.renew(Some(config.clone()), latest);
    }

    /// Other backends are there; the settings are what they were.
    pub fn follow(&self, latest: impl FnOnce() -> Arc<Servers>) {
        self.renew(None, latest);
    }

    fn renew(&self, config: Option<HealthConfig>, latest: impl FnOnce() -> Arc<Servers>) {
        let start = |backend: &BackendId, hurry| {
            let watching = probe::keep_watch(self.book.clone(), backend.clone(), self.prober.clone(), hurry);
            tokio::spawn(watching).abort_handle()
        };
        self.book.update(config, latest, start);
    }

    /// Ends all probes; the last opinions stand.
    pub fn stop(&self) {
        self.book.stop();
    }

    /// The backends that this proxy calls failing before the fleet, by name: its opinions as they were when it was last
    /// certain of all of them.
    pub fn failing(&self) -> Vec<BackendId> {
        self.book.failing().borrow().clone()
    }

    /// The same, with notice of every change.
    pub fn watch(&self) -> watch::Receiver<Vec<BackendId>> {
        self.book.failing()
    }

    /// Whom probes log in, at all backends at once.
    pub fn probe_user(&self) -> Option<String> {
        self.book.probe_user()
    }

    /// All opinions and what they rest on, by name.
    pub fn opinions(&self) -> Vec<Opinion> {
        self.book.opinions()
    }

    /// What share of users' attempts at a backend failed in the last 10 s. A wrong password is no attempt; a temporary refusal
    /// is a failed one. `None` without attempts.
    pub fn error_rate(&self, backend: &BackendId) -> Option<ErrorRate> {
        self.book.error_rate(backend)
    }

    /// Who is to be told how users' attempts go.
    pub fn witness(&self) -> Arc<dyn Witness> {
        self.book.clone()
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.stop();
    }
}
