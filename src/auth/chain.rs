//! Who logs in as whom, and what the sources are asked for that.

mod mechanisms;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{About, Cache, CacheStats, Kind, Origin, Recall, Recalled};
use super::hasher::Hasher;
use super::link::{Link, SourceStats};
use super::links::{Links, Told};
use super::policy::{Policy, PolicyStats};
use super::sources::{
    BackendSource, BrokenSource, DovecotSource, FileSource, HttpSource, LdapSource, Oauth2Source, SqlSource,
};
use super::verifier::Verifier;
use super::{Grant, Lookup, Question, Refused, Schemes, Source};
use crate::config::{AuthConfig, AuthPolicyConfig, FilePassdb, PassdbConfig};
use crate::model::{Credentials, Mechanism, Proof, Protocol, Refusal, SessionId};
use crate::store::StoreError;
use crate::store::notes::Noted;

/// Longest user name in bytes. RFC 5321 4.5.3.1 allows no longer address, and a name becomes a key of the store.
const MAX_USER: usize = 255;

/// RFC 7677 section 4; also what Dovecot stores by default.
const SCRAM_ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// The passdb as configured. Immutable: a reload makes a new one, and logins under way end with the old one.
pub struct Chain {
    users: Links,
    /// Who knows master users.
    masters: Links,
    /// What stands between a user's name and a master's.
    separator: Option<char>,
    /// The mechanisms that may be offered; none named: all that can work.
    named: Vec<Mechanism>,
    /// Of keys that are made of passwords, and of made-up ones.
    scram_rounds: NonZeroU32,
    /// Scope, and where the issuer's metadata is: for clients whose token is refused.
    oauth_hints: (Option<String>, Option<String>),
    policy: Option<Arc<Policy>>,
    cache: Option<Arc<Cache>>,
}

