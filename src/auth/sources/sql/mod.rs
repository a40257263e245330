//! A database: one configured statement finds a user. Values go to the server apart from the statement, never in it.

mod driver;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::canonical;
use super::connections::Trouble;
use super::found::Found;
use crate::auth::fault::Fault;
use crate::auth::{Lookup, Question, Schemes, Source, Verdict};
use crate::config::{Parameter, Piece, SqlPassdb, Statement};
use crate::model::Protocol;
use driver::{Database, Placeholders, Request};

/// Names that a list may have; a million users are a hundredth of what would fill the memory.
const MAX_NAMES: usize = 10_000_000;

/// How long a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// One database.
pub struct SqlSource {
    /// Kind and place, without the user.
    name: String,
    database: Box<dyn Database>,
    query: Prepared,
    list: Option<Prepared>,
    schemes: Schemes,
}

/// A statement in the server's own spelling.
struct Prepared {
    sql: Arc<str>,
    parameters: Vec<Parameter>,
}

/// What the parameters are made of.
struct Known<'a> {
    user: &'a str,
    service: Protocol,
    client: IpAddr,
    server: IpAddr,
}

impl SqlSource {
    /// Connects when it is asked.
    ///
    /// # Errors
    /// The address cannot be understood.
    pub(in crate::auth) fn new(config: &SqlPassdb, weak_schemes: bool) -> Result<Self, String> {
        let keys = &config.keys;
        let password = config.password.as_ref().map(|password| password.expose());
        let (database, placeholders) = driver::open(&keys.url.0, password, config.remote.timeout)?;
        Ok(Self {
            name: Self::name_of(config),
            database,
            query: Prepared::new(&keys.query, placeholders),
            list: keys.list_query.as_ref().map(|list| Prepared::new(list, placeholders)),
            schemes: Schemes::new(&keys.default_scheme, weak_schemes),
        })
    }

    /// Kind and place.
    pub(in crate::auth) fn name_of(config: &SqlPassdb) -> String {
        let url = config.keys.url.0.as_str();
        let (scheme, place) = url.split_once("://").unwrap_or(("", url));
        let place = place.split('?').next().unwrap_or_default();
        format!("sql {scheme}://{}", place.rsplit_once('@').map_or(place, |(_, place)| place))
    }

    /// The one row about a user.
    async fn row(&self, known: &Known<'_>) -> Result<Option<Found>, Verdict> {
        let mut rows = self.database.ask(&self.query.request(known, 2)).await.map_err(verdict)?;
        let row = rows.pop();
        match rows.is_empty() {
            true => Ok(row),
            false => Err(Verdict::Faulty(format!("the query finds more than one row for {}", known.user))),
        }
    }
}

#[async_trait]
impl Source for SqlSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn stores_passwords(&self) -> bool {
        true
    }

    async fn ask(&self, question: &Question<'_>) -> Verdict {
        let user = canonical(&question.credentials.user);
        let (client, server) = (question.client.ip(), question.local.ip());
        let known = Known { user: &user, service: question.service, client, server };
        match self.row(&known).await {
            Ok(Some(row)) => match row.into_stored(&user, &self.schemes) {
                Ok(stored) => Verdict::Stored(Box::new(stored)),
                Err(fault) => faulty(&user, fault),
            },
            Ok(None) => Verdict::Unknown,
            Err(verdict) => verdict,
        }
    }

    async fn find(&self, lookup: &Lookup<'_>) -> Verdict {
        let user = canonical(lookup.user);
        let (client, server) = (lookup.client.ip(), lookup.local.ip());
        let known = Known { user: &user, service: lookup.service, client, server };
        match self.row(&known).await {
            Ok(Some(row)) => match row.into_grant(&user) {
                Ok(grant) => Verdict::Granted(Box::new(grant)),
                Err(fault) => faulty(&user, fault),
            },
            Ok(None) => Verdict::Unknown,
            Err(verdict) => verdict,
        }
    }

    async fn list(&self) -> Option<Result<Vec<String>, String>> {
        let list = self.list.as_ref()?;
        let request = Request { sql: Arc::clone(&list.sql), values: Vec::new(), most: MAX_NAMES };
        let rows = tokio::time::timeout(LIST_TIMEOUT, self.database.ask(&request)).await;
        Some(match rows {
            Ok(Ok(rows)) if rows.len() < MAX_NAMES => {
                Ok(rows.iter().filter_map(|row| row.first().map(canonical)).collect())
            }
            Ok(Ok(_)) => Err(format!("list_query finds {MAX_NAMES} rows or more")),
            Ok(Err(Trouble::Away(why) | Trouble::Odd(why))) => Err(why),
            Err(_) => Err(format!("list_query takes longer than {LIST_TIMEOUT:?}")),
        })
    }
}

fn verdict(trouble: Trouble) -> Verdict {
    match trouble {
        Trouble::Away(why) => Verdict::Unavailable(why),
        Trouble::Odd(why) => Verdict::Faulty(why),
    }
}

fn faulty(user: &str, fault: Fault) -> Verdict {
    Verdict::Faulty(format!("the row of {user}: {fault}"))
}

impl Prepared {
    fn new(statement: &Statement, placeholders: Placeholders) -> Self {
        let (mut sql, mut parameters) = (String::new(), Vec::new());
        for piece in statement.pieces() {
            match piece {
                Piece::Text(text) => sql.push_str(text),
                Piece::Parameter(parameter) => {
                    parameters.push(*parameter);
                    match placeholders {
                        Placeholders::Numbered => sql.push_str(&format!("${}", parameters.len())),
                        Placeholders::Marks => sql.push('?'),
                    }
                }
            }
        }
        Self { sql: sql.into(), parameters }
    }

    fn request(&self, known: &Known<'_>, most: usize) -> Request {
        let values = self.parameters.iter().map(|parameter| known.value(*parameter)).collect();
        Request { sql: Arc::clone(&self.sql), values, most }
    }
}

impl Known<'_> {
    fn value(&self, parameter: Parameter) -> String {
        let (local, domain) = self.user.split_once('@').unwrap_or((self.user, ""));
        match parameter {
            Parameter::User => self.user.to_owned(),
            Parameter::Local => local.to_owned(),
            Parameter::Domain => domain.to_owned(),
            Parameter::Service => self.service.word().to_owned(),
            Parameter::Client => self.client.to_canonical().to_string(),
            Parameter::Server => self.server.to_canonical().to_string(),
        }
    }
}
