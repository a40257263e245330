//! What heartbeats ask of whoever has time for it: each duty is done by a task of its own, so many at once.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Duty, Settler, Shard};
use crate::model::Task;

/// Does the errand of that number and answers it.
pub type Errands = Arc<dyn Fn(u64, String) -> Task + Send + Sync>;

/// Duties of one shard that are done at once. A duty may take as long as a hook.
const AT_ONCE: usize = 64;

/// Does the duties of every shard until this proxy goes down. What has begun is finished; the heartbeats of others bring
/// the rest to them.
pub(super) fn attend(shard: &Shard, settler: Arc<Settler>, errands: Errands, closing: CancellationToken) {
    let shard = shard.clone();
    shard.tasks.clone().spawn(async move {
        let free = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            // A closed semaphore would be the end, too; nobody closes this one.
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            let duty = tokio::select! {
                duty = shard.reports.duty() => duty,
                () = closing.cancelled() => return,
            };
            let (shard, settler, errands) = (shard.clone(), settler.clone(), errands.clone());
            shard.tasks.clone().spawn(async move {
                fulfil(&shard, &settler, &errands, duty).await;
                drop(permit);
            });
        }
    });
}

async fn fulfil(shard: &Shard, settler: &Settler, errands: &Errands, duty: Duty) {
    match duty {
        Duty::Settle(key) => match settler.step(shard.number, &shard.roster, &key).await {
            Ok(settled) => debug!(%key, ?settled, "looked after a move"),
            Err(error) => debug!(%key, %error, "could not look after a move; heartbeats will ask again"),
        },
        Duty::Errand { number, text } => errands(number, text).await,
    }
}
