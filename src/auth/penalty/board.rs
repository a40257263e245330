//! Where failures and sessions are noted: in the fleet's store, or in this process while that is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;

use crate::store::Rules;
use crate::store::memory::Memory;
use crate::store::notes::{Note, Noted, Notes};

/// Notes, and in which shard.
pub(super) type Part = (u16, Vec<Note>);

/// So often may be written here; then all that is here is forgotten, lest an attacker fill this process while the store is away.
const MOST_HERE: u32 = 200_000;

#[derive(Clone)]
pub(super) struct Board {
    pub(super) fleet: Arc<dyn Notes>,
    here: Arc<Here>,
    pub(super) shards: u16,
}

/// What is noted in this process.
struct Here {
    memory: ArcSwap<Memory>,
    written: AtomicU32,
}

impl Here {
    fn new() -> Self {
        Self { memory: ArcSwap::from_pointee(Memory::embedded(Rules::default())), written: AtomicU32::new(0) }
    }

    async fn exchange(&self, shard: u16, notes: &[Note]) -> Vec<Noted> {
        if self.written.fetch_add(1, Ordering::Relaxed) >= MOST_HERE {
            self.written.store(0, Ordering::Relaxed);
            self.memory.store(Arc::new(Memory::embedded(Rules::default())));
        }
        // Memory has no way to fail.
        self.memory.load_full().exchange(shard, notes).await.unwrap_or_default()
    }
}

impl Board {
    pub(super) fn new(fleet: Arc<dyn Notes>, shards: u16) -> Self {
        Self { fleet, here: Arc::new(Here::new()), shards }
    }

    /// Those of one shard in one round trip, all shards at the same time. `None` where the store could not be asked.
    pub(super) async fn ask_fleet(&self, parts: &[Part]) -> Vec<Option<Vec<Noted>>> {
        let mut of_shards: BTreeMap<u16, Vec<Note>> = BTreeMap::new();
        for (shard, notes) in parts {
            of_shards.entry(*shard).or_default().extend(notes.iter().cloned());
        }
        let asked = of_shards.iter().map(async |(shard, notes)| {
            let answers = self.fleet.exchange(*shard, notes).await;
            (*shard, answers.ok().map(Vec::into_iter))
        });
        let mut answers: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
        let mut answer = |(shard, notes): &Part| {
            let rest = answers.get_mut(shard)?.as_mut()?;
            Some(rest.take(notes.len()).collect())
        };
        parts.iter().map(&mut answer).collect()
    }

    /// The same, and where the store could not be asked, what is noted here. Says whether that was so anywhere.
    pub(super) async fn exchange(&self, parts: &[Part]) -> (Vec<Vec<Noted>>, bool) {
        let answers = self.ask_fleet(parts).await;
        let alone = answers.iter().any(Option::is_none);
        (self.complete(parts, answers).await, alone)
    }

    /// What is missing, from here.
    pub(super) async fn complete(&self, parts: &[Part], answers: Vec<Option<Vec<Noted>>>) -> Vec<Vec<Noted>> {
        let mut whole = Vec::with_capacity(parts.len());
        for ((shard, notes), answer) in parts.iter().zip(answers) {
            whole.push(match answer {
                Some(answer) => answer,
                None => self.here.exchange(*shard, notes).await,
            });
        }
        whole
    }

    /// The notes of this process, as they are at the moment.
    pub(super) fn here(&self) -> Arc<Memory> {
        self.here.memory.load_full()
    }
}

/// At least one, as notes want it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
