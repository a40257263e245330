//! Who is the master of a shard now, and who says so: the configuration, the Sentinels, or the Cluster.

mod cluster;
mod sentinel;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::cluster::Cluster;
use self::sentinel::{Sentinels, Sighting};
use super::doors::Doors;
use super::keys::Keys;
use crate::config::{RedisConfig, RedisServers, StoreAddress};
use crate::store::StoreError;

/// Who knows the masters.
pub(super) enum Masters {
    /// It is written in the file.
    One(StoreAddress),
    /// They vote.
    Sentinel(Sentinels),
    /// The nodes.
    Cluster(Cluster),
}

/// A shard's master as far as is known.
pub(super) struct Master {
    /// Where it listens.
    pub(super) at: StoreAddress,
    /// What the Sentinels say from now on.
    news: Option<watch::Receiver<Option<Sighting>>>,
}

impl Masters {
    pub(super) fn new(config: &RedisConfig) -> Self {
        match &config.servers {
            RedisServers::One(address) => Self::One(address.clone()),
            RedisServers::Cluster(seeds) => Self::Cluster(Cluster::new(seeds.clone())),
            RedisServers::Sentinel { sentinels, master, login } => {
                let doors = Doors::new(login.clone(), 0, config.tls.clone(), config.timeout);
                Self::Sentinel(Sentinels::new(sentinels.clone(), master.clone(), Arc::new(doors)))
            }
        }
    }

    /// The master of the shard with those keys. `doors` leads to the servers.
    pub(super) async fn of(&self, keys: &Keys, doors: &Doors) -> Result<Master, StoreError> {
        match self {
            Self::One(address) => Ok(Master { at: address.clone(), news: None }),
            Self::Cluster(cluster) => Ok(Master { at: cluster.owner(keys, doors).await?, news: None }),
            Self::Sentinel(sentinels) => {
                let (at, news) = sentinels.master().await?;
                Ok(Master { at, news: Some(news) })
            }
        }
    }
}

impl Master {
    /// Ends once the Sentinels name another. What they depose is writable for seconds more if the failover was planned, and
    /// whatever is written there is lost.
    pub(super) async fn deposed(&mut self) {
        if let Some(news) = &mut self.news {
            let at = &self.at;
            // An error means that nobody watches any more: the store is being dropped.
            if news.wait_for(|known| known.as_ref().is_some_and(|known| known.at != *at)).await.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }
}

impl fmt::Display for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => address.fmt(f),
            Self::Sentinel(sentinels) => sentinels.fmt(f),
            Self::Cluster(cluster) => cluster.fmt(f),
        }
    }
}

/// How long the rest may take once one has answered: what is down must not delay what is up.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// Addresses for people.
fn listed(addresses: &[StoreAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
