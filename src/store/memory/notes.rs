//! Notes in this process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::Memory;
use crate::store::StoreError;
use crate::store::notes::{MAX_NOTE, Name, Note, Noted, Notes};

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
    value: Vec<u8>,
    /// By the server's clock.
    until: u64,
}

impl Notices {
    fn apply(&mut self, shard: u16, note: &Note, now: u64) -> Noted {
        match note {
            Note::Recall(name) => {
                let kept = self.live(&(shard, *name), now).map(|kept| &kept.value);
                Noted::Kept(kept.filter(|value| (1..=MAX_NOTE).contains(&value.len())).cloned())
            }
            Note::Keep { name, value, ttl } => {
                self.make_room(now);
                self.kept.insert((shard, *name), Kept { value: value.clone(), until: now.saturating_add(*ttl) });
                Noted::Done
            }
            Note::Drop(name) => {
                let was_there = self.live(&(shard, *name), now).is_some();
                self.kept.remove(&(shard, *name));
                Noted::Dropped(was_there)
            }
        }
    }

    fn live(&self, name: &(u16, Name), now: u64) -> Option<&Kept> {
        self.kept.get(name).filter(|kept| kept.until > now)
    }

    fn make_room(&mut self, now: u64) {
        if self.kept.len() >= self.look_at {
            self.kept.retain(|_, kept| kept.until > now);
            self.look_at = self.kept.len() * 2 + LOOK_EVERY;
        }
    }
}

impl Memory {
    fn board(&self) -> MutexGuard<'_, Notices> {
        self.state.board.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Notes for Memory {
    async fn exchange(&self, shard: u16, notes: &[Note]) -> Result<Vec<Noted>, StoreError> {
        let now = self.state.server.ms();
        let mut board = self.board();
        Ok(notes.iter().map(|note| board.apply(shard, note, now)).collect())
    }

    async fn forget_all(&self, shard: u16) -> Result<u64, StoreError> {
        let now = self.state.server.ms();
        let mut board = self.board();
        let gone = board.kept.iter().filter(|((at, _), kept)| *at == shard && kept.until > now).count() as u64;
        board.kept.retain(|(at, _), _| *at != shard);
        Ok(gone)
    }
}
