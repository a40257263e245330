//! Redis Cluster: which node has a shard's slot.
//!
//! Nothing is remembered but who the nodes are. Whoever connects asks all that are known, takes the first answer, and holds it
//! against the node itself: one that does not have the slot says who does. A link that is told MOVED, ASK, TRYAGAIN or
//! CLUSTERDOWN breaks and comes here again.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{ErrorKind, ServerErrorKind, Value};

use super::super::doors::{Doors, no_answer};
use super::super::keys::Keys;
use super::super::parse;
use super::listed;
use crate::config::StoreAddress;
use crate::store::StoreError;

/// Nodes that are asked at once.
const ASKED: usize = 32;
/// How often a node may send us on to another.
const MOVES: usize = 3;

/// A Cluster and its nodes as far as they are known.
pub(in crate::store::redis) struct Cluster {
    seeds: Vec<StoreAddress>,
    /// The masters that were last named, to be asked beside the seeds.
    masters: Mutex<Vec<StoreAddress>>,
}

/// What a node says: who has which slots.
#[derive(Debug, PartialEq)]
struct Map {
    owner: StoreAddress,
    masters: Vec<StoreAddress>,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<StoreAddress>) -> Self {
        Self { seeds, masters: Mutex::default() }
    }

    /// The node that has the slot of those keys, by its own word.
    pub(super) async fn owner(&self, keys: &Keys, doors: &Doors) -> Result<StoreAddress, StoreError> {
        let map = self.first_map(keys, doors).await?;
        *self.masters.lock().unwrap_or_else(PoisonError::into_inner) = map.masters;
        let mut at = map.owner;
        for _ in 0..MOVES {
            match elsewhere(&at, keys, doors).await? {
                None => return Ok(at),
                Some(next) => at = next,
            }
        }
        Err(no_answer(&at, &"the nodes do not agree on who has the slot"))
    }

    async fn first_map(&self, keys: &Keys, doors: &Doors) -> Result<Map, StoreError> {
        let mut asked: FuturesUnordered<_> = self.known().into_iter().map(|at| map_of(at, keys, doors)).collect();
        let mut failed = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(map) => return Ok(map),
                // What is wrong with the set-up is more telling than a node that is down.
                Err(error @ StoreError::Unfit { .. }) => failed = Some(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let why = "no node is known".to_owned();
        Err(failed.unwrap_or(StoreError::Unreachable { at: self.to_string(), why }))
    }

    fn known(&self) -> Vec<StoreAddress> {
        let mut known = self.masters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.extend(self.seeds.iter().cloned());
        known.sort();
        known.dedup();
        known.truncate(ASKED);
        known
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Cluster of {}", listed(&self.seeds))
    }
}

async fn map_of(at: StoreAddress, keys: &Keys, doors: &Doors) -> Result<Map, StoreError> {
    let mut connection = doors.open(&at).await?;
    let mut pipeline = redis::pipe();
    pipeline.cmd("CLUSTER").arg("KEYSLOT").arg(keys.shard()).cmd("CLUSTER").arg("SLOTS").ignore_errors();
    let mut answers = doors.ask(&at, &mut connection, &pipeline).await?.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
    let slot = next().and_then(parse::<u16>).map_err(|error| match error.to_string() {
        said if said.contains("cluster support disabled") => StoreError::Unfit {
            at: at.to_string(),
            why: "it is no node of a Cluster; write url = \"redis://...\" instead of cluster, or sentinels".to_owned(),
        },
        said => no_answer(&at, &said),
    })?;
    let slots = next().map_err(|error| no_answer(&at, &error))?;
    read(&at, slot, slots).ok_or_else(|| no_answer(&at, &format!("no node has slot {slot}: is the Cluster complete?")))
}

/// The answer to CLUSTER SLOTS, given by the node at `at`.
fn read(at: &StoreAddress, slot: u16, slots: Value) -> Option<Map> {
    let (mut owner, mut masters) = (None, Vec::new());
    for range in slots.into_sequence().ok()? {
        let mut parts = range.into_sequence().ok()?.into_iter();
        let (first, last): (u16, u16) = (parse(parts.next()?).ok()?, parse(parts.next()?).ok()?);
        let master = node(at, parts.next()?)?;
        if (first..=last).contains(&slot) {
            owner = Some(master.clone());
        }
        masters.push(master);
    }
    Some(Map { owner: owner?, masters })
}

/// Host and port of a node. One that does not know its own name gives none, or "?": it is where we reached the one that
/// told.
fn node(at: &StoreAddress, told: Value) -> Option<StoreAddress> {
    let mut parts = told.into_sequence().ok()?.into_iter();
    let host: Option<String> = parse(parts.next()?).ok()?;
    let port: u16 = parse(parts.next()?).ok()?;
    named(at, host.as_deref().unwrap_or_default(), port)
}

fn named(at: &StoreAddress, host: &str, port: u16) -> Option<StoreAddress> {
    match (host, at) {
        ("" | "?", StoreAddress::Tcp(here, _)) => Some(StoreAddress::Tcp(here.clone(), port)),
        ("" | "?", StoreAddress::Unix(_)) => None,
        (host, _) => Some(StoreAddress::Tcp(host.to_owned(), port)),
    }
}

/// Whom the node at `at` names for these keys, unless it has them itself.
async fn elsewhere(at: &StoreAddress, keys: &Keys, doors: &Doors) -> Result<Option<StoreAddress>, StoreError> {
    let mut connection = doors.open(at).await?;
    let mut pipeline = redis::pipe();
    pipeline.exists(keys.shard()).ignore_errors();
    match doors.ask(at, &mut connection, &pipeline).await?.into_iter().next() {
        Some(Err(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) => {
            let (host, port) = error.redirect_node().ok_or_else(|| no_answer(at, &error))?;
            named(at, host, port).map(Some).ok_or_else(|| no_answer(at, &error))
        }
        Some(Err(error)) => Err(no_answer(at, &error)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> StoreAddress {
        StoreAddress::Tcp(host.to_owned(), port)
    }

    fn told(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    fn range(first: i64, last: i64, master: Value) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    #[test]
    fn the_owner_of_a_slot_is_read_and_a_node_without_a_name_is_where_we_asked() {
        let host = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let slots = Value::Array(vec![range(0, 99, told(host("a"), 1)), range(100, 200, told(Value::Nil, 2))]);
        let masters = vec![at("a", 1), at("here", 2)];
        let map = |owner: usize| Some(Map { owner: masters[owner].clone(), masters: masters.clone() });
        assert_eq!(read(&at("here", 9), 99, slots.clone()), map(0));
        assert_eq!(read(&at("here", 9), 100, slots.clone()), map(1));
        assert_eq!(read(&at("here", 9), 201, slots), None);
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        for slots in [Value::Nil, Value::Array(vec![Value::Int(1)]), Value::Array(vec![range(0, -1, Value::Nil)])] {
            assert_eq!(read(&at("h", 1), 0, slots), None);
        }
    }
}
