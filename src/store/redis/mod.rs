//! The store in Redis or Valkey: every request is a Lua script in `lua/`, called by EVALSHA.
//!
//! `master/` finds the master of a shard: the one in the file, the one that the Sentinels name, or a node of a Cluster.
//! `doors` makes connections to any server; a link takes its connection out of the pool there, so that nobody else writes
//! between two numbered calls. `keys` knows every key name, `includes` joins scripts with what they include, `scripts` knows
//! how a call is sent, `reply` how an answer is read, `orders` and `replies` do both for orders, `rows` the backend table's lines; `fitness` and `rights` say which servers and
//! users are refused. Beside the links, `view` and `homes` look, `notes` remembers what logins came to, `subscription` and `nudges` listen.

mod doors;
mod fitness;
mod homes;
mod includes;
mod keys;
mod master;
mod notes;
mod nudges;
mod orders;
mod replies;
mod reply;
mod rights;
mod rows;
mod scripts;
mod subscription;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use tracing::{info, warn};

use self::doors::{Doors, no_answer};
use self::fitness::{Facts, Fault, Set, setting};
use self::keys::Keys;
use self::master::{Master, Masters};
use super::clock::Simulated;
use super::{
    BindingPage, BindingView, Call, Census, Connection, Nudges, Order, Ordered, Reply, Rules, Store, StoreError,
};
use crate::config::{RedisConfig, StoreAddress};
use crate::model::{Incarnation, Key};

/// A store in Redis or Valkey. Nothing is sent before the first connect.
pub struct Redis {
    masters: Arc<Masters>,
    doors: Arc<Doors>,
    config: RedisConfig,
    rules: Rules,
    /// A test's clock and run id in place of the server's.
    server: Option<Arc<Simulated>>,
    /// What was said once: that the eviction policy could not be read, and what is advised.
    warned: AtomicBool,
    advised: AtomicBool,
    notes: notes::NoteLines,
}

/// Whether the files that `config` names can be used. Says what is wrong with one.
pub fn check_files(config: &RedisConfig) -> Result<(), String> {
    config.tls.as_ref().map_or(Ok(()), doors::check_files)
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Redis {
    /// The store there. Settings that cannot work show at the first connect.
    pub fn new(config: RedisConfig, rules: Rules) -> Self {
        Self::build(config, rules, None)
    }

    /// A store whose clock and run id a test controls.
    pub fn simulated(config: RedisConfig, rules: Rules, server: Arc<Simulated>) -> Self {
        Self::build(config, rules, Some(server))
    }

    fn build(config: RedisConfig, rules: Rules, server: Option<Arc<Simulated>>) -> Self {
        let doors = Doors::new(config.login.clone(), config.database, config.tls.clone(), config.timeout);
        let (masters, doors) = (Arc::new(Masters::new(&config)), Arc::new(doors));
        let (warned, advised) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { masters, doors, config, rules, server, warned, advised, notes: notes::NoteLines::default() }
    }

    fn keys(&self, shard: u16) -> Keys {
        Keys::of_shard(&self.config.namespace, shard)
    }

    /// A connection to the master of a shard, for one operator's question or order.
    async fn operator_of(&self, keys: &Keys) -> Result<(StoreAddress, deadpool_redis::Connection), StoreError> {
        let at = self.masters.of(keys, &self.doors).await?.at;
        let connection = self.doors.open(&at).await?;
        Ok((at, connection))
    }

    /// Refuses a user who may not do what homing does, a server that would lose or not take what is written, and a fleet
    /// with another number of shards; then loads the scripts.
    async fn prepare(
        &self,
        at: &StoreAddress,
        line: &mut MultiplexedConnection,
        keys: &Keys,
    ) -> Result<(), StoreError> {
        self.try_rights(at, line, keys).await?;
        self.look_at_server(at, line).await?;
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        pipeline.set_nx(keys.shards(), self.config.shards).get(keys.shards());
        for source in scripts::ALL {
            pipeline.add_command(source.load());
        }
        let mut answers = self.doors.ask(at, line, &pipeline).await?.into_iter().skip(1);
        let shards = answers.next().unwrap_or(Ok(Value::Nil)).and_then(parse::<Option<u16>>);
        let shards = shards.map_err(|error| no_answer(at, &error))?;
        if let Some(shards) = shards.filter(|shards| *shards != self.config.shards) {
            let why = format!(
                "the fleet \"{}\" keeps its state in {shards} shards, but store.shards is {}; write shards = {shards}, \
                 or stop all proxies and empty the store",
                self.config.namespace, self.config.shards
            );
            return Err(unfit(at, why));
        }
        answers.try_for_each(|answer| answer.map(drop)).map_err(|error| no_answer(at, &error))
    }

    async fn try_rights(
        &self,
        at: &StoreAddress,
        line: &mut MultiplexedConnection,
        keys: &Keys,
    ) -> Result<(), StoreError> {
        let (set, user) = (self.set(), self.config.login.username.as_deref());
        let mut multi = redis::pipe();
        multi.cmd("MULTI").ignore_errors();
        match self.doors.ask(at, line, &multi).await?.pop() {
            Some(Ok(_)) => {}
            Some(Err(error)) if error.code() == Some("NOPERM") => {
                return Err(unfit(at, rights::refusal(user, "MULTI", "+@transaction")));
            }
            // A Sentinel does not know it. What the server is shows next.
            Some(Err(error)) if error.code() == Some("ERR") => return Ok(()),
            Some(Err(error)) => return Err(no_answer(at, &error)),
            None => return Err(no_answer(at, &"an answer is missing")),
        }
        let answers = self.doors.ask(at, line, &rights::trial(keys, set == Set::InCluster)).await?;
        match rights::missing(&answers, keys, set == Set::InCluster, user) {
            Some(why) => Err(unfit(at, why)),
            None => Ok(()),
        }
    }

    async fn look_at_server(&self, at: &StoreAddress, line: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication");
        pipeline.cmd("CONFIG").arg("GET").arg("maxmemory-policy").cmd("CONFIG").arg("GET").arg("min-replicas-to-write");
        let mut answers = self.doors.ask(at, line, &pipeline).await?.into_iter();
        let mut info = String::new();
        for answer in answers.by_ref().take(2) {
            let text: String = answer.and_then(parse).map_err(|error| no_answer(at, &error))?;
            info.push_str(&text);
        }
        let mut next = || answers.next().and_then(Result::ok).and_then(setting);
        let (policy, min_replicas) = (next(), next());
        if policy.is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(store = %at, "maxmemory-policy could not be read (CONFIG GET is forbidden); make sure that it is noeviction");
        }
        let facts = Facts { info: &info, policy: policy.as_deref(), min_replicas: min_replicas.as_deref() };
        match facts.fault(self.set()) {
            Some(Fault::Unfit(why)) => return Err(unfit(at, why)),
            Some(Fault::Passing(why)) => return Err(no_answer(at, &why)),
            None => {}
        }
        if let Some(advice) = facts.advice().filter(|_| !self.advised.swap(true, Ordering::Relaxed)) {
            info!(store = %at, "{advice}");
        }
        Ok(())
    }

    fn set(&self) -> Set {
        match *self.masters {
            Masters::One(_) => Set::Alone,
            Masters::Sentinel(_) => Set::BySentinels,
            Masters::Cluster(_) => Set::InCluster,
        }
    }
}

