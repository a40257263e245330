//! Nudges: what is said on a shard's channels. What is said while they cannot be heard is missed; the heartbeat that comes
//! anyway brings the truth.

use async_trait::async_trait;

use super::super::{Nudges, StoreError};
use super::Redis;
use super::keys::Keys;
use super::subscription::Subscription;
use crate::model::Incarnation;

impl Redis {
    /// Listens to what is said to everybody and to that incarnation, and is heard as soon as this returns, if the master
    /// can be reached at all.
    pub(super) async fn listen(&self, keys: Keys, incarnation: &Incarnation) -> Result<Box<dyn Nudges>, StoreError> {
        let channels = vec![keys.nudge(), keys.nudge_of(incarnation)];
        let mut subscription = Subscription::start(self.doors.clone(), self.masters.clone(), keys, channels);
        subscription.begun(self.doors.patience()).await;
        Ok(Box::new(Ear(subscription)))
    }
}

struct Ear(Subscription);

#[async_trait]
impl Nudges for Ear {
    async fn next(&mut self) -> Result<(), StoreError> {
        self.0.next().await;
        Ok(())
    }
}
