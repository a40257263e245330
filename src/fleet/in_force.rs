//! Brings a change of the backend table about, and waits until every live proxy has it. Nobody owns the table: each change
//! says which version it was made from, and whoever comes second makes it anew.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::{Change, Fleet, Roster, Rows, Shard, reports};
use crate::model::Incarnation;
use crate::store::{Ask, Order, Ordered, Outcome, Table};

/// How often a change is made anew because somebody else was faster.
const TRIES: u32 = 5;
/// Before it is.
const AGAIN: Duration = Duration::from_millis(20);
/// How long an operator waits for word of the proxies. Theirs is due with the next heartbeat.
const CONFIRM: Duration = Duration::from_secs(5);
/// Between two looks for it, and between two for a store that recovers.
const LOOK: Duration = Duration::from_millis(50);
/// How much longer than others an order may take: the store waits for a replica to have it.
const REPLICA: Duration = Duration::from_secs(2);
/// How long a change waits for a store to recover: several windows of the default length.
const RECOVERED: Duration = Duration::from_secs(15);
/// How long proxies may give word of a table.
const ERRAND: Duration = Duration::from_secs(30);

/// A change, and how far the fleet follows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InForce {
    /// The version that has it.
    pub version: u64,
    /// Proxies with a lease.
    pub live: u32,
    /// Those of them that have the table in every shard.
    pub confirmed: u32,
    /// The names of the others, or their incarnations.
    pub silent: Vec<String>,
    /// What proxies say that they cannot use.
    pub complaints: Vec<String>,
    /// How many replicas of the store have it, and how many there are; `None` if nothing was written, or there are none.
    pub replicas: Option<(u32, u32)>,
    /// What the operator should know beside.
    pub notes: Vec<String>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeFault {
    /// It makes no sense.
    #[error("{0}")]
    Refused(String),
    /// Others were always faster.
    #[error("the backend table is being changed; try again")]
    Busy,
    /// The store has lost its memory and is told again what was.
    #[error("the store is recovering; try again in a moment")]
    Recovering,
    /// The store cannot be asked. Nothing was changed.
    #[error("{0}")]
    Unreachable(String),
    /// It cannot be asked. Nobody knows whether it has made the change.
    #[error("{0}; whether the change was made is not known: look with `homing backend list`")]
    Unknown(String),
}

impl Fleet {
    /// Changes the backend table, and waits until the live proxies have it, or for a while.
    ///
    /// # Errors
    /// If it was not made, or the store does not say.
    pub async fn change(&self, change: &Change) -> Result<InForce, ChangeFault> {
        let first = &self.shards[0];
        let file = first.roster.file();
        let mut notes = Vec::new();
        let edit = |rows: &Rows| {
            let (rows, said) = change.apply(rows, &file).map_err(ChangeFault::Refused)?;
            notes = said;
            Ok(rows)
        };
        let (version, replicas) = amend(first, edit).await?;
        let mut report = self.word_of(version).await;
        (report.replicas, report.notes) = (replicas, notes);
        Ok(report)
    }

