//! An errand: compare what this proxy holds with what the store says.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use tokio::time::sleep;

use super::{Audited, Difference, refused};
use crate::fleet::{Fleet, Shard};
use crate::ledger::Place;
use crate::model::{BackendId, Key};
use crate::store::{Reply, Request, StoreError};

/// Bindings that are looked up at once.
const LOOKUPS: usize = 16;
/// The most differences that one proxy reports.
const DIFFERENCES: usize = 1000;
/// Between the first look at a difference and the second: what is on its way arrives meanwhile.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// Compares all that this proxy holds with the store, and all that the store thinks it holds with the ledger. What cannot
/// be looked up is told as such; the rest is compared.
pub(super) async fn audit(fleet: &Fleet) -> Audited {
    let mut audited = Audited::default();
    for shard in fleet.shards() {
        audit_shard(fleet, shard, &mut audited).await;
    }
    audited.more = audited.differences.len().saturating_sub(DIFFERENCES) as u64;
    audited.differences.truncate(DIFFERENCES);
    audited
}

async fn audit_shard(fleet: &Fleet, shard: &Shard, audited: &mut Audited) {
    let held = shard.ledger.all();
    let mut keys: Vec<Key> = held.iter().map(|(key, ..)| key.clone()).collect();
    if let Err(error) = counted_here(shard, &mut keys).await {
        audited.unseen.push(format!("what shard {} counts here: {error}", shard.number));
    }
    keys.sort();
    keys.dedup();
    let mut looks = Looks::of(fleet, shard, keys).await;
    if !looks.differing.is_empty() {
        sleep(SECOND_LOOK).await;
        let keys = looks.differing.iter().map(|difference| Key::new(&difference.key)).collect();
        let second = Looks::of(fleet, shard, keys).await;
        audited.differences.extend(second.differing.into_iter().filter(|seen| looks.differing.contains(seen)));
        looks.unseen.extend(second.unseen);
    }
    let seen = |key: &Key| !looks.unseen.contains_key(key);
    let (keys, sessions) = held
        .iter()
        .filter(|(key, ..)| seen(key))
        .fold((0, 0), |(keys, all), (_, _, sessions)| (keys + 1, all + u64::from(*sessions)));
    (audited.keys, audited.sessions) = (audited.keys + keys, audited.sessions + sessions);
    if let Some((key, error)) = looks.unseen.first_key_value() {
        audited.unseen.push(format!("{} users of shard {}, {key} for one: {error}", looks.unseen.len(), shard.number));
    }
}

/// Adds the keys of which the store counts sessions here that this proxy does not have, as far as it says so.
async fn counted_here(shard: &Shard, keys: &mut Vec<Key>) -> Result<(), StoreError> {
    let mut cursor = Some("0".to_owned());
    while let Some(at) = cursor {
        let answer = shard.link.call(Request::Held { cursor: at }).await.map_err(|why| refused(why.to_string()))?;
        let Reply::Held(page, next) = answer.reply else { return Err(refused("no page of keys".to_owned())) };
        keys.extend(page.into_iter().map(|(key, _)| key).filter(|key| shard.ledger.look(key).is_none()));
        cursor = next;
    }
    Ok(())
}

/// What came of looking keys up.
#[derive(Default)]
struct Looks {
    differing: Vec<Difference>,
    unseen: BTreeMap<Key, StoreError>,
}

impl Looks {
    async fn of(fleet: &Fleet, shard: &Shard, keys: Vec<Key>) -> Self {
        let look = |key: Key| async move { (key.clone(), difference(fleet, shard, key).await) };
        let mut answers = std::pin::pin!(iter(keys).map(look).buffered(LOOKUPS));
        let mut looks = Self::default();
        while let Some((key, answer)) = answers.next().await {
            match answer {
                Ok(found) => looks.differing.extend(found),
                Err(error) => drop(looks.unseen.insert(key, error)),
            }
        }
        looks
    }
}

async fn difference(fleet: &Fleet, shard: &Shard, key: Key) -> Result<Option<Difference>, StoreError> {
    let binding = fleet.store().binding(shard.number, &key).await?.unwrap_or_default();
    let (here, sessions) = shard.ledger.look(&key).unzip();
    let counted = binding.holders.iter().find(|(holder, _)| holder == fleet.incarnation()).map_or(0, |(_, n)| *n);
    let difference = Difference {
        key: key.to_string(),
        here: here.map(|place: Place| place.backend.to_string()),
        sessions: sessions.map_or(0, |sessions| u32::try_from(sessions).unwrap_or(u32::MAX)),
        table: binding.backend.as_ref().map(BackendId::to_string),
        counted,
        elsewhere: binding.sessions.saturating_sub(counted),
    };
    Ok((difference.is_astray() || difference.sessions != counted).then_some(difference))
}
