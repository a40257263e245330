//! Connections to a directory: the first server that answers, TLS, and as whom.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, ResultEntry, Scope, SearchOptions};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::auth::sources::connections::{Driver, Trouble};
use crate::config::{LdapPassdb, LdapScope};
use crate::model::Secret;
use crate::net::ClientTls;

/// Entries of one page of a list.
const PAGE: i32 = 500;

/// Names that a list may have.
const MAX_NAMES: usize = 10_000_000;

/// Makes connections, to search or to log in as users.
pub(super) struct Directory {
    uris: Vec<String>,
    starttls: bool,
    tls: Arc<ClientTls>,
    /// Who searches. `None` on connections on which users log in, and for anonymous searches.
    service: Option<(String, Arc<Secret>)>,
    timeout: Duration,
}

/// One connection. Its task ends with it.
pub(super) struct Session {
    ldap: Ldap,
    task: AbortHandle,
}

/// What is wanted of the directory.
pub(super) enum Request {
    Search {
        base: String,
        scope: Scope,
        filter: String,
        attributes: Vec<String>,
    },
    /// Is this the password? Neither is empty: the directory would take that for somebody without a name, and say yes.
    Bind {
        dn: String,
        password: Zeroizing<String>,
    },
}

/// What it says.
pub(super) enum Answer {
    Entries(Vec<Entry>),
    Bound(bool),
}

/// What was found.
pub(super) struct Entry {
    pub(super) dn: String,
    /// By name in lower case; only values that are UTF-8.
    pub(super) attributes: HashMap<String, Vec<String>>,
}

impl Directory {
    /// Of those who search, and of users.
    pub(super) fn pair(config: &LdapPassdb) -> Result<(Self, Self), String> {
        let keys = &config.keys;
        let tls = ClientTls::new(keys.tls_ca.as_deref().map(Path::new), true).map_err(|fault| fault.to_string())?;
        let tls = Arc::new(tls);
        let directory = |service| Self {
            uris: keys.uri.iter().map(|uri| uri.0.clone()).collect(),
            starttls: keys.starttls,
            tls: Arc::clone(&tls),
            service,
            timeout: config.remote.timeout,
        };
        let service = keys.bind_dn.clone().zip(config.bind_password.clone());
        Ok((directory(service), directory(None)))
    }

    async fn reach(&self, uri: &str) -> Result<Session, Trouble> {
        let away = |why: String| Trouble::Away(format!("{uri}: {why}"));
        let mut settings = LdapConnSettings::new().set_starttls(self.starttls && uri.starts_with("ldap://"));
        if self.starttls || uri.starts_with("ldaps://") {
            let tls = self.tls.config().await.map_err(|fault| away(fault.to_string()))?;
            settings = settings.set_config(tls);
        }
        let connected = LdapConnAsync::with_settings(settings, uri).await;
        let (connection, ldap) = connected.map_err(|error| away(error.to_string()))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!("connection to a directory: {error}");
            }
        });
        let mut session = Session { ldap, task: task.abort_handle() };
        let (dn, word) = match &self.service {
            Some((dn, password)) => (dn.as_str(), std::str::from_utf8(password.expose())),
            None => ("", Ok("")),
        };
        let word = word.map_err(|_| away("its password is not UTF-8".into()))?;
        // Nobody, without a password: that may be refused, but only a server that works says so. One that hangs is connected
        // to all the same, by its kernel.
        let said = session.ldap.simple_bind(dn, word).await.map_err(|error| away(error.to_string()))?;
        if said.rc != 0 && !dn.is_empty() {
            return Err(away(format!("bind_dn {dn} is refused with code {}: {}", said.rc, said.text)));
        }
        Ok(session)
    }

    /// The values of `attribute` of all entries, page by page; each page has the time of a question.
    pub(super) async fn list(
        &self,
        base: &str,
        scope: Scope,
        filter: &str,
        attribute: &str,
    ) -> Result<Vec<String>, Trouble> {
        let failed = |error: LdapError| Trouble::Away(format!("the list failed: {error}"));
        let late = |_| Trouble::Away("the list failed: no answer in time".to_owned());
        let mut session = self.connect().await?;
        let adapters: Vec<Box<dyn Adapter<'_, String, Vec<String>>>> =
            vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
        let attributes = vec![attribute.to_owned()];
        let search = session.ldap.streaming_search_with(adapters, base, scope, filter, attributes);
        let mut entries = timeout(self.timeout, search).await.map_err(late)?.map_err(failed)?;
        let (mut names, name) = (Vec::new(), attribute.to_ascii_lowercase());
        while let Some(entry) = timeout(self.timeout, entries.next()).await.map_err(late)?.map_err(failed)? {
            names.extend(Entry::read(entry).and_then(|mut entry| entry.attributes.remove(&name)).unwrap_or_default());
            if names.len() > MAX_NAMES {
                return Err(Trouble::Odd(format!("list_filter finds more than {MAX_NAMES} names")));
            }
        }
        let said = entries.finish().await;
        if said.rc != 0 {
            return Err(Trouble::Odd(format!("the list ended with code {}: {}", said.rc, said.text)));
        }
        Ok(names)
    }
}