    /// Asks every live proxy for word that it has the table of that version.
    async fn word_of(&self, version: u64) -> InForce {
        let mut report = InForce { version, ..InForce::default() };
        let ask = Ask { text: reports::table_errand(version), ttl: ERRAND.as_millis() as u64 };
        let asked = order(&self.shards[0], Order::Ask(ask)).await;
        let Ok(Ordered { outcome: Outcome::Asked { errand, live }, .. }) = asked else { return report };
        let deadline = Instant::now() + CONFIRM;
        let mut answers = Vec::new();
        loop {
            if let Ok(Ordered { outcome: Outcome::Answers(heard), .. }) =
                order(&self.shards[0], Order::Answers { errand }).await
            {
                answers = heard;
                if answers.iter().all(|(_, answer)| answer.is_some()) {
                    break;
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            sleep(LOOK).await;
        }
        let said: BTreeMap<_, _> = answers.into_iter().filter_map(|(inc, answer)| Some((inc, answer?))).collect();
        report.live = live.len() as u32; // a fleet has fewer proxies than u32 can count
        // Also whose lease has run out meanwhile.
        let silent: Vec<_> = live.into_iter().filter(|inc| !said.contains_key(inc)).collect();
        report.confirmed = report.live - silent.len() as u32; // part of them
        report.complaints = said.into_values().filter(|said| !said.is_empty()).collect();
        report.complaints.dedup();
        report.silent = self.names(silent).await;
        report
    }

    /// The names of incarnations, where the store knows them.
    async fn names(&self, incarnations: Vec<Incarnation>) -> Vec<String> {
        if incarnations.is_empty() {
            return Vec::new();
        }
        let census = timeout(self.shards[0].patience, self.store.census(0)).await;
        let proxies = census.ok().and_then(Result::ok).map(|census| census.proxies).unwrap_or_default();
        let name = |inc: Incarnation| {
            let proxy = proxies.iter().find(|proxy| proxy.incarnation == inc);
            proxy.map_or_else(|| inc.to_string(), |proxy| format!("{} ({inc})", proxy.name))
        };
        incarnations.into_iter().map(name).collect()
    }
}

/// Has the table be what `edit` makes of it, as soon as the store knows what it was. Returns the version that has it, and
/// how many replicas of the store do.
async fn amend(
    first: &Shard,
    mut edit: impl FnMut(&Rows) -> Result<Rows, ChangeFault>,
) -> Result<(u64, Option<(u32, u32)>), ChangeFault> {
    let deadline = Instant::now() + RECOVERED;
    loop {
        match amend_now(first, &mut edit).await {
            Err(ChangeFault::Recovering) if Instant::now() < deadline => sleep(LOOK).await,
            done => return done,
        }
    }
}

async fn amend_now(
    first: &Shard,
    edit: &mut impl FnMut(&Rows) -> Result<Rows, ChangeFault>,
) -> Result<(u64, Option<(u32, u32)>), ChangeFault> {
    let mut base = stored(first).await?;
    for _ in 0..TRIES {
        let rows = edit(&base.rows)?;
        if rows == base.rows {
            return Ok((base.version, None));
        }
        let ordered = order(first, Order::Table { based_on: base.version, rows }).await?;
        match ordered.outcome {
            Outcome::Table(Ok(version)) => {
                // It comes with a heartbeat; not to wait for its time.
                first.reports.beat_soon();
                return Ok((version, ordered.replicas));
            }
            // Not what was, but what a store that has forgotten it thinks.
            Outcome::Table(Err(there)) if there.version < first.roster.version() => {
                return Err(ChangeFault::Recovering);
            }
            Outcome::Table(Err(there)) => base = there,
            Outcome::Recovering(_) => return Err(ChangeFault::Recovering),
            other => {
                return Err(ChangeFault::Unknown(format!("the store gave an answer to something else: {other:?}")));
            }
        }
        sleep(AGAIN).await;
    }
    Err(ChangeFault::Busy)
}

/// The store's table: what this proxy last heard may be old, and nothing may be refused, or left undone, by that.
async fn stored(first: &Shard) -> Result<Table, ChangeFault> {
    let census = match timeout(first.patience, first.store.census(first.number)).await {
        Ok(Ok(census)) => census,
        Ok(Err(error)) => return Err(ChangeFault::Unreachable(error.to_string())),
        Err(_) => {
            return Err(ChangeFault::Unreachable(format!("the store gave no answer within {:?}", first.patience)));
        }
    };
    // Nor by what a store has that forgot, while those who know better have yet to tell it.
    if census.recovering_ms.is_some() || census.table_version < first.roster.version() {
        return Err(ChangeFault::Recovering);
    }
    let rows = census.backends.into_iter().map(|view| (view.backend, view.row)).collect();
    Ok(Table { version: census.table_version, rows })
}

pub(super) async fn order(shard: &Shard, order: Order) -> Result<Ordered, ChangeFault> {
    let patience = shard.patience + REPLICA;
    match timeout(patience, shard.store.order(shard.number, &order)).await {
        Ok(Ok(ordered)) => Ok(ordered),
        Ok(Err(error)) => Err(ChangeFault::Unknown(error.to_string())),
        Err(_) => Err(ChangeFault::Unknown(format!("the store gave no answer within {patience:?}"))),
    }
}

/// Gives word of tables for as long as the proxy lives.
pub(super) async fn confirm(shards: Vec<Shard>, own: Incarnation) {
    let Some(first) = shards.first().cloned() else { return };
    loop {
        let (errand, version) = first.reports.table_asked_for().await;
        let (shards, own, first, tasks) = (shards.clone(), own.clone(), first.clone(), first.tasks.clone());
        let word = async move {
            for shard in &shards {
                reached(&shard.roster, version).await;
            }
            let text = first.roster.complaints().join("; ");
            if let Err(error) = order(&first, Order::Answer { errand, incarnation: own, text }).await {
                debug!(%error, "word of the table could not be given");
            }
        };
        tasks.spawn(async move { drop(timeout(ERRAND, word).await) });
    }
}

/// Resolves when the table of that version, or a later one, is in force there.
async fn reached(roster: &Roster, version: u64) {
    // The sender lives in the roster.
    let _ = roster.news().wait_for(|known| *known >= version).await;
}
