//! The backend table in shards other than the first: a copy of the first shard's, given by whoever sees that a shard has
//! an older one. Until then such a shard offers old choices, never two homes: what the first shard finds unusable is not
//! used here either, and a key that is bound there waits for its holders, not for the table.

use std::sync::Arc;

use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Roster, Shard};
use crate::store::link::LinkState;
use crate::store::{Beat, Order, Table};

impl Roster {
    /// Brings a shard's copy, as a heartbeat told of it, and the first shard's table together. False until that is done.
    pub(super) async fn copy(&self, master: &Roster, shard: &Shard, now: &LinkState, beat: &mut Beat) -> bool {
        let wanted = master.table();
        // The first shard's whatever its number: versions go back if a store loses its memory and its clock is behind.
        let is_news = |table: &Table| {
            table.version > self.version() || (table.version == wanted.version && *table != *self.table())
        };
        if let Some(table) = beat.table.take().filter(is_news) {
            self.install(table, &shard.ledger);
        }
        if wanted.version == 0 {
            return false;
        }
        if wanted.version > beat.table_version {
            order(shard, shard.number, &Order::Copy(Table::clone(&wanted))).await;
            return false; // the next heartbeat brings it, and the shard asks for that one at once
        }
        if beat.table_version > wanted.version {
            self.lift(&wanted, beat.table_version, shard).await;
        }
        self.is_agreed(now);
        self.version() == wanted.version
    }

    /// The first shard counts its versions by a clock. If it lost its memory, and a server whose clock is behind serves it now,
    /// its next versions would be no news to the copies: lifts its version above theirs. The rows stay as they are there, also
    /// if somebody changes them meanwhile: then the version is another, and the next look decides again.
    async fn lift(&self, wanted: &Arc<Table>, above: u64, shard: &Shard) {
        // A copy may also be newer because this proxy has not heard of the first shard's table yet: then that is above.
        let census = timeout(shard.patience, shard.store.census(0)).await;
        let Ok(Ok(census)) = census else { return };
        if census.table_version == wanted.version && wanted.version < above && census.recovering_ms.is_none() {
            warn!(
                version = wanted.version,
                above, "the table's versions have gone back: lifting them above the copies'"
            );
            order(shard, 0, &Order::Lift { seen: wanted.version, to: above.saturating_add(1) }).await;
        }
    }
}

/// Orders something that has to do with the table; whoever sees the need next orders it again.
async fn order(shard: &Shard, of: u16, order: &Order) {
    match timeout(shard.patience, shard.store.order(of, order)).await {
        Ok(Ok(ordered)) => debug!(shard = of, outcome = ?ordered.outcome, "the backend table's copies"),
        Ok(Err(error)) => debug!(shard = of, %error, "the backend table could not be given"),
        Err(_) => debug!(shard = of, "the backend table could not be given in time"),
    }
}

/// Closes what the first shard's table says to close as soon as it says so, and has the shard's copy looked at.
pub(super) async fn follow(shard: Shard) {
    let Some(master) = shard.roster.master.clone() else { return };
    let mut news = master.news();
    while news.changed().await.is_ok() {
        shard.roster.close_unusable(&shard.ledger);
        shard.reports.beat_soon();
    }
}
