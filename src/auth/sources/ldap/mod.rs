//! A directory. Either it checks the password (homing logs in to it as the user), or it only stores it.

mod directory;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Instant;

use async_trait::async_trait;
use ldap3::{Scope, dn_escape};
use zeroize::Zeroizing;

use super::canonical;
use super::connections::{Connections, Trouble};
use super::found::Found;
use crate::auth::fault::Fault;
use crate::auth::pace::Pace;
use crate::auth::{Denial, Lookup, Question, Schemes, Source, Verdict};
use crate::config::{LdapKeys, LdapMethod, LdapPassdb, Template};
use crate::model::Proof;
use directory::{Answer, Directory, Entry, Request};

/// What every entry matches.
const ANY: &str = "(objectClass=*)";

/// One directory.
pub struct LdapSource {
    name: String,
    keys: LdapKeys,
    schemes: Schemes,
    searchers: Connections<Directory>,
    /// Connections on which users log in: who searches must not lose its own rights.
    users: Connections<Directory>,
    pace: Pace,
}

/// Where a user's entry is, and what it says.
struct Located {
    dn: String,
    found: Found,
}

impl LdapSource {
    /// Connects when it is asked.
    ///
    /// # Errors
    /// Its authorities cannot be read.
    pub(in crate::auth) fn new(config: &LdapPassdb, weak_schemes: bool) -> Result<Self, String> {
        let (searchers, users) = Directory::pair(config)?;
        Ok(Self {
            name: Self::name_of(config),
            keys: config.keys.clone(),
            schemes: Schemes::new(&config.keys.default_scheme, weak_schemes),
            searchers: Connections::new(searchers, config.remote.timeout),
            users: Connections::new(users, config.remote.timeout),
            pace: Pace::default(),
        })
    }

    /// Kind and place.
    pub(in crate::auth) fn name_of(config: &LdapPassdb) -> String {
        format!("ldap {}", config.keys.uri.first().map_or("", |uri| &uri.0))
    }

    /// The user's entry, by a search or by its own name.
    async fn locate(&self, user: &str) -> Result<Option<Located>, Verdict> {
        let (base, scope, filter) = match &self.keys.user_dn {
            Some(template) => (entry_name(template, user), Scope::Base, ANY.to_owned()),
            None => (self.keys.base.clone(), self.keys.scope.into(), search_filter(&self.keys.filter, user)),
        };
        let request = Request::Search { base, scope, filter, attributes: self.attributes() };
        let Answer::Entries(mut entries) = self.searchers.ask(&request).await.map_err(verdict)? else {
            return Ok(None); // a search is not answered otherwise
        };
        let entry = entries.pop();
        if !entries.is_empty() {
            return Err(Verdict::Faulty(format!("the filter finds more than one entry for {user}")));
        }
        entry.map(|entry| self.read(user, &entry)).transpose()
    }

    /// Those that are read; "1.1" is RFC 4511's word for none.
    fn attributes(&self) -> Vec<String> {
        let mut wanted: Vec<String> = self.keys.fields.0.iter().map(|(_, attribute)| attribute.clone()).collect();
        if self.keys.method == LdapMethod::Password {
            wanted.push(self.keys.password_attribute.clone());
        }
        if wanted.is_empty() {
            wanted.push("1.1".to_owned());
        }
        wanted
    }

    fn read(&self, user: &str, entry: &Entry) -> Result<Located, Verdict> {
        let mut found = Found::default();
        let password =
            (self.keys.method == LdapMethod::Password).then_some(("password", &self.keys.password_attribute));
        let fields = self.keys.fields.0.iter().map(|(field, attribute)| (field.as_str(), attribute));
        for (field, attribute) in fields.chain(password) {
            match entry.attributes.get(&attribute.to_ascii_lowercase()).map(Vec::as_slice) {
                None | Some([]) => {}
                Some([value]) => found.add(field, value.clone()),
                Some(_) => {
                    let why = format!("the entry of {user} has more than one {attribute}");
                    return Err(Verdict::Faulty(why));
                }
            }
        }
        Ok(Located { dn: entry.dn.clone(), found })
    }

