//! Errands of the whole fleet: what one proxy asks, every proxy does for what it holds itself, and reports. The store
//! carries question and answers, so any proxy can ask, and nobody has to reach anybody else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::fleet::{Errands, Fleet, Shard};
use crate::ledger::{Live, Place};
use crate::model::{BackendId, Ending, Incarnation, Key};
use crate::store::{Answered, Ask, Order, Outcome, Reply, Request, Store, StoreError};

/// How much longer than whoever asks waits an errand is kept: nobody should begin it long after.
const KEPT: Duration = Duration::from_secs(5);
/// Between two looks at answers, or at sessions that are closing.
const LOOK: Duration = Duration::from_millis(10);
/// The slowest look at answers, while a proxy is silent.
const LOOK_SLOW: Duration = Duration::from_millis(200);
/// How long a proxy waits for kicked sessions to be gone before it reports how many are left.
const CLOSING: Duration = Duration::from_secs(15);
/// Bindings that are looked up at once.
const LOOKUPS: usize = 16;
/// The most differences that one proxy reports.
const DIFFERENCES: usize = 1000;
/// Between the first look at a difference and the second: what is on its way arrives meanwhile.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// What every proxy is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// Close sessions.
    Kick(Whom),
    /// Compare the ledger with the store.
    Audit,
}

/// Whose sessions are closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// Of all keys that match: `*` stands for anything, `?` for one character.
    Keys(String),
    /// Of clients of that network.
    Network(IpNet),
    /// At that backend.
    Backend(String),
}

/// What a proxy has found and done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Of a kick.
    Kicked {
        /// Sessions that were told to end.
        told: u64,
        /// Those of them that have not ended in time.
        left: u64,
    },
    /// Of an audit.
    Audited(Audited),
    /// It does not know this errand, or could not do it.
    Failed(String),
}

/// What an audit of one proxy found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audited {
    /// Keys looked at.
    pub keys: u64,
    /// Their sessions.
    pub sessions: u64,
    /// Where ledger and store differ, at two looks.
    pub differences: Vec<Difference>,
    /// Differences beyond those.
    pub more: u64,
    /// What could not be looked at, and why. Peers of an older version never say so.
    #[serde(default)]
    pub unseen: Vec<String>,
}

/// A key of which a proxy holds something else than the store says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Which.
    pub key: String,
    /// Where this proxy's sessions are; `None` if it has none.
    pub here: Option<String>,
    /// How many.
    pub sessions: u32,
    /// Where the store has the key; `None` if it is not bound.
    pub table: Option<String>,
    /// How many sessions the store counts here.
    pub counted: u32,
    /// How many it counts at other proxies.
    pub elsewhere: u32,
}

impl Difference {
    /// The key has sessions at another backend than its home.
    pub fn is_astray(&self) -> bool {
        self.here.is_some() && self.here != self.table
    }
}

/// What the fleet has answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// By incarnation.
    pub reports: BTreeMap<Incarnation, Report>,
    /// Live proxies that have not answered in time.
    pub silent: Vec<Incarnation>,
}

/// Asks the whole fleet, and waits until every live proxy has answered, or the patience is over.
pub async fn ask(store: &dyn Store, errand: &Errand, patience: Duration) -> Result<Answers, StoreError> {
    let deadline = Instant::now() + patience;
    let text = serde_json::to_string(errand).map_err(|error| refused(error.to_string()))?;
    let ttl = u64::try_from((patience + KEPT).as_millis()).unwrap_or(u64::MAX);
    let Outcome::Asked { errand, .. } = store.order(0, &Order::Ask(Ask { text, ttl })).await?.outcome else {
        return Err(refused("it is recovering; try again in a moment".to_owned()));
    };
    let mut pause = LOOK;
    loop {
        sleep(pause).await;
        // The errand is given: a look that fails does not undo it.
        let answers = match store.order(0, &Order::Answers { errand }).await.map(|ordered| ordered.outcome) {
            Ok(Outcome::Answers(answers)) => read(answers),
            Ok(_) => return Err(refused("it has forgotten the question; try again".to_owned())),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => continue,
        };
        if answers.silent.is_empty() || Instant::now() >= deadline {
            return Ok(answers);
        }
        pause = (pause * 2).min(LOOK_SLOW);
    }
}

fn refused(why: String) -> StoreError {
    StoreError::NoAnswer { at: "shard 0".to_owned(), why }
}

