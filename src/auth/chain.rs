//! All sources in their order: the first that knows the user decides.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::hasher::Hasher;
use super::sources::{BackendSource, FileSource};
use super::{Denial, Grant, Lookup, Question, Source, Verdict};
use crate::config::{FilePassdb, PassdbConfig};
use crate::model::{Credentials, Refusal, SessionId};

/// Longest user name in bytes. RFC 5321 4.5.3.1 allows no longer address, and a name becomes a key of the store.
const MAX_USER: usize = 255;

/// How often a source that does not answer is written about.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// The passdb as configured. Immutable: a reload makes a new one, and logins under way end with the old one.
pub struct Chain {
    links: Vec<Link>,
    /// Who knows master users.
    masters: Vec<Link>,
    /// What stands between a user's name and a master's.
    separator: Option<char>,
}

struct Link {
    source: Box<dyn Source>,
    complaints: Mutex<Complaints>,
}

/// Who logs in as whom.
struct Roles<'a> {
    user: &'a str,
    master: Option<&'a str>,
}

impl Chain {
    /// Makes the sources and reads their files, off the event loop. A file that cannot be read is logged and tried again
    /// at each login, but once a second at most; until it can, logins that reach it get a temporary failure. At most
    /// `hash_threads` password hashes are computed at once.
    pub async fn open(passdb: &[PassdbConfig], separator: Option<char>, hash_threads: usize) -> Self {
        let hasher = Hasher::new(hash_threads);
        let (mut sources, mut masters) = (Vec::<Box<dyn Source>>::new(), Vec::<Box<dyn Source>>::new());
        for config in passdb {
            match config {
                PassdbConfig::File(FilePassdb { path, default_scheme, master }) => {
                    let source = FileSource::new(path, default_scheme, hasher.clone());
                    source.refresh().await;
                    if *master { &mut masters } else { &mut sources }.push(Box::new(source));
                }
                PassdbConfig::Backend => sources.push(Box::new(BackendSource)),
            }
        }
        Self { separator, ..Self::new(sources, masters) }
    }

    /// What stands between a user's name and a master's, if masters may log in so.
    pub fn separator(&self) -> Option<char> {
        self.separator
    }

    /// These sources, in this order, of users and of master users.
    pub fn new(sources: Vec<Box<dyn Source>>, masters: Vec<Box<dyn Source>>) -> Self {
        let links = |sources: Vec<Box<dyn Source>>| sources.into_iter().map(Link::new).collect();
        Self { links: links(sources), masters: links(masters), separator: None }
    }

    /// Says who the client is, or why it is turned away.
    pub async fn authenticate(&self, question: &Question<'_>) -> Result<Grant, Refusal> {
        let Roles { user, master } = self.roles(question.credentials);
        if !is_acceptable(user) || !master.is_none_or(is_acceptable) {
            return Err(Refusal::BadCredentials);
        }
        match master {
            Some(master) => self.act_for(user, master, question).await,
            None => ask(&self.links, question).await,
        }
    }

    /// As whom, and on whose behalf: "ann*admin", or an authorization identity (RFC 4422 section 3.4.1).
    fn roles<'a>(&self, credentials: &'a Credentials) -> Roles<'a> {
        let given = credentials.user.as_str();
        if let Some(authzid) = credentials.authzid.as_deref().filter(|authzid| !authzid.eq_ignore_ascii_case(given)) {
            return Roles { user: authzid, master: Some(given) };
        }
        match self.separator.and_then(|separator| given.split_once(separator)) {
            Some((user, master)) => Roles { user, master: Some(master) },
            None => Roles { user: given, master: None },
        }
    }

    /// A master user logs in for `user`: the masters' sources check the password; if there are none, the backend does, if
    /// it is the one that checks passwords at all.
    async fn act_for(&self, user: &str, master: &str, question: &Question<'_>) -> Result<Grant, Refusal> {
        let own = &question.credentials;
        // The same for every name, and before it is looked up.
        if self.masters.is_empty() && !self.links.iter().any(|link| link.source.leaves_it_to_the_backend()) {
            return Err(Refusal::Forbidden);
        }
        let mut unproven = true;
        if !self.masters.is_empty() {
            let credentials = Credentials {
                user: master.to_owned(),
                authzid: None,
                password: own.password.duplicate(),
                mechanism: own.mechanism,
            };
            unproven = ask(&self.masters, &Question { credentials: &credentials, ..*question }).await?.unproven;
        }
        let Question { service, client, local, session, .. } = *question;
        let lookup = Lookup { user, service, client, local, session };
        let grant = self.find(&lookup).await?.ok_or(Refusal::BadCredentials)?;
        if self.masters.is_empty() && !grant.unproven {
            return Err(Refusal::BadCredentials);
        }
        Ok(Grant { master: Some(master.to_owned()), unproven, ..grant })
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

/// The first that knows the user decides.
async fn ask(links: &[Link], question: &Question<'_>) -> Result<Grant, Refusal> {
    for link in links {
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

/// What was said about one source, so that an outage under load does not fill the disk.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Link {
    fn new(source: Box<dyn Source>) -> Self {
        Self { source, complaints: Mutex::default() }
    }

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
