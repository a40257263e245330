//! The users of the fleet, page by page.

use super::moves::{Moves, Refused};
use crate::fleet::NoOrder;
use crate::model::{BackendId, Key, Pool};
use crate::store::BindingView;

/// Which users are wanted. What is not set does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At home there.
    pub backend: Option<BackendId>,
    /// At home in that pool.
    pub pool: Option<Pool>,
    /// Held.
    pub held: bool,
    /// Pinned.
    pub pinned: bool,
    /// Being moved.
    pub moving: bool,
}

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    shard: u16,
    cursor: String,
}

impl Default for Bookmark {
    fn default() -> Self {
        Self { shard: 0, cursor: "0".to_owned() }
    }
}

impl Moves {
    /// A page of users, which may be empty though there are more; and where the next begins. Who comes or goes meanwhile
    /// may be missed or come twice.
    pub async fn page(
        &self,
        filter: &Filter,
        from: Bookmark,
    ) -> Result<(Vec<(Key, BindingView)>, Option<Bookmark>), Refused> {
        let store = self.fleet.store();
        let page = super::in_time(store.bindings(from.shard, &from.cursor)).await.map_err(NoOrder::Store)?;
        let next = match page.next {
            Some(cursor) => Some(Bookmark { shard: from.shard, cursor }),
            None => Some(from.shard + 1)
                .filter(|shard| usize::from(*shard) < self.fleet.shards().len())
                .map(|shard| Bookmark { shard, ..Bookmark::default() }),
        };
        let found = page.bindings.into_iter().filter(|(key, view)| self.matches(filter, key, view)).collect();
        Ok((found, next))
    }

    fn matches(&self, filter: &Filter, key: &Key, view: &BindingView) -> bool {
        let in_pool = |pool: &Pool| {
            let table = self.home_shard(key).roster.table();
            let row = view.backend.as_ref().and_then(|home| table.rows.get(home));
            row.is_some_and(|row| row.pool == *pool)
        };
        filter.backend.as_ref().is_none_or(|backend| view.backend.as_ref() == Some(backend))
            && filter.pool.as_ref().is_none_or(in_pool)
            && (!filter.held || view.hold_ms.is_some() || view.lock.is_some())
            && (!filter.pinned || view.pin.is_some())
            && (!filter.moving || view.moving.is_some())
    }
}
