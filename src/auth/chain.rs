//! All sources in their order: the first that knows the user decides.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::hasher::Hasher;
use super::sources::{BackendSource, FileSource};
use super::{Denial, Grant, Lookup, Question, Source, Verdict};
use crate::config::PassdbConfig;
use crate::model::{Credentials, Refusal, SessionId};

/// Longest user name in bytes. RFC 5321 4.5.3.1 allows no longer address, and a name becomes a key of the store.
const MAX_USER: usize = 255;

/// How often a source that does not answer is written about.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// The passdb as configured. Immutable: a reload makes a new one, and logins under way end with the old one.
pub struct Chain {
    links: Vec<Link>,
}

struct Link {
    source: Box<dyn Source>,
    complaints: Mutex<Complaints>,
}

impl Chain {
    /// Makes the sources and reads their files, off the event loop. A file that cannot be read is logged and tried again
    /// at each login, but once a second at most; until it can, logins that reach it get a temporary failure. At most
    /// `hash_threads` password hashes are computed at once.
    pub async fn open(passdb: &[PassdbConfig], hash_threads: usize) -> Self {
        let hasher = Hasher::new(hash_threads);
        let mut sources: Vec<Box<dyn Source>> = Vec::with_capacity(passdb.len());
        for config in passdb {
            match config {
                PassdbConfig::File { path, default_scheme } => {
                    let source = FileSource::new(path, default_scheme, hasher.clone());
                    source.refresh().await;
                    sources.push(Box::new(source));
                }
                PassdbConfig::Backend => sources.push(Box::new(BackendSource)),
            }
        }
        Self::new(sources)
    }

    /// These sources, in this order.
    pub fn new(sources: Vec<Box<dyn Source>>) -> Self {
        let link = |source| Link { source, complaints: Mutex::default() };
        Self { links: sources.into_iter().map(link).collect() }
    }

    /// Says who the client is, or why it is turned away.
    pub async fn authenticate(&self, question: &Question<'_>) -> Result<Grant, Refusal> {
        let credentials = question.credentials;
        if !is_acceptable(&credentials.user) {
            return Err(Refusal::BadCredentials);
        }
        if wants_to_be_another(credentials) {
            return Err(Refusal::Forbidden);
        }
        for link in &self.links {
            match link.source.ask(question).await {
                Verdict::Granted(grant) => return Ok(*grant),
                Verdict::Denied(Denial::Password) => return Err(Refusal::BadCredentials),
                Verdict::Denied(Denial::Forbidden) => return Err(Refusal::Forbidden),
                Verdict::Unknown => {}
                // Not on to the next: it might let in, with another home, a user whom this one knows.
                Verdict::Unavailable(why) => {
                    link.complain(&why, question.session);
                    return Err(Refusal::PassdbUnavailable);
                }
            }
        }
        Err(Refusal::BadCredentials)
    }

    /// Says what is known about somebody who does not log in; `None` if nobody knows the name.
    ///
    /// # Errors
    /// A source could not answer: nothing is known about anybody then.
    pub async fn find(&self, lookup: &Lookup<'_>) -> Result<Option<Grant>, Refusal> {
        if !is_acceptable(lookup.user) {
            return Ok(None);
        }
        for link in &self.links {
            match link.source.find(lookup).await {
                Verdict::Granted(grant) => return Ok(Some(*grant)),
                Verdict::Denied(_) | Verdict::Unknown => {}
                Verdict::Unavailable(why) => {
                    link.complain(&why, lookup.session);
                    return Err(Refusal::PassdbUnavailable);
                }
            }
        }
        Ok(None)
    }
}

impl Chain {
    /// The names of all users; `None` if a source cannot list its own.
    ///
    /// # Errors
    /// A source could not answer: nothing is known about anybody then.
    pub async fn list(&self, session: &SessionId) -> Result<Option<BTreeSet<String>>, Refusal> {
        let mut names = BTreeSet::new();
        for link in &self.links {
            match link.source.list().await {
                Some(Ok(known)) => names.extend(known),
                Some(Err(why)) => {
                    link.complain(&why, session);
                    return Err(Refusal::PassdbUnavailable);
                }
                None => return Ok(None),
            }
        }
        Ok(Some(names))
    }
}

fn is_acceptable(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_USER && !name.contains(char::is_control)
}

fn wants_to_be_another(credentials: &Credentials) -> bool {
    credentials.authzid.as_ref().is_some_and(|authzid| !authzid.eq_ignore_ascii_case(&credentials.user))
}

/// What was said about one source, so that an outage under load does not fill the disk.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Link {
    fn complain(&self, why: &str, session: &SessionId) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.last.is_some_and(|last| last.elapsed() < COMPLAINT_INTERVAL) {
            complaints.unsaid += 1;
            return;
        }
        let unsaid = std::mem::take(&mut complaints.unsaid);
        complaints.last = Some(Instant::now());
        drop(complaints);
        let source = self.source.name();
        tracing::error!(%session, unsaid, "passdb {source} could not answer: {why}");
    }
}
