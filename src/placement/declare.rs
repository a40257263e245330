//! Tells the store how many sessions of each changed key are here: every 50 ms, 100 keys to a call.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::fleet::Shard;
use crate::ledger::Count;
use crate::model::BackendId;
use crate::store::link::{LinkState, answer};
use crate::store::{Declared, PAGE, Reply, Request};

/// How long a changed key may wait for company.
const GATHER: Duration = Duration::from_millis(50);
/// Between two looks while every dirty key is being claimed.
const LOOK: Duration = Duration::from_millis(5);

/// Declares until the process ends.
pub(super) async fn keep(shard: Shard) {
    let mut state = shard.link.state();
    loop {
        shard.ledger.dirtied().await;
        while shard.ledger.dirty() > 0 {
            // Every call waits for company, unless it is full: a busy proxy must not make a call of each key.
            if shard.ledger.dirty() < PAGE {
                sleep(GATHER).await;
            }
            if state.borrow().welcome.is_none() {
                shard.ledger.stand_back();
                if up(&mut state).await.is_err() {
                    return;
                }
            }
            if !declare_one_batch(&shard).await {
                sleep(LOOK).await;
            }
        }
    }
}

/// Waits until the link is up; an error if it is gone.
async fn up(state: &mut watch::Receiver<LinkState>) -> Result<(), watch::error::RecvError> {
    state.wait_for(|state| state.welcome.is_some()).await.map(drop)
}

/// False if nothing could be declared now: all dirty keys are being claimed, or there was no answer.
async fn declare_one_batch(shard: &Shard) -> bool {
    let send = |counts: Vec<Count>| shard.link.send(Request::Declare(counts.into_iter().map(declared).collect()));
    let Some((batch, pending)) = shard.ledger.declare(PAGE, send) else { return false };
    match answer(pending).await.map(|answer| answer.reply) {
        Ok(Reply::Declare(kicks)) => {
            shard.ledger.confirm(batch);
            for kick in kicks {
                shard.ledger.kick(&kick.key, kick.backend.as_ref(), kick.generation);
            }
            true
        }
        Ok(_) | Err(_) => {
            shard.ledger.unconfirmed(batch);
            false
        }
    }
}

fn declared(count: Count) -> Declared {
    let (backend, generation) =
        count.place.map_or_else(|| (BackendId::new(""), Default::default()), |place| (place.backend, place.generation));
    Declared { key: count.key, backend, generation, count: count.count, unproven: count.unproven }
}
