//! The way in: connections to any server or Sentinel of one set-up, all with the same login and TLS.
//!
//! Every address has a small pool. It makes the connections, keeps some for operators' questions, and a link takes its
//! own out of it for good. No connection has a time-out for answers of its own: whoever asks has a deadline.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::{Manager, Pool, PoolError};
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};
use tokio::time::timeout;

use crate::config::{RedisLogin, RedisTls, StoreAddress};
use crate::store::StoreError;

/// Idle connections to one server for operators' questions. Links take theirs out and are not counted.
const POOLED: usize = 4;
/// Pools that are kept. Addresses come and go with a Cluster; those of servers that are gone are dropped with the rest.
const POOLS: usize = 64;

/// What every connection of one kind is made with.
pub(super) struct Doors {
    login: RedisLogin,
    database: u32,
    tls: Option<RedisTls>,
    /// How long connecting, or the answer to a rare question, may take.
    patience: Duration,
    pools: Mutex<HashMap<StoreAddress, Pool>>,
}

impl Doors {
    pub(super) fn new(login: RedisLogin, database: u32, tls: Option<RedisTls>, patience: Duration) -> Self {
        Self { login, database, tls, patience, pools: Mutex::default() }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// A connection that goes back into the pool.
    pub(super) async fn open(&self, at: &StoreAddress) -> Result<deadpool_redis::Connection, StoreError> {
        let pool = self.pool(at)?;
        let why = match timeout(self.patience, pool.get()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(PoolError::Backend(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {:?}", self.patience),
        };
        // The next one reads the TLS files anew: a certificate that has run out may have been renewed since.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).remove(at);
        Err(StoreError::Unreachable { at: at.to_string(), why })
    }

    /// A connection that nobody else ever writes to.
    pub(super) async fn own(&self, at: &StoreAddress) -> Result<MultiplexedConnection, StoreError> {
        Ok(deadpool_redis::Connection::take(self.open(at).await?))
    }

    /// A connection that hears `channels`.
    pub(super) async fn listen(&self, at: &StoreAddress, channels: &[String]) -> Result<PubSub, StoreError> {
        let client = self.client(at)?;
        let subscribed = async {
            let mut ear = client.get_async_pubsub().await?;
            ear.subscribe(channels).await?;
            RedisResult::Ok(ear)
        };
        let unreachable = |why| StoreError::Unreachable { at: at.to_string(), why };
        match timeout(self.patience, subscribed).await {
            Ok(ear) => ear.map_err(|error| unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("no subscription within {:?}", self.patience))),
        }
    }

    /// Sends a rare pipeline.
    pub(super) async fn ask(
        &self,
        at: &StoreAddress,
        connection: &mut impl ConnectionLike,
        pipeline: &Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        ask_within(self.patience, at, connection, pipeline).await
    }

    fn pool(&self, at: &StoreAddress) -> Result<Pool, StoreError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(at) {
            return Ok(pool.clone());
        }
        if pools.len() >= POOLS {
            pools.clear();
        }
        let untimed =
            AsyncConnectionConfig::new().set_connection_timeout(Some(self.patience)).set_response_timeout(None);
        let client = self.client(at)?;
        let pool = Manager::new_with_config(client.get_connection_info().clone(), untimed)
            .map_err(|error| unfit(at, &error))
            .and_then(|manager| Pool::builder(manager).max_size(POOLED).build().map_err(|error| unfit(at, &error)))?;
        pools.insert(at.clone(), pool.clone());
        Ok(pool)
    }

    fn client(&self, at: &StoreAddress) -> Result<Client, StoreError> {
        let info = self.connection_info(at)?;
        let made = match (&self.tls, at) {
            (Some(tls), StoreAddress::Tcp(..)) => {
                let files = certificates(tls).map_err(|why| StoreError::Unfit { at: at.to_string(), why })?;
                Client::build_with_tls(info, files)
            }
            _ => Client::open(info),
        };
        made.map_err(|error| unfit(at, &error))
    }

    fn connection_info(&self, at: &StoreAddress) -> Result<ConnectionInfo, StoreError> {
        let address = match at {
            StoreAddress::Tcp(host, port) => match self.tls {
                Some(_) => {
                    ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
                }
                None => ConnectionAddr::Tcp(host.clone(), *port),
            },
            StoreAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let mut login = RedisConnectionInfo::default().set_db(self.database.into());
        if let Some(username) = &self.login.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.login.password {
            let text = std::str::from_utf8(password.expose()).map_err(|_| unfit(at, &"the password is not UTF-8"))?;
            login = login.set_password(text);
        }
        Ok(address.into_connection_info().map_err(|error| unfit(at, &error))?.set_redis_settings(login))
    }
}

/// Sends a pipeline that may take longer than most.
pub(super) async fn ask_within(
    patience: Duration,
    at: &StoreAddress,
    connection: &mut impl ConnectionLike,
    pipeline: &Pipeline,
) -> Result<Vec<RedisResult<Value>>, StoreError> {
    match timeout(patience, pipeline.query_async(connection)).await {
        Ok(answers) => answers.map_err(|error| no_answer(at, &error)),
        Err(_) => Err(no_answer(at, &format!("none within {patience:?}"))),
    }
}

pub(super) fn no_answer(at: &StoreAddress, why: &impl Display) -> StoreError {
    StoreError::NoAnswer { at: at.to_string(), why: why.to_string() }
}

fn unfit(at: &StoreAddress, why: &impl Display) -> StoreError {
    StoreError::Unfit { at: at.to_string(), why: why.to_string() }
}

/// Whether the files that TLS needs can be used as they are now.
pub(super) fn check_files(tls: &RedisTls) -> Result<(), String> {
    let anywhere = ConnectionAddr::TcpTls { host: "store".to_owned(), port: 1, insecure: false, tls_params: None };
    let info = anywhere.into_connection_info().map_err(|error| error.to_string())?;
    Client::build_with_tls(info, certificates(tls)?).map(drop).map_err(|error| error.to_string())
}

/// The PEM files as they are now.
fn certificates(tls: &RedisTls) -> Result<TlsCertificates, String> {
    let identity = |(certificate, key): &(PathBuf, PathBuf)| {
        let (client_cert, client_key) = (pem(certificate, "CERTIFICATE-----")?, pem(key, "PRIVATE KEY-----")?);
        Ok::<_, String>(ClientTlsConfig { client_cert, client_key })
    };
    Ok(TlsCertificates {
        root_cert: tls.ca.as_deref().map(|path| pem(path, "CERTIFICATE-----")).transpose()?,
        client_tls: tls.identity.as_ref().map(identity).transpose()?,
    })
}

/// A PEM file that holds what it should. Of one that holds nothing, the library would make authorities that know nobody.
fn pem(path: &Path, what: &str) -> Result<Vec<u8>, String> {
    let text = std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    match memchr::memmem::find(&text, what.as_bytes()) {
        Some(_) => Ok(text),
        None => Err(format!("{} holds no {}", path.display(), what.trim_end_matches('-').to_lowercase())),
    }
}
