//! What heartbeats ask of whoever has time for it: each duty is done by a task of its own, so many at once.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Settler, Shard};
use crate::model::Task;

/// Does the errand of that number and answers it.
pub type Errands = Arc<dyn Fn(u64, String) -> Task + Send + Sync>;

/// Moves of one shard that are looked after at once. One may take as long as a hook.
const AT_ONCE: usize = 64;

/// Does what the heartbeats of a shard ask for. When this proxy goes down, what has begun of moves is finished; the
/// heartbeats of others bring the rest to them. Errands are few and do not wait behind hooks; nobody else can do them, so they
/// are done for as long as there are heartbeats to bring them.
pub(super) fn attend(shard: &Shard, settler: Arc<Settler>, errands: Errands, closing: CancellationToken) {
    let asked = shard.clone();
    shard.tasks.spawn(async move {
        loop {
            let (number, text) = asked.reports.errand().await;
            let (errand, reports) = (errands(number, text), asked.reports.clone());
            asked.tasks.spawn(async move {
                errand.await;
                reports.errand_done();
            });
        }
    });
    let shard = shard.clone();
    shard.tasks.clone().spawn(async move {
        let free = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            // A closed semaphore would be the end, too; nobody closes this one.
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            let key = tokio::select! {
                biased;
                () = closing.cancelled() => return,
                key = shard.reports.move_to_settle() => key,
            };
            let (shard, settler) = (shard.clone(), settler.clone());
            shard.tasks.clone().spawn(async move {
                match settler.step(shard.number, &shard.roster, &key).await {
                    Ok(settled) => debug!(%key, ?settled, "looked after a move"),
                    Err(error) => debug!(%key, %error, "could not look after a move; heartbeats will ask again"),
                }
                drop(permit);
            });
        }
    });
}