#[async_trait]
impl Driver for Directory {
    type Connection = Session;
    type Request = Request;
    type Answer = Answer;

    /// The first of the servers that lets us in. Each has its share of the time, so that one that hangs does not take all.
    async fn connect(&self) -> Result<Session, Trouble> {
        let share = self.timeout / u32::try_from(self.uris.len() + 1).unwrap_or(u32::MAX);
        let mut complaints = Vec::new();
        for uri in &self.uris {
            match timeout(share, self.reach(uri)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(Trouble::Away(why) | Trouble::Odd(why))) => complaints.push(why),
                Err(_) => complaints.push(format!("{uri}: no answer in time")),
            }
        }
        Err(Trouble::Away(complaints.join("; ")))
    }

    async fn put(&self, session: &mut Session, request: &Request) -> Result<Answer, Trouble> {
        match request {
            Request::Search { base, scope, filter, attributes } => {
                session.search(base, *scope, filter, attributes).await.map(Answer::Entries)
            }
            Request::Bind { dn, password } if dn.is_empty() || password.is_empty() => Ok(Answer::Bound(false)),
            Request::Bind { dn, password } => session.bind(dn, password).await.map(Answer::Bound),
        }
    }
}

impl Session {
    /// Two entries at most: enough to see that it is not one.
    async fn search(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[String],
    ) -> Result<Vec<Entry>, Trouble> {
        self.ldap.with_search_options(SearchOptions::new().sizelimit(2));
        let found = self.ldap.search(base, scope, filter, attributes).await;
        let ldap3::SearchResult(entries, said) = found.map_err(|error| match error {
            LdapError::FilterParsing => Trouble::Odd(format!("{filter} is no filter")),
            error => Trouble::Away(format!("the search failed: {error}")),
        })?;
        let text = || format!("the search below \"{base}\" ended with code {}: {}", said.rc, said.text);
        match said.rc {
            0 | SIZE_LIMIT_EXCEEDED => Ok(entries.into_iter().filter_map(Entry::read).collect()),
            NO_SUCH_OBJECT if scope == Scope::Base => Ok(Vec::new()),
            rc if is_away(rc) => Err(Trouble::Away(text())),
            _ => Err(Trouble::Odd(text())),
        }
    }

    async fn bind(&mut self, dn: &str, password: &str) -> Result<bool, Trouble> {
        let said = self.ldap.simple_bind(dn, password).await;
        let said = said.map_err(|error| Trouble::Away(format!("the login failed: {error}")))?;
        match said.rc {
            0 => Ok(true),
            rc if WRONG_PASSWORD.contains(&rc) => Ok(false),
            rc if is_away(rc) => Err(Trouble::Away(format!("a login ended with code {rc}: {}", said.text))),
            rc => Err(Trouble::Odd(format!("the login as {dn} ended with code {rc}: {}", said.text))),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// Result codes of RFC 4511.
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const NO_SUCH_OBJECT: u32 = 32;
/// Constraint violation (an account that is locked), no such object, invalid name, inappropriate authentication (an entry
/// without a password), invalid credentials, insufficient rights, unwilling to perform.
const WRONG_PASSWORD: [u32; 7] = [19, NO_SUCH_OBJECT, 34, 48, 49, 50, 53];

/// Operations error, protocol error, time limit, administrative limit, busy, unavailable, other.
fn is_away(rc: u32) -> bool {
    matches!(rc, 1 | 2 | 3 | 11 | 51 | 52 | 80)
}

impl Entry {
    /// `None` for what is no entry (a referral), or is malformed.
    fn read(entry: ResultEntry) -> Option<Self> {
        let mut parts = entry.0.match_id(4)?.expect_constructed()?.into_iter();
        let dn = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
        let mut attributes = HashMap::new();
        for attribute in parts.next()?.expect_constructed()? {
            let mut parts = attribute.expect_constructed()?.into_iter();
            let name = String::from_utf8(parts.next()?.expect_primitive()?).ok()?.to_ascii_lowercase();
            let values = parts.next()?.expect_constructed()?.into_iter();
            let values = values.filter_map(|value| String::from_utf8(value.expect_primitive()?).ok()).collect();
            attributes.insert(name, values);
        }
        Some(Self { dn, attributes })
    }
}

impl From<LdapScope> for Scope {
    fn from(scope: LdapScope) -> Self {
        match scope {
            LdapScope::Sub => Self::Subtree,
            LdapScope::One => Self::OneLevel,
            LdapScope::Base => Self::Base,
        }
    }
}
