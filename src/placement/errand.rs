//! Errands of the whole fleet: what one proxy asks, every proxy does for what it holds itself, and reports. The store
//! carries question and answers, so any proxy can ask, and nobody has to reach anybody else.

mod audit;
mod kick;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::debug;

use self::audit::audit;
use self::kick::kick;
pub use self::kick::matches;
use crate::fleet::{Errands, Fleet};
use crate::model::Incarnation;
use crate::store::{Answered, Ask, Order, Outcome, Store, StoreError};

/// How much longer than whoever asks waits an errand is kept: nobody should begin it long after.
const KEPT: Duration = Duration::from_secs(5);
/// Between two looks at answers, or at sessions that are closing.
const LOOK: Duration = Duration::from_millis(10);
/// The slowest look at answers, while a proxy is silent.
const LOOK_SLOW: Duration = Duration::from_millis(200);

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

#[cfg(test)]
mod tests {
    use super::*;

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
