//! An operator says that a proxy is dead: what it held is freed now, and not when its grace is over.

use super::moves::{Moves, Refused};
use crate::fleet::{NoOrder, forget};
use crate::model::Incarnation;

/// What became of the proxies of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Incarnations whose keys were freed.
    pub freed: Vec<Incarnation>,
    /// Incarnations that have a lease, and so seem to live: nothing was done to them.
    pub alive: Vec<Incarnation>,
}

impl Moves {
    /// Frees what the orphans of that name, or of that incarnation, hold. With `force` also what those hold that still have a
    /// lease: if they live, their users may have two homes until they have heard of it.
    pub async fn forget_proxy(&self, name: &str, force: bool) -> Result<Forgotten, Refused> {
        let mut done = Forgotten::default();
        for shard in self.fleet.shards() {
            let census = super::in_time(self.fleet.store().census(shard.number)).await.map_err(NoOrder::Store)?;
            let named = census.proxies.iter().filter(|proxy| proxy.name == name || proxy.incarnation.as_str() == name);
            for proxy in named {
                let list = if proxy.orphan || force {
                    forget(&shard.link, &proxy.incarnation).await.map_err(|error| NoOrder::Store(error.to_string()))?;
                    &mut done.freed
                } else {
                    &mut done.alive
                };
                if !list.contains(&proxy.incarnation) {
                    list.push(proxy.incarnation.clone());
                }
            }
        }
        Ok(done)
    }
}
