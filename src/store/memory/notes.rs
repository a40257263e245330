//! Notes in this process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::Memory;
use crate::model::Incarnation;
use crate::store::StoreError;
use crate::store::notes::{Name, Note, Noted, Notes, Trace};

/// So many more notes than after the last look, and those that have lapsed are thrown out.
const LOOK_EVERY: usize = 1024;

/// What is noted, in all shards.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Notices>);

#[derive(Debug, Default)]
struct Notices {
    kept: HashMap<(u16, Name), Kept>,
    /// How many may be there before somebody looks which have lapsed.
    look_at: usize,
}

#[derive(Debug)]
struct Kept {
    what: What,
    /// By the server's clock.
    until: u64,
}

/// What is noted under a name.
#[derive(Debug)]
enum What {
    Value(Vec<u8>),
    Traces(BTreeSet<Trace>),
    Count(u32),
    Holders(BTreeMap<Incarnation, u32>),
}

/// Who counts as a holder.
#[derive(Debug, Default)]
struct Standing {
    leases: BTreeSet<Incarnation>,
    orphans: BTreeSet<Incarnation>,
}

impl Notices {
    fn apply(&mut self, shard: u16, note: &Note, now: u64, standing: &Standing) -> Noted {
        match note {
            Note::Recall(name) => Noted::Kept(self.value(&(shard, *name), now)),
            Note::Keep { name, value, ttl } => {
                self.put((shard, *name), What::Value(value.clone()), *ttl, now);
                Noted::Done
            }
            Note::Drop(name) => {
                let name = (shard, *name);
                let was_there = self.value(&name, now).is_some();
                if was_there {
                    self.kept.remove(&name);
                }
                Noted::Dropped(was_there)
            }
            Note::Traces(name) => Noted::Traces(self.traces(&(shard, *name), now).into_iter().collect()),
            Note::Leave { name, trace, ttl, most } => self.leave((shard, *name), *trace, *ttl, *most, now),
            Note::Wipe { name, traces } => self.wipe(&(shard, *name), traces, now),
            Note::Tally { name, ttl } => self.tally((shard, *name), *ttl, now),
            Note::Occupy { name, holder, count, most, ttl } => {
                let mut holders = self.holders(&(shard, *name), now);
                holders.retain(|other, _| {
                    other == holder || standing.leases.contains(other) || standing.orphans.contains(other)
                });
                let had = holders.get(holder).copied().unwrap_or_default();
                let living = holders.iter().filter(|(other, _)| *other != holder && standing.leases.contains(*other));
                let others: u32 = living.map(|(_, count)| count).sum();
                let fits = *most == 0 || *count <= had || others.saturating_add(*count) <= *most;
                if fits {
                    if *count > 0 {
                        holders.insert(holder.clone(), *count)
                    } else {
                        holders.remove(holder)
                    };
                    self.put((shard, *name), What::Holders(holders), *ttl, now);
                }
                Noted::Occupied { fits, others }
            }
        }
    }

    fn leave(&mut self, name: (u16, Name), trace: Trace, ttl: u64, most: u32, now: u64) -> Noted {
        let mut traces = self.traces(&name, now);
        if !traces.contains(&trace) {
            if traces.len() >= most.max(1) as usize {
                traces.pop_first();
            }
            traces.insert(trace);
            self.put(name, What::Traces(traces.clone()), ttl, now);
        }
        Noted::Counted(traces.len() as u32) // at most `most`
    }

    fn wipe(&mut self, name: &(u16, Name), wiped: &[Trace], now: u64) -> Noted {
        let Some(Kept { what: What::Traces(traces), .. }) = self.kept.get_mut(name).filter(|kept| kept.until > now)
        else {
            return Noted::Counted(0);
        };
        let gone = wiped.iter().filter(|trace| traces.remove(trace)).count();
        if traces.is_empty() {
            self.kept.remove(name);
        }
        Noted::Counted(gone as u32) // no more than were left
    }

    fn tally(&mut self, name: (u16, Name), ttl: u64, now: u64) -> Noted {
        if let Some(Kept { what: What::Count(count), until }) = self.kept.get_mut(&name)
            && *until > now
        {
            *count = count.saturating_add(1);
            return Noted::Counted(*count);
        }
        self.put(name, What::Count(1), ttl, now);
        Noted::Counted(1)
    }

    fn put(&mut self, name: (u16, Name), what: What, ttl: u64, now: u64) {
        self.make_room(now);
        self.kept.insert(name, Kept { what, until: now.saturating_add(ttl.max(1)) });
    }

    fn live(&self, name: &(u16, Name), now: u64) -> Option<&Kept> {
        self.kept.get(name).filter(|kept| kept.until > now)
    }

    fn value(&self, name: &(u16, Name), now: u64) -> Option<Vec<u8>> {
        match &self.live(name, now)?.what {
            What::Value(value) => Some(value.clone()),
            _ => None,
        }
    }

    fn traces(&self, name: &(u16, Name), now: u64) -> BTreeSet<Trace> {
        match self.live(name, now).map(|kept| &kept.what) {
            Some(What::Traces(traces)) => traces.clone(),
            _ => BTreeSet::new(),
        }
    }

    fn holders(&self, name: &(u16, Name), now: u64) -> BTreeMap<Incarnation, u32> {
        match self.live(name, now).map(|kept| &kept.what) {
            Some(What::Holders(holders)) => holders.clone(),
            _ => BTreeMap::new(),
        }
    }

    fn make_room(&mut self, now: u64) {
        if self.kept.len() >= self.look_at {
            self.kept.retain(|_, kept| kept.until > now);
            self.look_at = self.kept.len() * 2 + LOOK_EVERY;
        }
    }
}

impl Memory {
    /// Who has a lease in a shard, or is an orphan; looked up only if somebody asks.
    fn standing(&self, shard: u16, notes: &[Note]) -> Standing {
        if !notes.iter().any(|note| matches!(note, Note::Occupy { .. })) {
            return Standing::default();
        }
        self.shards().get(&shard).map_or_else(Standing::default, |shard| Standing {
            leases: shard.leases.keys().cloned().collect(),
            orphans: shard.orphans.keys().cloned().collect(),
        })
    }

    fn board(&self) -> MutexGuard<'_, Notices> {
        self.state.board.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Notes for Memory {
    async fn exchange(&self, shard: u16, notes: &[Note]) -> Result<Vec<Noted>, StoreError> {
        let (now, standing) = (self.state.server.ms(), self.standing(shard, notes));
        let mut board = self.board();
        Ok(notes.iter().map(|note| board.apply(shard, note, now, &standing)).collect())
    }

    async fn forget_all(&self, shard: u16) -> Result<u64, StoreError> {
        let now = self.state.server.ms();
        let mut board = self.board();
        let is_value = |at: u16, kept: &Kept| at == shard && matches!(kept.what, What::Value(_));
        let gone = board.kept.iter().filter(|((at, _), kept)| is_value(*at, kept) && kept.until > now).count() as u64;
        board.kept.retain(|(at, _), kept| !is_value(*at, kept));
        Ok(gone)
    }
}
