//! Work that nobody owns: freeing what dead proxies held. Every step may be repeated by anybody.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::info;

use super::{Shard, StateFile};
use crate::model::{Incarnation, Tasks};
use crate::store::link::{Link, NoAnswer};
use crate::store::{Reaped, Reply, Request};

/// How long a proxy that goes down may take to tell the store.
const RETIREMENT: Duration = Duration::from_secs(3);
/// Between two looks at what is still to be declared.
const LOOK: Duration = Duration::from_millis(20);
/// Before a chore that got no answer is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// The chores this proxy is doing.
pub(super) struct Chores {
    link: Link,
    tasks: Tasks,
    /// Whom it is reaping: each by one task.
    busy: Arc<Mutex<HashSet<Incarnation>>>,
}

impl Chores {
    pub(super) fn new(shard: &Shard) -> Self {
        Self { link: shard.link.clone(), tasks: shard.tasks.clone(), busy: Arc::default() }
    }

    /// Starts on those that it is not at already.
    pub(super) fn take_on(&mut self, orphans: Vec<Incarnation>) {
        for orphan in orphans {
            if self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(orphan.clone()) {
                let (link, busy) = (self.link.clone(), self.busy.clone());
                self.tasks.spawn(async move {
                    let outcome = reap(&link, &orphan).await;
                    info!(incarnation = %orphan, ?outcome, "reaped");
                    busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&orphan);
                });
            }
        }
    }
}

/// Reaps page by page until there is nothing more to do for now.
async fn reap(link: &Link, orphan: &Incarnation) -> Result<Reaped, NoAnswer> {
    loop {
        match link.call(Request::Reap { orphan: orphan.clone() }).await?.reply {
            Reply::Reap(Reaped::More) => {}
            Reply::Reap(reaped) => return Ok(reaped),
            _ => return Err(NoAnswer::Unknown),
        }
    }
}

/// Frees what the incarnations of the state file held: its lock says that they are dead. Keeps the lock for the life of
/// the process.
pub(super) async fn bury(links: Vec<Link>, mut file: StateFile) {
    for dead in file.dead().to_vec() {
        for link in &links {
            while forget(link, &dead).await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        }
        info!(incarnation = %dead, "freed what a former run of this proxy held");
        file.buried(&dead);
    }
    // The lock is the proof that whoever is listed still lives: hold it until the process ends.
    std::future::pending::<()>().await;
}

/// Frees what a dead incarnation held.
pub async fn forget(link: &Link, dead: &Incarnation) -> Result<Reaped, NoAnswer> {
    link.call(Request::Forget { dead: dead.clone() }).await?;
    reap(link, dead).await
}

/// Waits until all is declared and the errands at hand are answered, then gives up the lease: peers free at once what could
/// not be told, and whoever gives an errand does not wait for this proxy any more. Whoever still has
/// sessions keeps the lease, which runs out: their keys must not be free while they last.
pub(super) async fn retire(shard: &Shard, own: &Incarnation) {
    let told = async {
        let left = || shard.ledger.holding();
        while left().dirty > 0 || left().sessions > 0 || shard.reports.has_errands() {
            tokio::time::sleep(LOOK).await;
        }
        let _ = shard.link.state().wait_for(|state| state.welcome.is_some()).await;
        shard.link.part_with(Request::Forget { dead: own.clone() }).await
    };
    if !matches!(tokio::time::timeout(RETIREMENT, told).await, Ok(Ok(_))) {
        info!("the store could not be told that this proxy leaves; its lease will run out");
    }
}