    /// The directory checks the password.
    async fn log_in(&self, user: &str, question: &Question<'_>) -> Result<Verdict, Verdict> {
        let password = match &question.credentials.proof {
            Proof::Password(password) => Some(password),
            Proof::Proven => None,
            Proof::Token(_) | Proof::Failed(_) => return Ok(Verdict::Unknown),
        };
        let located = match &self.keys.user_dn {
            // What the entry says need not be known, nor whether there is one: the password will tell.
            Some(template) if password.is_some() && self.keys.fields.0.is_empty() => {
                Some(Located { dn: entry_name(template, user), found: Found::default() })
            }
            _ => self.locate(user).await?,
        };
        let Some(Located { dn, found }) = located else {
            self.pace.keep().await;
            return Ok(Verdict::Unknown);
        };
        if let Some(password) = password
            && !self.is_password(dn, password.expose()).await?
        {
            return Ok(Verdict::Denied(Denial::Password));
        }
        found.into_verdict(user).map_err(|fault| faulty(user, fault))
    }

    async fn is_password(&self, dn: String, password: &[u8]) -> Result<bool, Verdict> {
        let password = match std::str::from_utf8(password) {
            // RFC 4513 5.1.2: without a password the directory lets in whoever is named.
            Ok(password) if !password.is_empty() => Zeroizing::new(password.to_owned()),
            _ => {
                self.pace.keep().await;
                return Ok(false);
            }
        };
        let begun = Instant::now();
        match self.users.ask(&Request::Bind { dn, password }).await.map_err(verdict)? {
            Answer::Bound(true) => Ok(true),
            Answer::Bound(false) | Answer::Entries(_) => {
                self.pace.note(begun.elapsed());
                Ok(false)
            }
        }
    }
}

#[async_trait]
impl Source for LdapSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn knows_users(&self) -> bool {
        true
    }

    fn stores_passwords(&self) -> bool {
        self.keys.method != LdapMethod::Bind
    }

    async fn ask(&self, question: &Question<'_>) -> Verdict {
        let user = canonical(&question.credentials.user);
        if self.keys.method == LdapMethod::Bind {
            return self.log_in(&user, question).await.unwrap_or_else(|verdict| verdict);
        }
        match self.locate(&user).await {
            Ok(Some(located)) => match located.found.into_stored(&user, &self.schemes) {
                Ok(stored) => Verdict::Stored(Box::new(stored)),
                Err(fault) => faulty(&user, fault),
            },
            Ok(None) => Verdict::Unknown,
            Err(verdict) => verdict,
        }
    }

    async fn find(&self, lookup: &Lookup<'_>) -> Verdict {
        let user = canonical(lookup.user);
        match self.locate(&user).await {
            Ok(Some(located)) => match located.found.into_grant(&user) {
                Ok(grant) => Verdict::Granted(Box::new(grant)),
                Err(fault) => faulty(&user, fault),
            },
            Ok(None) => Verdict::Unknown,
            Err(verdict) => verdict,
        }
    }

    async fn list(&self) -> Option<Result<Vec<String>, String>> {
        let filter = self.keys.list_filter.as_ref()?;
        let (base, scope) = (&self.keys.base, self.keys.scope.into());
        let names = self.searchers.driver().list(base, scope, filter, &self.keys.list_attribute).await;
        Some(match names {
            Ok(names) => Ok(names.iter().map(|name| canonical(name)).collect()),
            Err(Trouble::Away(why) | Trouble::Odd(why)) => Err(why),
        })
    }
}

/// RFC 4515 section 3: whatever is not plainly a letter of a name is written as its code. That is more than must be, and
/// leaves nothing that a parser of filters, here or there, could see another meaning in.
fn search_filter(template: &Template, user: &str) -> String {
    template.fill(user, |piece| {
        let mut escaped = String::with_capacity(piece.len());
        for byte in piece.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'@' | b'.' | b'-' | b'_' => escaped.push(char::from(byte)),
                _ => escaped.push_str(&format!("\\{byte:02x}")),
            }
        }
        Cow::Owned(escaped)
    })
}

/// RFC 4514 section 2.4.
fn entry_name(template: &Template, user: &str) -> String {
    template.fill(user, |piece| Cow::Owned(dn_escape(piece).into_owned()))
}

fn verdict(trouble: Trouble) -> Verdict {
    match trouble {
        Trouble::Away(why) => Verdict::Unavailable(why),
        Trouble::Odd(why) => Verdict::Faulty(why),
    }
}

fn faulty(user: &str, fault: Fault) -> Verdict {
    Verdict::Faulty(format!("the entry of {user}: {fault}"))
}
