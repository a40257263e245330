//! The store that both proxies share, and how the demo makes it forget everything.

use std::sync::Arc;

use anyhow::Context;

use crate::app;
use crate::config::{Config, StoreConfig};
use crate::store::Store;
use crate::store::memory::Memory;

/// Removes every key of a namespace at once, so that no proxy sees half of it.
const FORGET: &str = "\
    for _, key in ipairs(redis.call('keys', ARGV[1])) do\n\
        redis.call('del', key)\n\
    end";

/// The store.
pub(super) enum Shared {
    /// In this process.
    Memory(Memory),
    /// A Redis server that may have other users: only keys of `namespace` are ours.
    Redis { config: Box<Config>, client: Box<redis::Client>, namespace: String },
}

impl Shared {
    /// Opens the store that `config` names. `url` is the one in `config`.
    pub(super) fn open(config: &Config, url: Option<&str>) -> anyhow::Result<Self> {
        match (&config.store, url) {
            (StoreConfig::Redis { namespace, .. }, Some(url)) => {
                let client = redis::Client::open(url).context("the URL of the Redis server cannot be used")?;
                let (config, client, namespace) = (Box::new(config.clone()), Box::new(client), namespace.clone());
                Ok(Self::Redis { config, client, namespace })
            }
            _ => Ok(Self::Memory(Memory::embedded(app::rules(&config.fleet)))),
        }
    }

    /// The way to it for one proxy, or for the tour. Each has its own connections to Redis, for those die with the
    /// runtime of the proxy that made them.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Redis { config, .. } => app::open_store(config),
        }
    }

    /// Makes the store forget everything, as FLUSHALL does.
    pub(super) async fn forget(&self) -> anyhow::Result<()> {
        match self {
            Self::Memory(store) => store.flush(),
            Self::Redis { client, namespace, .. } => {
                let mut connection = client.get_multiplexed_async_connection().await?;
                let pattern = format!("*{namespace}:*");
                let _: () = redis::cmd("EVAL").arg(FORGET).arg(0).arg(pattern).query_async(&mut connection).await?;
            }
        }
        Ok(())
    }
}