/// What came of a login that an operator tries.
#[derive(Debug)]
pub struct Trial {
    /// Who would be logged in, or why nobody.
    pub outcome: Result<Grant, Refusal>,
    /// Which source decided, if one did: of the user's, unless the master was turned away.
    pub source: Option<String>,
    /// Where its answer came from.
    pub origin: Option<Origin>,
    /// How long it took.
    pub took: Duration,
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
        let (mut users, mut masters) = (Vec::new(), Vec::new());
        for config in passdb {
            let link =
                link(config, auth.weak_schemes, Verifier::new(hasher.clone())).await.kept_by(label(config, auth));
            if config.has_users() { &mut users } else { &mut masters }.push(link);
        }
        let (users, masters) = (Links::new(users), Links::new(masters));
        Self {
            users,
            masters,
            separator: auth.master_separator.0,
            named: auth.mechanisms.0.clone(),
            scram_rounds: NonZeroU32::new(auth.scram_rounds).unwrap_or(SCRAM_ROUNDS),
            oauth_hints: (auth.oauth_scope.clone(), auth.openid_configuration.clone()),
            cache: None,
            policy: None,
        }
    }

    /// The same, behind what the fleet remembers.
    pub fn with_cache(self, cache: &Arc<Cache>) -> Self {
        let (users, masters) = (self.users.with_cache(cache), self.masters.with_cache(cache));
        Self { users, masters, cache: Some(cache.clone()), ..self }
    }

    /// The scope that tokens need, and where their issuer's metadata is, for clients whose token is refused.
    pub fn oauth_hints(&self) -> (Option<String>, Option<String>) {
        self.oauth_hints.clone()
    }

    /// Asks this policy server about each login. One that cannot be used is logged and left out.
    pub fn with_policy(self, config: &AuthPolicyConfig) -> Self {
        let policy = Policy::new(config).unwrap_or_else(|why| {
            tracing::error!("[auth_policy] cannot be used: {why}");
            None
        });
        Self { policy, ..self }
    }

    /// What stands between a user's name and a master's, if masters may log in so.
    pub fn separator(&self) -> Option<char> {
        self.separator
    }

    /// These sources, in this order, of users and of master users.
    pub fn new(sources: Vec<Box<dyn Source>>, masters: Vec<Box<dyn Source>>) -> Self {
        let link = |source| Link::local(source, Verifier::new(Hasher::new(1)));
        let links = |sources: Vec<Box<dyn Source>>| Links::new(sources.into_iter().map(link).collect());
        Self {
            users: links(sources),
            masters: links(masters),
            separator: None,
            named: Vec::new(),
            scram_rounds: SCRAM_ROUNDS,
            oauth_hints: (None, None),
            cache: None,
            policy: None,
        }
    }

    /// Those sources of users, with what they remember, and no masters.
    #[cfg(test)]
    pub(super) fn of_links(users: Links) -> Self {
        Self { cache: users.cache().cloned(), users, ..Self::new(Vec::new(), Vec::new()) }
    }

    /// How each source fares, those of users before those of master users.
    pub fn stats(&self) -> Vec<SourceStats> {
        self.users.stats(false).chain(self.masters.stats(true)).collect()
    }

    /// What the fleet's memory has done here, if this chain has one.
    pub fn cache_stats(&self) -> Option<CacheStats> {
        self.cache.as_ref().map(|cache| cache.stats())
    }

    /// How the policy server fares, if there is one.
    pub fn policy_stats(&self) -> Option<PolicyStats> {
        self.policy.as_ref().map(|policy| policy.stats())
    }

    /// Has the fleet forget what the sources said about somebody, user or master. Says how many records that were.
    pub async fn forget(&self, user: &str) -> Result<u64, StoreError> {
        let Some(cache) = &self.cache else { return Ok(0) };
        let labels: Vec<&str> = [&self.users, &self.masters].into_iter().flat_map(Links::labels).collect();
        cache.forget(&labels, user).await
    }

    /// Has the fleet forget what any source said about anybody. Says how many records that were.
    pub async fn forget_all(&self) -> Result<u64, StoreError> {
        match &self.cache {
            Some(cache) => cache.forget_all().await,
            None => Ok(0),
        }
    }

    /// As [`Chain::authenticate`], and says how it came to that. No policy server hears of it: nobody logs in.
    pub async fn try_out(&self, question: &Question<'_>) -> Trial {
        let begun = Instant::now();
        let Told { outcome, by } = self.told(question, None).await;
        let (source, origin) = by.unzip();
        let outcome = outcome.map_err(|refused| refused.refusal);
        Trial { outcome, source, origin, took: begun.elapsed() }
    }

    /// Says who the client is, or why it is turned away.
    pub async fn authenticate(&self, question: &Question<'_>) -> Result<Grant, Refused> {
        self.authenticate_knowing(question, None).await
    }

    /// The same, with what [`Chain::recalled`] has made of the fleet's answers.
    pub async fn authenticate_knowing(
        &self,
        question: &Question<'_>,
        recalled: Option<Recalled>,
    ) -> Result<Grant, Refused> {
        // Boxed: what is asked of a source is large, and would be moved through all that surrounds it.
        let told = Box::pin(self.told(question, recalled));
        match &self.policy {
            Some(policy) => policy.surround(self.claimant(question.credentials), question, told).await.outcome,
            None => told.await.outcome,
        }
    }

    /// Whose password it is that was given: the master user's, where one logs in for somebody.
    pub fn claimant<'a>(&self, credentials: &'a Credentials) -> &'a str {
        let Roles { user, master } = self.roles(credentials);
        master.unwrap_or(user)
    }

    /// What the fleet can be asked before [`Chain::authenticate_knowing`], by whoever asks it something else about the same login in
    /// the same round trip; `None` if nothing.
    pub fn to_recall(&self, credentials: &Credentials, service: Protocol) -> Option<Recall> {
        let Roles { user, master } = self.roles(credentials);
        let (links, user) = master.map_or((&self.users, user), |master| (&self.masters, master));
        let (kind, proof) = (Kind::of(credentials)?, credentials.secret());
        let about = About { user, service, kind, proof, anew: false };
        if is_acceptable(user) { links.to_recall(&about) } else { None }
    }

    /// What its answers say; `None` if the store could not be asked.
    pub fn recalled(&self, recall: Recall, answers: Option<Vec<Noted>>) -> Option<Recalled> {
        self.cache.as_ref().map(|cache| cache.recalled(recall, answers))
    }

    async fn told(&self, question: &Question<'_>, recalled: Option<Recalled>) -> Told {
        let Roles { user, master } = self.roles(question.credentials);
        // A token names its user by itself (RFC 7628 section 3.1).
        let by_token = user.is_empty() && question.credentials.token().is_some();
        if !(is_acceptable(user) || by_token) || !master.is_none_or(is_acceptable) {
            return Told::refused(Refusal::BadCredentials);
        }
        let own = question.credentials;
        let names_two = self.separator.is_some_and(|separator| own.user.contains(separator));
        if own.mechanism == Mechanism::External && names_two {
            return Told::refused(Refusal::BadCredentials); // who chooses a certificate's name does not choose to be a master
        }
        if let Proof::Failed(keys) = &question.credentials.proof {
            return Told::refused(self.recheck(question, keys).await);
        }
        match master {
            Some(master) => self.act_for(user, master, question, recalled).await,
            None if by_token => self.without_master(self.users.ask(question, recalled).await),
            None => self.users.ask(question, recalled).await,
        }
    }

    /// Who lets the token say the name cannot act for others: whoever may choose a name at the issuer could put a master's
    /// into it, which a mail server would understand.
    fn without_master(&self, told: Told) -> Told {
        let names_two = |grant: &Grant| self.separator.is_some_and(|separator| grant.user.as_str().contains(separator));
        match &told.outcome {
            Ok(grant) if names_two(grant) => Told { outcome: Err(Refusal::BadCredentials.into()), by: told.by },
            _ => told,
        }
    }

    /// A backend has decided about somebody who was unproven.
    pub fn settle(&self, question: &Question<'_>, success: bool) {
        if let Some(policy) = &self.policy {
            policy.settle(self.claimant(question.credentials), question, success);
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
    async fn act_for(&self, user: &str, master: &str, question: &Question<'_>, recalled: Option<Recalled>) -> Told {
        let own = &question.credentials;
        // The same for every name, and before it is looked up.
        let by_backend = self.users.iter().any(Link::leaves_it_to_the_backend);
        if self.masters.is_empty() && (!by_backend || matches!(own.proof, Proof::Proven)) {
            return Told::refused(Refusal::Forbidden);
        }
        let (mut unproven, mut by) = (true, None);
        if !self.masters.is_empty() {
            let credentials = Credentials {
                user: master.to_owned(),
                authzid: None,
                proof: own.proof.duplicate(),
                mechanism: own.mechanism,
            };
            let told = self.masters.ask(&Question { credentials: &credentials, ..*question }, recalled).await;
            by = told.by;
            match told.outcome {
                Ok(grant) => unproven = grant.unproven,
                Err(refusal) => return Told { outcome: Err(refusal), by },
            }
        }
        Told { outcome: self.behalf_of(user, master, unproven, question).await, by }
    }

    /// The user for whom a master logs in.
    async fn behalf_of(
        &self,
        user: &str,
        master: &str,
        unproven: bool,
        question: &Question<'_>,
    ) -> Result<Grant, Refused> {
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
        self.users.find(lookup).await
    }
}

/// What a source's answers are kept by: what it is asked and how, for whom, and how its passwords are read. Where this changes, as
/// with another query, what was kept is not found any more.
fn label(config: &PassdbConfig, auth: &AuthConfig) -> Option<String> {
    let role = if config.has_users() { "users" } else { "masters" };
    let asked = match config {
        _ if !config.is_cached() => return None,
        PassdbConfig::File(file) => format!("file {:?} {:?}", file.path, file.default_scheme),
        PassdbConfig::Ldap(ldap) => format!("ldap {:?}", ldap.keys),
        PassdbConfig::Sql(sql) => format!("sql {:?}", sql.keys),
        PassdbConfig::Dovecot(keys, _) => format!("dovecot {keys:?}"),
        PassdbConfig::Http(keys, _) => format!("http {keys:?}"),
        PassdbConfig::Oauth2(oauth2) => format!("oauth2 {:?}", oauth2.keys),
        PassdbConfig::Backend => return None,
    };
    Some(format!("{role} {} {asked}", auth.weak_schemes))
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
        PassdbConfig::Http(keys, remote) => {
            let source = made(HttpSource::new(keys, remote.timeout), || HttpSource::name_of(keys));
            Link::remote(source, remote, verifier)
        }
        PassdbConfig::Oauth2(oauth2) => {
            let source = made(Oauth2Source::new(oauth2), || Oauth2Source::name_of(oauth2));
            Link::remote(source, &oauth2.remote, verifier)
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

impl Chain {
    /// The names of all users; `None` if a source cannot list its own.
    ///
    /// # Errors
    /// A source could not answer: nothing is known about anybody then.
    pub async fn list(&self, session: &SessionId) -> Result<Option<BTreeSet<String>>, Refusal> {
        let mut names = BTreeSet::new();
        for link in self.users.iter() {
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
