//! The store in Redis or Valkey: every request is a Lua script in `lua/`, called by EVALSHA.
//!
//! The pool is the factory of connections and serves the rare calls of operators; a link takes its connection out of it,
//! so that nobody else writes between two numbered calls. `keys` knows every key name, `scripts` how a call is sent,
//! `reply` how an answer is read, `orders` and `replies` do both for orders, `rows` the backend table's lines, `nudges`
//! listens, `view` reads for operators, `fitness` says which servers are refused.

mod fitness;
mod homes;
mod keys;
mod nudges;
mod orders;
mod replies;
mod reply;
mod rows;
mod scripts;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::{Manager, Pool, PoolError};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, Value,
};
use tracing::warn;

use self::fitness::Facts;
use self::keys::Keys;
use super::clock::Simulated;
use super::{
    BindingPage, BindingView, Call, Census, Connection, Nudges, Order, Ordered, Reply, Rules, Store, StoreError,
};
use crate::config::StoreAddress;
use crate::model::{Incarnation, Key, Secret};

/// Idle connections for operators' questions. Links take theirs out and are not counted.
const POOLED: usize = 2;

/// Where the store is and how to get in. The fields are those of `[store]`.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where the server listens.
    pub address: StoreAddress,
    /// Number of the database.
    pub database: u32,
    /// ACL user, if any.
    pub username: Option<String>,
    /// Password, if any.
    pub password: Option<Arc<Secret>>,
    /// Prefix of every key.
    pub namespace: String,
    /// How long connecting, or the answer to a rare call, may take. Links have their own deadline for an exchange.
    pub timeout: Duration,
}

/// A store in a Redis or Valkey server. Nothing is sent before the first connect.
pub struct Redis {
    pool: Result<Pool, StoreError>,
    /// Makes the connections that listen.
    client: Result<redis::Client, StoreError>,
    /// The address, for messages.
    at: String,
    namespace: String,
    timeout: Duration,
    rules: Rules,
    /// A test's clock and run id in place of the server's.
    server: Option<Arc<Simulated>>,
    /// That the eviction policy could not be read has been said.
    warned: AtomicBool,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the pool: it prints the password.
        f.debug_struct("Redis").field("at", &self.at).field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Redis {
    /// The store at that address. Settings that cannot work show at the first connect.
    pub fn new(settings: RedisSettings, rules: Rules) -> Self {
        Self::build(settings, rules, None)
    }

    /// A store whose clock and run id a test controls.
    pub fn simulated(settings: RedisSettings, rules: Rules, server: Arc<Simulated>) -> Self {
        Self::build(settings, rules, Some(server))
    }

    fn build(settings: RedisSettings, rules: Rules, server: Option<Arc<Simulated>>) -> Self {
        let at = match &settings.address {
            StoreAddress::Tcp(host, port) => format!("{host}:{port}"),
            StoreAddress::Unix(path) => path.display().to_string(),
        };
        let pool = pool(&settings).map_err(|why| StoreError::Unfit { at: at.clone(), why });
        let client = connection_info(&settings).and_then(redis::Client::open);
        let client = client.map_err(|error| StoreError::Unfit { at: at.clone(), why: error.to_string() });
        let RedisSettings { namespace, timeout, .. } = settings;
        Self { pool, client, at, namespace, timeout, rules, server, warned: AtomicBool::new(false) }
    }

    /// A connection from the pool, within the time-out.
    async fn pooled(&self) -> Result<deadpool_redis::Connection, StoreError> {
        let pool = self.pool.as_ref().map_err(Clone::clone)?;
        let unreachable = |why: String| StoreError::Unreachable { at: self.at.clone(), why };
        match tokio::time::timeout(self.timeout, pool.get()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(unreachable(error.to_string())),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("no connection within {:?}", self.timeout))),
        }
    }

    /// Sends a rare pipeline, within the time-out.
    async fn ask(
        &self,
        connection: &mut impl redis::aio::ConnectionLike,
        pipeline: &redis::Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        match tokio::time::timeout(self.timeout, pipeline.query_async(connection)).await {
            Ok(answers) => answers.map_err(|error| self.no_answer(&error)),
            Err(_) => Err(StoreError::NoAnswer { at: self.at.clone(), why: format!("none within {:?}", self.timeout) }),
        }
    }

    fn no_answer(&self, why: &impl fmt::Display) -> StoreError {
        StoreError::NoAnswer { at: self.at.clone(), why: why.to_string() }
    }

    /// Loads the scripts and refuses a server that would lose or not take what is written.
    async fn prepare(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication");
        pipeline.cmd("CONFIG").arg("GET").arg("maxmemory-policy");
        for source in scripts::ALL {
            pipeline.add_command(source.load());
        }
        let mut answers = self.ask(connection, &pipeline).await?.into_iter();
        let mut info = String::new();
        for answer in answers.by_ref().take(2) {
            let text: String = answer.and_then(parse).map_err(|error| self.no_answer(&error))?;
            info.push_str(&text);
        }
        let policy = answers.next().and_then(Result::ok).and_then(fitness::policy);
        if policy.is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(store = %self.at, "maxmemory-policy could not be read (CONFIG GET is forbidden); make sure that it is noeviction");
        }
        if let Some(why) = fitness::fault(&Facts { info: &info, policy: policy.as_deref() }) {
            return Err(StoreError::Unfit { at: self.at.clone(), why });
        }
        answers.try_for_each(|answer| answer.map(drop)).map_err(|error| self.no_answer(&error))
    }
}

