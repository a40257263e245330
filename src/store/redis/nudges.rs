//! Nudges: a subscription on a connection of its own. What is said while it is broken is missed; the heartbeat that comes
//! anyway brings the truth.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use redis::{RedisResult, Value};
use tokio::time::timeout;

use super::super::{Nudges, StoreError};
use super::Redis;
use super::keys::Keys;
use crate::model::Incarnation;

/// How long a silent server is trusted before it is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(5);

impl Redis {
    /// Listens, on a connection that is given to nobody else, to what is said to everybody and to that incarnation.
    pub(super) async fn listen(
        &self,
        client: &redis::Client,
        keys: &Keys,
        incarnation: &Incarnation,
    ) -> Result<Box<dyn Nudges>, StoreError> {
        let subscribed = async {
            let mut ear: PubSub = client.get_async_pubsub().await?;
            ear.subscribe(&[keys.nudge(), keys.nudge_of(incarnation)][..]).await?;
            RedisResult::Ok(ear.split())
        };
        let unreachable = |why| StoreError::Unreachable { at: self.at.clone(), why };
        match timeout(self.timeout, subscribed).await {
            Ok(Ok((mouth, ear))) => Ok(Box::new(Ear { mouth, ear, at: self.at.clone(), patience: self.timeout })),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("no subscription within {:?}", self.timeout))),
        }
    }
}

struct Ear {
    mouth: PubSubSink,
    ear: PubSubStream,
    at: String,
    patience: Duration,
}

#[async_trait]
impl Nudges for Ear {
    async fn next(&mut self) -> Result<(), StoreError> {
        loop {
            match timeout(SILENCE, self.ear.next()).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => return Err(self.no_answer("the connection has ended".to_owned())),
                Err(_) => self.is_alive().await?,
            }
        }
    }
}

impl Ear {
    async fn is_alive(&mut self) -> Result<(), StoreError> {
        match timeout(self.patience, self.mouth.ping::<Value>()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.no_answer(error.to_string())),
            Err(_) => Err(self.no_answer(format!("none to PING within {:?}", self.patience))),
        }
    }

    fn no_answer(&self, why: String) -> StoreError {
        StoreError::NoAnswer { at: self.at.clone(), why }
    }
}
