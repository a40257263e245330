//! All sources in their order: the first that knows the user decides.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::hasher::Hasher;
use super::link::{Answer, Link, SourceStats};
use super::sources::{BackendSource, BrokenSource, DovecotSource, FileSource, HttpSource, LdapSource, SqlSource};
use super::verifier::Verifier;
use super::{Grant, LONGEST_WAIT, Lookup, Question, Refused, Schemes, Source};
use crate::config::{AuthConfig, FilePassdb, PassdbConfig};
use crate::model::{Credentials, Refusal, SessionId};

/// Longest user name in bytes. RFC 5321 4.5.3.1 allows no longer address, and a name becomes a key of the store.
const MAX_USER: usize = 255;

/// The passdb as configured. Immutable: a reload makes a new one, and logins under way end with the old one.
pub struct Chain {
    links: Vec<Link>,
    /// Who knows master users.
    masters: Vec<Link>,
    /// What stands between a user's name and a master's.
    separator: Option<char>,
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
    pub async fn open(passdb: &[PassdbConfig], auth: &AuthConfig, hash_threads: usize) -> Self {
        let hasher = Hasher::new(hash_threads);
        let (mut links, mut masters) = (Vec::new(), Vec::new());
        for config in passdb {
            let link = link(config, auth.weak_schemes, Verifier::new(hasher.clone())).await;
            if config.has_users() { &mut links } else { &mut masters }.push(link);
        }
        Self { links, masters, separator: auth.master_separator.0 }
    }

    /// What stands between a user's name and a master's, if masters may log in so.
    pub fn separator(&self) -> Option<char> {
        self.separator
    }

    /// These sources, in this order, of users and of master users.
    pub fn new(sources: Vec<Box<dyn Source>>, masters: Vec<Box<dyn Source>>) -> Self {
        let link = |source| Link::local(source, Verifier::new(Hasher::new(1)));
        let links = |sources: Vec<Box<dyn Source>>| sources.into_iter().map(link).collect();
        Self { links: links(sources), masters: links(masters), separator: None }
    }

    /// How each source fares, those of users before those of master users.
    pub fn stats(&self) -> Vec<SourceStats> {
        let users = self.links.iter().map(|link| link.stats(false));
        users.chain(self.masters.iter().map(|link| link.stats(true))).collect()
    }

    /// Says who the client is, or why it is turned away.
    pub async fn authenticate(&self, question: &Question<'_>) -> Result<Grant, Refused> {
        let Roles { user, master } = self.roles(question.credentials);
        if !is_acceptable(user) || !master.is_none_or(is_acceptable) {
            return Err(Refusal::BadCredentials.into());
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
    async fn act_for(&self, user: &str, master: &str, question: &Question<'_>) -> Result<Grant, Refused> {
        let own = &question.credentials;
        // The same for every name, and before it is looked up.
        if self.masters.is_empty() && !self.links.iter().any(|link| link.leaves_it_to_the_backend()) {
            return Err(Refusal::Forbidden.into());
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
            return Err(Refusal::BadCredentials.into());
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
            match link.find(lookup).await {
                Answer::Granted(grant) => return Ok(Some(*grant)),
                Answer::Denied(_) | Answer::Unknown => {}
                Answer::Unavailable => return Err(Refusal::PassdbUnavailable),
            }
        }
        Ok(None)
    }
}

/// The source as configured, and what surrounds it.
async fn link(config: &PassdbConfig, weak: bool, verifier: Verifier) -> Link {
    match config {
        PassdbConfig::File(FilePassdb { path, default_scheme, .. }) => {
            let source = FileSource::new(path, Schemes::new(default_scheme, weak));
            source.refresh().await;
            Link::local(Box::new(source), verifier)
        }
        PassdbConfig::Ldap(ldap) => {
            let source = made(LdapSource::new(ldap, weak), || LdapSource::name_of(ldap));
            Link::remote(source, &ldap.remote, verifier)
        }
        PassdbConfig::Sql(sql) => {
            let source = made(SqlSource::new(sql, weak), || SqlSource::name_of(sql));
            Link::remote(source, &sql.remote, verifier)
        }
        PassdbConfig::Dovecot(keys, remote) => Link::remote(Box::new(DovecotSource::new(keys)), remote, verifier),
        PassdbConfig::Http(keys, remote) => Link::remote(Box::new(HttpSource::open(keys).await), remote, verifier),
        PassdbConfig::Backend => Link::local(Box::new(BackendSource), verifier),
    }
}

/// The source, or what stands for it.
fn made<S: Source + 'static>(source: Result<S, String>, name: impl Fn() -> String) -> Box<dyn Source> {
    match source {
        Ok(source) => Box::new(source),
        Err(why) => {
            let name = name();
            tracing::error!("passdb {name} cannot be used: {why}");
            Box::new(BrokenSource { name, why })
        }
    }
}

/// The first that knows the user decides.
async fn ask(links: &[Link], question: &Question<'_>) -> Result<Grant, Refused> {
    for link in links {
        match link.ask(question).await {
            Answer::Granted(grant) => {
                let until = grant.fields.delay_until.unwrap_or(SystemTime::UNIX_EPOCH);
                pause(until.duration_since(SystemTime::now()).unwrap_or_default()).await;
                return Ok(*grant);
            }
            Answer::Denied(denial) => {
                let refused = Refused::from(denial);
                pause(refused.wait).await;
                return Err(refused);
            }
            Answer::Unknown => {}
            // Not on to the next: it might let in, with another home, a user whom this one knows.
            Answer::Unavailable => return Err(Refusal::PassdbUnavailable.into()),
        }
    }
    Err(Refusal::BadCredentials.into())
}

/// As long as a source says that a login is to wait. The source has done its part, and is not waited for.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
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
            match link.list(session).await {
                Some(Ok(known)) => names.extend(known),
                Some(Err(())) => return Err(Refusal::PassdbUnavailable),
                None => return Ok(None),
            }
        }
        Ok(Some(names))
    }
}

fn is_acceptable(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_USER && !name.contains(char::is_control)
}
