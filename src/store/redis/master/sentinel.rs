//! Redis Sentinel: which server is the master, and word of it at once when another is.
//!
//! Sentinels give every failover a higher number, the master's configuration epoch. Of two answers the one with the
//! higher epoch is right, so nobody goes back to a deposed master because one Sentinel is late. A Sentinel names the new master
//! from the moment that it has been promoted, and publishes `+switch-master` a little later.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, RedisResult, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::super::doors::{Doors, no_answer};
use super::super::parse;
use super::{STRAGGLERS, listed};
use crate::config::StoreAddress;
use crate::store::StoreError;

/// Where failovers are announced.
const ANNOUNCED: &str = "+switch-master";
/// How often a Sentinel is asked besides what it announces. It names the new master sooner than it announces the switch, and
/// until then the old one takes writes that will be lost.
const POLL: Duration = Duration::from_millis(250);
/// First and longest pause before a Sentinel is called again.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// What a Sentinel said of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Its configuration epoch.
    epoch: u64,
    /// Where it is.
    pub(super) at: StoreAddress,
}

/// All Sentinels of one master.
pub(in crate::store::redis) struct Sentinels {
    addresses: Vec<StoreAddress>,
    name: Arc<str>,
    doors: Arc<Doors>,
    news: watch::Sender<Option<Sighting>>,
    /// One task for each Sentinel, from the first question on. They end with this.
    watchers: OnceLock<JoinSet<()>>,
}

impl Sentinels {
    pub(super) fn new(addresses: Vec<StoreAddress>, name: String, doors: Arc<Doors>) -> Self {
        Self { addresses, name: name.into(), doors, news: watch::channel(None).0, watchers: OnceLock::new() }
    }

    /// The master, and what is heard of it from now on.
    pub(super) async fn master(&self) -> Result<(StoreAddress, watch::Receiver<Option<Sighting>>), StoreError> {
        self.watchers.get_or_init(|| self.watch());
        let known = match self.ask_all().await {
            Ok(said) => self.settle(said).ok_or_else(|| self.unknown())?,
            // Without Sentinels nothing is switched, so whoever was the master still is, or nobody: it is asked itself.
            Err(error) => self.known().ok_or(error)?,
        };
        Ok((known.at, self.news.subscribe()))
    }

    /// What the Sentinels say, of those that answer soon enough. An error if none does. While all that was said is older
    /// than what is known, whoever told that may only be slow.
    async fn ask_all(&self) -> Result<Vec<Option<Sighting>>, StoreError> {
        let mut asked: FuturesUnordered<_> = self.addresses.iter().map(|at| self.ask_one(at)).collect();
        let (mut said, mut failed) = (Vec::new(), None);
        let epoch = |seen: &Sighting| seen.epoch;
        let known = self.known().as_ref().map(epoch);
        let patience = |said: &[Option<Sighting>]| {
            let newest = said.iter().flatten().map(epoch).max();
            if said.is_empty() || newest < known { self.doors.patience() } else { STRAGGLERS }
        };
        while let Ok(Some(answer)) = timeout(patience(&said), asked.next()).await {
            match answer {
                Ok(sighting) => said.push(sighting),
                Err(error) => failed = Some(error),
            }
        }
        if said.is_empty() {
            let silent = || format!("none has answered within {:?}", self.doors.patience());
            let why = failed.map_or_else(silent, |error| match error {
                StoreError::Unreachable { at, why }
                | StoreError::NoAnswer { at, why }
                | StoreError::Unfit { at, why } => {
                    format!("{at}: {why}")
                }
            });
            return Err(StoreError::Unreachable { at: self.to_string(), why });
        }
        Ok(said)
    }

    async fn ask_one(&self, at: &StoreAddress) -> Result<Option<Sighting>, StoreError> {
        let mut connection = self.doors.open(at).await?;
        sighting(at, self.doors.ask(at, &mut connection, &question(&self.name)).await?)
    }

    /// Takes the newest answer. An older one than is known counts only if most Sentinels say so: then they were set up
    /// anew and count from the beginning.
    fn settle(&self, said: Vec<Option<Sighting>>) -> Option<Sighting> {
        let said: Vec<Sighting> = said.into_iter().flatten().collect();
        let newest = said.iter().max_by_key(|sighting| sighting.epoch)?;
        let agreed = said.iter().filter(|sighting| sighting.at == newest.at).count() * 2 > self.addresses.len();
        self.news.send_if_modified(|known| {
            let better = known.as_ref().is_none_or(|known| newest.epoch > known.epoch || agreed && newest != known);
            if better {
                *known = Some(newest.clone());
            }
            better
        });
        self.known()
    }

    fn known(&self) -> Option<Sighting> {
        self.news.borrow().clone()
    }

    fn unknown(&self) -> StoreError {
        let why =
            format!("none of them knows a master \"{}\"; see store.master and their \"sentinel monitor\"", self.name);
        StoreError::Unreachable { at: self.to_string(), why }
    }

