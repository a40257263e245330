//! `/v1/kicks` and `/v1/audit`: what the whole fleet is asked, by whichever proxy an operator reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::iter;
use tokio::time::{Instant, sleep};

use super::stream::in_background;
use super::{Admin, wire};
use crate::model::{BackendId, Incarnation, Key};
use crate::placement::errand::{self, Answers, Audited, Errand, Report};

/// How long proxies may take to close sessions, and to say so.
const KICKING: Duration = Duration::from_secs(25);
/// How long they may take to compare all that they hold.
const AUDITING: Duration = Duration::from_secs(120);
/// Between the first look at a user who seems to be astray and the second: whoever was on the way is home by then.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// Bindings that are looked up at once.
const LOOKUPS: usize = 16;

/// Ends the sessions of many.
pub(super) async fn kick(State(admin): State<Arc<Admin>>, Json(ask): Json<wire::KickMany>) -> Response {
    in_background(async move {
        let began = Instant::now();
        if let wire::Whom::Backend(name) = &ask.whom
            && !admin.fleet.shards()[0].roster.table().rows.contains_key(&BackendId::new(name))
        {
            return Err(format!("there is no backend {name}"));
        }
        let asked = Errand::Kick(ask.whom);
        let answers = errand::ask(&**admin.fleet.store(), &asked, KICKING).await.map_err(|error| error.to_string())?;
        let names = names(&admin).await;
        let mut done = wire::KickedMany {
            proxies: count(answers.reports.len() + answers.silent.len()),
            confirmed: 0,
            told: 0,
            left: 0,
            ms: 0,
            complaints: silent(&answers, &names),
        };
        for (incarnation, report) in &answers.reports {
            match report {
                Report::Kicked { told, left } => {
                    done.told += told;
                    done.left += left;
                    done.confirmed += u32::from(*left == 0);
                }
                other => done.complaints.push(odd(&names, incarnation, other)),
            }
        }
        done.ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(done)
    })
}

/// Looks for differences.
pub(super) async fn audit(State(admin): State<Arc<Admin>>) -> Response {
    in_background(async move {
        let store = admin.fleet.store();
        let answers = errand::ask(&**store, &Errand::Audit, AUDITING).await.map_err(|error| error.to_string())?;
        let names = names(&admin).await;
        let mut audit = wire::Audit {
            proxies: count(answers.reports.len() + answers.silent.len()),
            confirmed: 0,
            keys: 0,
            sessions: 0,
            differences: Vec::new(),
            more: 0,
            backends: 0,
            strays: Vec::new(),
            split: Vec::new(),
            splits_ended: 0,
            complaints: silent(&answers, &names),
        };
        match splits(&admin).await {
            Ok(splits) => audit.splits_ended = splits,
            Err(why) => audit.complaints.push(format!("the store does not say what it has ended: {why}")),
        }
        for (incarnation, report) in answers.reports {
            match report {
                Report::Audited(audited) => add(&mut audit, &names, &incarnation, audited),
                other => audit.complaints.push(odd(&names, &incarnation, &other)),
            }
        }
        ask_backends(&admin, &mut audit).await;
        audit.split = split(&audit);
        Ok(audit)
    })
}

fn add(audit: &mut wire::Audit, names: &Names, incarnation: &Incarnation, audited: Audited) {
    audit.confirmed += 1;
    audit.keys += audited.keys;
    audit.sessions += audited.sessions;
    audit.more += audited.more;
    let proxy = name(names, incarnation);
    audit.complaints.extend(audited.unseen.iter().map(|what| format!("{proxy} could not look up {what}")));
    let found = audited.differences.into_iter();
    audit.differences.extend(found.map(|difference| wire::ProxyDifference { proxy: proxy.clone(), difference }));
}

/// Keys that somebody has at another backend than somebody else, by the proxies' ledgers, the table where it counts
/// sessions, and the mail servers' own words.
fn split(audit: &wire::Audit) -> Vec<String> {
    let astray = audit.differences.iter().map(|row| &row.difference).filter(|row| row.is_astray());
    let mut homes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in astray {
        let seen = homes.entry(&row.key).or_default();
        seen.extend(row.here.as_deref());
        seen.extend(row.table.as_deref().filter(|_| row.elsewhere > 0));
    }
    for stray in &audit.strays {
        let seen = homes.entry(&stray.key).or_default();
        seen.insert(&stray.backend);
        seen.extend(stray.home.as_deref().filter(|_| stray.counted > 0));
    }
    homes.into_iter().filter(|(_, seen)| seen.len() > 1).map(|(key, _)| key.to_owned()).collect()
}