fn read(answers: Vec<Answered>) -> Answers {
    let mut all = Answers::default();
    for (incarnation, text) in answers {
        match text {
            None => all.silent.push(incarnation),
            Some(text) => {
                let report = serde_json::from_str(&text).unwrap_or_else(|error| Report::Failed(error.to_string()));
                all.reports.insert(incarnation, report);
            }
        }
    }
    all
}

/// What does errands for that proxy, while it is there.
pub fn runner(fleet: &Arc<Fleet>) -> Errands {
    let fleet = Arc::downgrade(fleet);
    Arc::new(move |number, text| {
        let fleet = fleet.clone();
        Box::pin(async move {
            let Some(fleet) = fleet.upgrade() else { return };
            if let Err(error) = run(&fleet, number, &text).await {
                debug!(number, %error, "an errand's answer was not heard");
            }
        })
    })
}

/// Does an errand for this proxy and answers it. An answer that the store does not take is missed by whoever asked, who
/// then names this proxy as silent.
async fn run(fleet: &Fleet, number: u64, text: &str) -> Result<(), StoreError> {
    let report = match serde_json::from_str(text) {
        Ok(Errand::Kick(whom)) => kick(fleet, &whom).await,
        Ok(Errand::Audit) => Report::Audited(audit(fleet).await),
        Err(error) => Report::Failed(format!("this version of homing does not know the errand: {error}")),
    };
    let text = serde_json::to_string(&report).map_err(|error| refused(error.to_string()))?;
    let answer = Order::Answer { errand: number, incarnation: fleet.incarnation().clone(), text };
    fleet.store().order(0, &answer).await.map(drop)
}

async fn kick(fleet: &Fleet, whom: &Whom) -> Report {
    // People write names as they please; keys are lower-cased, or are meant as they are.
    let fold = |text: &str| text.to_lowercase();
    let concerned = |key: &Key, place: &Place, client: Option<IpAddr>| match whom {
        Whom::Keys(pattern) => matches(&fold(pattern), &fold(key.as_str())),
        Whom::Network(network) => client.is_some_and(|client| network.contains(&client)),
        Whom::Backend(backend) => place.backend.as_str() == backend,
    };
    let close = |shard: &Shard| shard.ledger.close_where(concerned, Ending::Kicked);
    let mut left: Vec<Vec<Live>> = fleet.shards().iter().map(close).collect();
    let told = left.iter().map(Vec::len).sum::<usize>();
    let (deadline, mut pause) = (Instant::now() + CLOSING, LOOK);
    while left.iter().any(|left| !left.is_empty()) && Instant::now() < deadline {
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_SLOW);
        for (shard, left) in fleet.shards().iter().zip(&mut left) {
            left.retain(|session| shard.ledger.has(session));
        }
    }
    Report::Kicked { told: told as u64, left: left.iter().map(Vec::len).sum::<usize>() as u64 }
}

/// Compares all that this proxy holds with the store, and all that the store thinks it holds with the ledger. What cannot
/// be looked up is told as such; the rest is compared.
async fn audit(fleet: &Fleet) -> Audited {
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

/// Whether `text` is what the pattern describes: `*` stands for any characters, `?` for one.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut here, mut star) = (0, 0, None);
    while here < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[here] => {
                at += 1;
                here += 1;
            }
            // Let the last star stand for one character more.
            _ => match star {
                Some((behind, from)) => {
                    star = Some((behind, from + 1));
                    (at, here) = (behind + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_it_describes() {
        for (pattern, text, expected) in [
            ("*@example.org", "ann@example.org", true),
            ("*@example.org", "ann@example.com", false),
            ("a*n@*.org", "ann@example.org", true),
            ("a?n", "ann", true),
            ("a?n", "an", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("ä?*", "äöü", true),
            ("*a*b*c", "xxaxxbxxbxxc", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn an_errand_is_read_as_it_was_written() {
        for errand in [
            Errand::Audit,
            Errand::Kick(Whom::Keys("*".to_owned())),
            Errand::Kick(Whom::Network("10.0.0.0/8".parse().unwrap())),
            Errand::Kick(Whom::Backend("b1".to_owned())),
        ] {
            let text = serde_json::to_string(&errand).unwrap();
            assert_eq!(serde_json::from_str::<Errand>(&text).unwrap(), errand);
        }
    }
}
