//! All sources in their order: the first that knows the user decides.

use std::collections::BTreeSet;

use super::hasher::Hasher;
use super::link::{Answer, KeysAnswer, Link, SourceStats};
use super::sources::{BackendSource, BrokenSource, FileSource, LdapSource, SqlSource, canonical};
use super::verifier::Verifier;
use super::{Denial, Grant, Lookup, Question, Schemes, Source};
use crate::config::{AuthConfig, FilePassdb, PassdbConfig};
use crate::model::{Credentials, Mechanism, Proof, Refusal, ScramHash, ScramKeys, SessionId};

/// Longest user name in bytes. RFC 5321 4.5.3.1 allows no longer address, and a name becomes a key of the store.
const MAX_USER: usize = 255;

/// The passdb as configured. Immutable: a reload makes a new one, and logins under way end with the old one.
pub struct Chain {
    links: Vec<Link>,
    /// Who knows master users.
    masters: Vec<Link>,
    /// What stands between a user's name and a master's.
    separator: Option<char>,
    /// The mechanisms that may be offered; none named: all that can work.
    named: Vec<Mechanism>,
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
        Self { links, masters, separator: auth.master_separator.0, named: auth.mechanisms.0.clone() }
    }

    /// What stands between a user's name and a master's, if masters may log in so.
    pub fn separator(&self) -> Option<char> {
        self.separator
    }

    /// These sources, in this order, of users and of master users.
    pub fn new(sources: Vec<Box<dyn Source>>, masters: Vec<Box<dyn Source>>) -> Self {
        let link = |source| Link::local(source, Verifier::new(Hasher::new(1)));
        let links = |sources: Vec<Box<dyn Source>>| sources.into_iter().map(link).collect();
        Self { links: links(sources), masters: links(masters), separator: None, named: Vec::new() }
    }

    /// How each source fares, those of users before those of master users.
    pub fn stats(&self) -> Vec<SourceStats> {
        let users = self.links.iter().map(|link| link.stats(false));
        users.chain(self.masters.iter().map(|link| link.stats(true))).collect()
    }

    /// Says who the client is, or why it is turned away.
    pub async fn authenticate(&self, question: &Question<'_>) -> Result<Grant, Refusal> {
        let Roles { user, master } = self.roles(question.credentials);
        if !is_acceptable(user) || !master.is_none_or(is_acceptable) {
            return Err(Refusal::BadCredentials);
        }
        if matches!(question.credentials.proof, Proof::Failed) {
            return Err(Refusal::BadCredentials);
        }
        match master {
            Some(master) => self.act_for(user, master, question).await,
            None => ask(&self.links, question).await,
        }
    }

    /// What a SCRAM exchange with that user needs. Somebody who has no such keys, or is not there at all, gets some that no
    /// password fits, always with the same salt.
    ///
    /// # Errors
    /// A source could not answer: nothing is known about anybody then.
    pub async fn scram_keys(&self, question: &Question<'_>, hash: ScramHash) -> Result<ScramKeys, Refusal> {
        let Roles { user, master } = self.roles(question.credentials);
        let (links, name) = master.map_or((&self.links, user), |master| (&self.masters, master));
        let name = canonical(name);
        let mechanism = question.credentials.mechanism;
        let credentials = Credentials { user: name.clone(), authzid: None, proof: Proof::Proven, mechanism };
        let question = Question { credentials: &credentials, ..*question };
        for link in links.iter().filter(|_| is_acceptable(&name)) {
            match link.scram_keys(&question, hash).await {
                KeysAnswer::Keys(keys) => return Ok(keys),
                KeysAnswer::None => break,
                KeysAnswer::Unknown => {}
                KeysAnswer::Unavailable => return Err(Refusal::PassdbUnavailable),
            }
        }
        match links.first().or(self.links.first()) {
            Some(link) => Ok(link.nobodys_keys(&name, hash).await),
            None => Err(Refusal::BadCredentials),
        }
    }

    /// By which mechanisms users may log in: those that the operator names, as far as a source knows what to do with them;
    /// else those that work with all sources and servers. `without_password`: every mail server takes users whose password
    /// is not passed on.
    pub fn mechanisms(&self, without_password: bool) -> Vec<Mechanism> {
        let named = |mechanism: &Mechanism| self.named.is_empty() || self.named.contains(mechanism);
        let works = |mechanism: &Mechanism| self.works(*mechanism, without_password);
        Mechanism::SASL.into_iter().filter(|mechanism| named(mechanism) && works(mechanism)).collect()
    }

    fn works(&self, mechanism: Mechanism, without_password: bool) -> bool {
        let mut sources = self.links.iter().map(Link::source);
        if !self.named.is_empty() {
            // The operator knows what mail servers take, or that all users have a password in the field `pass`.
            return match mechanism {
                by_token if by_token.is_by_token() => sources.any(|source| source.takes_tokens()),
                Mechanism::Plain | Mechanism::Login => sources.any(|source| source.takes_passwords()),
                _ => sources.any(|source| !source.leaves_it_to_the_backend()),
            };
        }
        match mechanism {
            Mechanism::Plain | Mechanism::Login => sources.any(|source| source.takes_passwords()),
            by_token if by_token.is_by_token() => {
                without_password && sources.any(|source| source.takes_tokens() && !source.leaves_it_to_the_backend())
            }
            _ if mechanism.scram().is_some() => {
                let all = |hash| sources.all(|source| source.has_scram_keys(hash));
                without_password && !self.links.is_empty() && mechanism.scram().is_some_and(all)
            }
            _ => without_password && sources.any(|source| !source.leaves_it_to_the_backend()),
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
        let by_backend = self.links.iter().any(|link| link.leaves_it_to_the_backend());
        if self.masters.is_empty() && (!by_backend || matches!(own.proof, Proof::Proven)) {
            return Err(Refusal::Forbidden);
        }
        let mut unproven = true;
        if !self.masters.is_empty() {
            let credentials = Credentials {
                user: master.to_owned(),
                authzid: None,
                proof: own.proof.duplicate(),
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
async fn ask(links: &[Link], question: &Question<'_>) -> Result<Grant, Refusal> {
    for link in links {
        match link.ask(question).await {
            Answer::Granted(grant) => return Ok(*grant),
            Answer::Denied(Denial::Password) => return Err(Refusal::BadCredentials),
            Answer::Denied(Denial::Forbidden) => return Err(Refusal::Forbidden),
            Answer::Unknown => {}
            // Not on to the next: it might let in, with another home, a user whom this one knows.
            Answer::Unavailable => return Err(Refusal::PassdbUnavailable),
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