fn parse<T: redis::FromRedisValue>(value: Value) -> RedisResult<T> {
    Ok(redis::from_redis_value(value)?)
}

/// The factory of connections. Its own time-outs never fire before ours: whoever waits has a deadline of their own.
fn pool(settings: &RedisSettings) -> Result<Pool, String> {
    let timeouts = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.timeout))
        .set_response_timeout(Some(settings.timeout * 2));
    let manager = connection_info(settings)
        .and_then(|info| Manager::new_with_config(info, timeouts))
        .map_err(|error| error.to_string())?;
    Pool::builder(manager).max_size(POOLED).build().map_err(|error| error.to_string())
}

fn connection_info(settings: &RedisSettings) -> RedisResult<ConnectionInfo> {
    let address = match &settings.address {
        StoreAddress::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        StoreAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut login = RedisConnectionInfo::default().set_db(settings.database.into());
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    if let Some(password) = &settings.password {
        let text = std::str::from_utf8(password.expose())
            .map_err(|_| RedisError::from((ErrorKind::InvalidClientConfig, "the password is not UTF-8")))?;
        login = login.set_password(text);
    }
    Ok(address.into_connection_info()?.set_redis_settings(login))
}

#[async_trait]
impl Store for Redis {
    async fn connect(&self, shard: u16) -> Result<Box<dyn Connection>, StoreError> {
        let mut connection = deadpool_redis::Connection::take(self.pooled().await?);
        self.prepare(&mut connection).await?;
        Ok(Box::new(ToShard {
            connection,
            keys: Keys::of_shard(&self.namespace, shard).for_scripts(),
            at: self.at.clone(),
            rules: self.rules,
            server: self.server.clone(),
        }))
    }

    async fn order(&self, shard: u16, order: &Order) -> Result<Ordered, StoreError> {
        let mut connection = self.pooled().await?;
        self.carry_out(&mut connection, &Keys::of_shard(&self.namespace, shard), order).await
    }

    async fn nudges(&self, shard: u16, incarnation: &Incarnation) -> Result<Box<dyn Nudges>, StoreError> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        self.listen(client, &Keys::of_shard(&self.namespace, shard), incarnation).await
    }

    async fn bindings(&self, shard: u16, cursor: &str) -> Result<BindingPage, StoreError> {
        self.view_bindings(&Keys::of_shard(&self.namespace, shard), cursor).await
    }

    async fn binding(&self, shard: u16, key: &Key) -> Result<Option<BindingView>, StoreError> {
        self.view_binding(&Keys::of_shard(&self.namespace, shard), key).await
    }

    async fn census(&self, shard: u16) -> Result<Census, StoreError> {
        self.view_census(&Keys::of_shard(&self.namespace, shard)).await
    }
}

/// A link's own connection.
struct ToShard {
    connection: MultiplexedConnection,
    keys: [String; keys::COUNT],
    at: String,
    rules: Rules,
    server: Option<Arc<Simulated>>,
}

impl ToShard {
    fn no_answer(&self, why: String) -> StoreError {
        StoreError::NoAnswer { at: self.at.clone(), why }
    }
}

#[async_trait]
impl Connection for ToShard {
    async fn exchange(&mut self, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for call in calls {
            pipeline.add_command(scripts::command(call, &self.keys, &self.rules, self.server.as_deref()));
        }
        // The answers are values first: one that is an error (NOSCRIPT, OOM, READONLY) spoils all, for the calls behind
        // it were numbered as if it had been applied.
        let answers: Vec<RedisResult<Value>> =
            pipeline.query_async(&mut self.connection).await.map_err(|error| self.no_answer(error.to_string()))?;
        if answers.len() != calls.len() {
            return Err(self.no_answer(format!("{} answers to {} calls", answers.len(), calls.len())));
        }
        let read = |(call, answer): (&Call, RedisResult<Value>)| {
            let name = scripts::name(&call.request);
            let value = answer.map_err(|error| self.no_answer(format!("{name}: {error}")))?;
            let garbled = |_| self.no_answer(format!("{name}: an answer that homing's scripts do not give"));
            reply::decode(&call.request, value).map_err(garbled)
        };
        calls.iter().zip(answers).map(read).collect()
    }
}