fn unfit(at: &StoreAddress, why: String) -> StoreError {
    StoreError::Unfit { at: at.to_string(), why }
}

fn parse<T: redis::FromRedisValue>(value: Value) -> RedisResult<T> {
    Ok(redis::from_redis_value(value)?)
}

#[async_trait]
impl Store for Redis {
    async fn connect(&self, shard: u16) -> Result<Box<dyn Connection>, StoreError> {
        let keys = self.keys(shard);
        let master = self.masters.of(&keys, &self.doors).await?;
        let mut connection = self.doors.own(&master.at).await?;
        self.prepare(&master.at, &mut connection, &keys).await?;
        let (stem, server) = (keys.stem(), self.server.clone());
        Ok(Box::new(ToShard { connection, master, stem, rules: self.rules, server }))
    }

    async fn order(&self, shard: u16, order: &Order) -> Result<Ordered, StoreError> {
        self.carry_out(&self.keys(shard), order).await
    }

    async fn nudges(&self, shard: u16, incarnation: &Incarnation) -> Result<Box<dyn Nudges>, StoreError> {
        self.listen(self.keys(shard), incarnation).await
    }

    async fn bindings(&self, shard: u16, cursor: &str) -> Result<BindingPage, StoreError> {
        self.view_bindings(&self.keys(shard), cursor).await
    }

    async fn binding(&self, shard: u16, key: &Key) -> Result<Option<BindingView>, StoreError> {
        self.view_binding(&self.keys(shard), key).await
    }

    async fn census(&self, shard: u16) -> Result<Census, StoreError> {
        self.view_census(&self.keys(shard)).await
    }
}

/// A link's own connection.
struct ToShard {
    connection: MultiplexedConnection,
    master: Master,
    /// Of its keys' names.
    stem: String,
    rules: Rules,
    server: Option<Arc<Simulated>>,
}

impl ToShard {
    fn no_answer(&self, why: String) -> StoreError {
        no_answer(&self.master.at, &why)
    }

    /// Sends a pipeline, unless its server is deposed, and gives up when it is.
    async fn send(&mut self, pipeline: &redis::Pipeline) -> Result<Vec<RedisResult<Value>>, StoreError> {
        let (at, connection) = (self.master.at.clone(), &mut self.connection);
        tokio::select! {
            biased;
            () = self.master.deposed() => Err(no_answer(&at, &"the Sentinels have named another master")),
            answers = pipeline.query_async(connection) => answers.map_err(|error| no_answer(&at, &error)),
        }
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
            pipeline.add_command(scripts::command(call, &self.stem, &self.rules, self.server.as_deref()));
        }
        // The answers are values first: one that is an error (NOSCRIPT, OOM, READONLY) spoils all, for the calls behind
        // it were numbered as if it had been applied.
        let answers = self.send(&pipeline).await?;
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