/// Asks the mail servers that can be asked who is there. Whoever has a home elsewhere is told of first.
async fn ask_backends(admin: &Admin, audit: &mut wire::Audit) {
    for (backend, users) in admin.tools.present(None).await {
        let asked = strays_of(admin, &backend, users, &mut audit.complaints).await;
        match asked {
            Ok(strays) => {
                audit.backends += 1;
                audit.strays.extend(strays);
            }
            Err(why) => audit.complaints.push(format!("{backend} could not be asked who is there: {why}")),
        }
    }
    audit.strays.sort_by_key(|stray| stray.home.as_ref().is_none_or(|home| *home == stray.backend));
}

/// Those who are astray at two looks.
async fn strays_of(
    admin: &Admin,
    backend: &BackendId,
    users: Result<Vec<(String, u32)>, String>,
    complaints: &mut Vec<String>,
) -> Result<Vec<wire::Stray>, String> {
    let suspects = strays(admin, backend, users?, complaints).await;
    if suspects.is_empty() {
        return Ok(suspects);
    }
    sleep(SECOND_LOOK).await;
    let again = admin.tools.present(Some(backend)).await.remove(backend);
    let mut again = again.unwrap_or_else(|| Err("it is not in the configuration any more".to_owned()))?;
    let suspected: BTreeSet<&str> = suspects.iter().map(|stray| stray.key.as_str()).collect();
    again.retain(|(user, _)| suspected.contains(admin.fleet.key_of(user).as_str()));
    Ok(strays(admin, backend, again, complaints).await)
}

/// Those of a mail server's users who, by the table, are at home elsewhere or have no session.
async fn strays(
    admin: &Admin,
    backend: &BackendId,
    users: Vec<(String, u32)>,
    complaints: &mut Vec<String>,
) -> Vec<wire::Stray> {
    let mut connections: BTreeMap<Key, u32> = BTreeMap::new();
    for (user, number) in users {
        *connections.entry(admin.fleet.key_of(&user)).or_default() += number;
    }
    // Probes come and go everywhere, past the table.
    if let Some(probe) = admin.health.probe_user() {
        connections.remove(&admin.fleet.key_of(&probe));
    }
    let mut looks =
        std::pin::pin!(iter(connections).map(|(key, number)| stray(admin, backend, key, number)).buffered(LOOKUPS));
    let (mut strays, mut unseen) = (Vec::new(), None::<(u64, String)>);
    while let Some(look) = looks.next().await {
        match look {
            Ok(found) => strays.extend(found),
            Err(why) => unseen = Some((unseen.map_or(1, |(number, _)| number + 1), why)),
        }
    }
    complaints.extend(unseen.map(|(number, why)| format!("{number} users of {backend} could not be looked up: {why}")));
    strays
}

async fn stray(admin: &Admin, backend: &BackendId, key: Key, connections: u32) -> Result<Option<wire::Stray>, String> {
    let shard = admin.fleet.shard_of(&key).number;
    let binding = admin.fleet.store().binding(shard, &key).await.map_err(|error| error.to_string())?;
    let binding = binding.unwrap_or_default();
    if binding.sessions > 0 && binding.backend.as_ref() == Some(backend) {
        return Ok(None);
    }
    Ok(Some(wire::Stray {
        key: key.to_string(),
        backend: backend.to_string(),
        connections,
        home: binding.backend.map(|home| home.to_string()),
        counted: binding.sessions,
    }))
}

type Names = BTreeMap<Incarnation, String>;

/// What people call the proxies. Names are a courtesy: without a census the incarnations stand alone.
async fn names(admin: &Admin) -> Names {
    let census = admin.fleet.store().census(0).await.unwrap_or_default();
    census.proxies.into_iter().map(|proxy| (proxy.incarnation, proxy.name)).collect()
}

fn name(names: &Names, incarnation: &Incarnation) -> String {
    names.get(incarnation).map_or_else(|| incarnation.to_string(), |name| format!("{name} ({incarnation})"))
}

fn silent(answers: &Answers, names: &Names) -> Vec<String> {
    let said = |incarnation| format!("{} has a lease but does not answer", name(names, incarnation));
    answers.silent.iter().map(said).collect()
}

fn odd(names: &Names, incarnation: &Incarnation, report: &Report) -> String {
    let why = match report {
        Report::Failed(why) => why.as_str(),
        _ => "its answer is that to another question",
    };
    format!("{}: {why}", name(names, incarnation))
}

async fn splits(admin: &Admin) -> Result<u64, String> {
    let mut splits = 0;
    for shard in admin.fleet.shards() {
        splits += admin.fleet.store().census(shard.number).await.map_err(|error| error.to_string())?.splits;
    }
    Ok(splits)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
