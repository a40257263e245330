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
    /// A Redis server that may have other users: only keys of the demo's namespace are ours.
    Redis(Box<Remote>),
}

/// The way to a Redis server.
pub(super) struct Remote {
    config: Config,
    namespace: String,
    client: redis::Client,
    /// The tour's own connection.
    store: Arc<dyn Store>,
}

impl Shared {
    /// Opens the store that `config` names. `url` is the one in `config`.
    pub(super) fn open(config: &Config, url: Option<&str>) -> anyhow::Result<Self> {
        let (StoreConfig::Redis(redis), Some(url)) = (&config.store, url) else {
            return Ok(Self::Memory(Memory::embedded(app::rules(config))));
        };
        let client = redis::Client::open(url).context("the URL of the Redis server cannot be used")?;
        let store = app::open_store(config).store;
        Ok(Self::Redis(Box::new(Remote { config: config.clone(), namespace: redis.namespace.clone(), client, store })))
    }

    /// The store, to look into.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(memory) => Arc::new(memory.clone()),
            Self::Redis(remote) => remote.store.clone(),
        }
    }

    /// The store for one proxy: with connections of its own, for they die with the runtime that made them.
    pub(super) fn for_proxy(&self) -> app::Stores {
        match self {
            Self::Memory(memory) => app::Stores::of(memory.clone()),
            Self::Redis(remote) => app::open_store(&remote.config),
        }
    }

    /// Makes the store forget everything, as FLUSHALL does.
    pub(super) async fn forget(&self) -> anyhow::Result<()> {
        match self {
            Self::Memory(memory) => memory.flush(),
            Self::Redis(remote) => {
                let mut connection = remote.client.get_multiplexed_async_connection().await?;
                let pattern = format!("*{}:*", remote.namespace);
                let _: () = redis::cmd("EVAL").arg(FORGET).arg(0).arg(pattern).query_async(&mut connection).await?;
            }
        }
        Ok(())
    }
}