    fn watch(&self) -> JoinSet<()> {
        let mut watchers = JoinSet::new();
        for at in &self.addresses {
            let watcher =
                Watcher { at: at.clone(), name: self.name.clone(), doors: self.doors.clone(), news: self.news.clone() };
            watchers.spawn(watcher.run());
        }
        watchers
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "master {} of the Sentinels {}", self.name, listed(&self.addresses))
    }
}

/// Listens to one Sentinel.
struct Watcher {
    at: StoreAddress,
    name: Arc<str>,
    doors: Arc<Doors>,
    news: watch::Sender<Option<Sighting>>,
}

impl Watcher {
    async fn run(self) {
        let [least, most] = PAUSE;
        let mut pause = least;
        loop {
            let mut heard = false;
            if let Err(error) = self.attend(&mut heard).await {
                debug!(%error, "a Sentinel cannot be heard");
            }
            pause = if heard { least } else { (pause * 2).min(most) };
            sleep(pause).await;
        }
    }

    /// Asks after each announcement, and now and then, until the Sentinel is gone. `heard`: it has answered.
    async fn attend(&self, heard: &mut bool) -> Result<(), StoreError> {
        let mut line = self.doors.own(&self.at).await?;
        let mut ear = self.doors.listen(&self.at, &[ANNOUNCED.to_owned()]).await?.into_on_message();
        let question = question(&self.name);
        loop {
            if let Some(sighting) = sighting(&self.at, self.doors.ask(&self.at, &mut line, &question).await?)? {
                self.learn(sighting);
            }
            *heard = true;
            // Whichever master was switched: the answer to the question tells.
            if let Ok(None) = timeout(POLL, ear.next()).await {
                return Ok(());
            }
        }
    }

    fn learn(&self, sighting: Sighting) {
        self.news.send_if_modified(|known| {
            if known.as_ref().is_some_and(|known| sighting.epoch <= known.epoch) {
                return false;
            }
            let before = known.replace(sighting.clone()).filter(|before| before.at != sighting.at);
            if let Some(Sighting { at, .. }) = before {
                info!(from = %at, to = %sighting.at, by = %self.at, "the Sentinels have switched to another master");
            }
            true
        });
    }
}

/// Asks for the address and the epoch at once.
fn question(name: &str) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    pipeline.cmd("SENTINEL").arg("MASTER").arg(name);
    pipeline
}

/// What the answers to [`question`] say; `None` if the Sentinel does not know the name.
fn sighting(at: &StoreAddress, answers: Vec<RedisResult<Value>>) -> Result<Option<Sighting>, StoreError> {
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
    let address: Option<(String, u16)> = next().and_then(parse).map_err(|error| no_answer(at, &error))?;
    let Some((host, port)) = address else { return Ok(None) };
    let fields: Vec<String> = next().and_then(parse).map_err(|error| no_answer(at, &error))?;
    let epoch = fields.chunks_exact(2).find(|pair| pair[0] == "config-epoch").map(|pair| pair[1].parse());
    let epoch = epoch.and_then(Result::ok).ok_or_else(|| no_answer(at, &"a Sentinel told no config-epoch"))?;
    Ok(Some(Sighting { epoch, at: StoreAddress::Tcp(host, port) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RedisLogin;

    fn at(port: u16) -> StoreAddress {
        StoreAddress::Tcp("h".to_owned(), port)
    }

    fn three() -> Sentinels {
        let doors = Doors::new(RedisLogin::default(), 0, None, Duration::from_secs(1));
        Sentinels::new(vec![at(1), at(2), at(3)], "m".to_owned(), Arc::new(doors))
    }

    fn seen(epoch: u64, port: u16) -> Option<Sighting> {
        Some(Sighting { epoch, at: at(port) })
    }

    #[test]
    fn one_late_sentinel_does_not_bring_a_deposed_master_back() {
        let sentinels = three();
        assert_eq!(sentinels.settle(vec![seen(4, 7)]), seen(4, 7));
        assert_eq!(sentinels.settle(vec![seen(4, 7), seen(5, 8), seen(4, 7)]), seen(5, 8));
        assert_eq!(sentinels.settle(vec![seen(4, 7)]), seen(5, 8));
    }

    #[test]
    fn sentinels_that_were_set_up_anew_are_believed_if_most_agree() {
        let sentinels = three();
        assert_eq!(sentinels.settle(vec![seen(9, 7)]), seen(9, 7));
        assert_eq!(sentinels.settle(vec![seen(0, 8), None]), seen(9, 7));
        assert_eq!(sentinels.settle(vec![seen(0, 8), seen(0, 8)]), seen(0, 8));
    }

    #[test]
    fn what_is_not_an_answer_of_a_sentinel_is_refused() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let place = || Ok(Value::Array(vec![text("h"), text("7")]));
        let epoch = |said| Ok(Value::Array(vec![text("name"), text("m"), text("config-epoch"), text(said)]));
        assert_eq!(sighting(&at(1), vec![place(), epoch("3")]).unwrap(), seen(3, 7));
        assert_eq!(sighting(&at(1), vec![Ok(Value::Nil)]).unwrap(), None);
        for answers in [vec![place()], vec![place(), epoch("x")], vec![Ok(Value::Int(3))]] {
            assert!(sighting(&at(1), answers).is_err());
        }
    }
}
