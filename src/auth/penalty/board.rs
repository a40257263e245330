//! Where failures and sessions are noted: in the fleet's store, or in this process while that is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::store::Rules;
use crate::store::memory::Memory;
use crate::store::notes::{Note, Noted, Notes};

/// Notes, and in which shard.
pub(super) type Part = (u16, Vec<Note>);

#[derive(Clone)]
pub(super) struct Board {
    pub(super) fleet: Arc<dyn Notes>,
    here: Memory,
    pub(super) shards: u16,
}

impl Board {
    pub(super) fn new(fleet: Arc<dyn Notes>, shards: u16) -> Self {
        Self { fleet, here: Memory::embedded(Rules::default()), shards }
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
                // Memory has no way to fail.
                None => self.here.exchange(*shard, notes).await.unwrap_or_default(),
            });
        }
        whole
    }

    /// What is noted here.
    pub(super) fn here(&self) -> &Memory {
        &self.here
    }
}

/// At least one, as notes want it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
