//! Orders of operators: written on a connection of their own, and waited for until a replica has them too.
//!
//! WAIT counts the writes of its own connection and blocks it, so the links never use it.

use std::time::Duration;

use redis::{Pipeline, RedisResult, Value};

use super::doors::{ask_within, no_answer};
use super::fitness::Facts;
use super::{Redis, parse};
use crate::store::StoreError;

/// How long replicas may take to confirm. WAIT's own unit is a millisecond.
const CONFIRMING: Duration = Duration::from_secs(1);

/// What became of an order.
#[derive(Debug)]
pub struct Replicated {
    /// The answer to each of its commands.
    pub answers: Vec<RedisResult<Value>>,
    /// Replicas that are connected to the master.
    pub replicas: u32,
    /// Those that have confirmed the order within a second. With replicas and none confirmed, a failover would lose it.
    pub confirmed: u32,
}

impl Redis {
    /// Sends `order` to the master of a shard and waits until a replica has it, if there is any.
    pub async fn replicate(&self, shard: u16, order: &Pipeline) -> Result<Replicated, StoreError> {
        let (at, mut connection) = self.operator(shard).await?;
        let mut whole = order.clone();
        whole.ignore_errors().cmd("INFO").arg("replication");
        let mut answers = ask_within(self.doors.patience(), &at, &mut connection, &whole).await?;
        let info: String = match answers.pop() {
            Some(info) => info.and_then(parse).map_err(|error| no_answer(&at, &error))?,
            None => return Err(no_answer(&at, &"an answer is missing")),
        };
        let replicas = Facts { info: &info, policy: None, min_replicas: None }.replicas();
        if replicas == 0 {
            return Ok(Replicated { answers, replicas, confirmed: 0 });
        }
        let mut wait = redis::pipe();
        wait.cmd("WAIT").arg(1).arg(CONFIRMING.as_millis() as u64);
        let patience = CONFIRMING + self.doors.patience();
        // The order stands whether or not this is answered: without an answer nobody has confirmed it.
        let confirmed = match ask_within(patience, &at, &mut connection, &wait).await.map(|mut answers| answers.pop()) {
            Ok(Some(Ok(answer))) => parse(answer).unwrap_or(0),
            _ => 0,
        };
        Ok(Replicated { answers, replicas, confirmed })
    }
}
