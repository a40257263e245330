//! `/v1/kicks` and `/v1/audit`: what the whole fleet is asked, by whichever proxy an operator reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
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
            splits_ended: splits(&admin).await?,
            complaints: silent(&answers, &names),
        };
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
        homes.entry(&stray.key).or_default().extend([stray.backend.as_str(), stray.home.as_str()]);
    }
    homes.into_iter().filter(|(_, seen)| seen.len() > 1).map(|(key, _)| key.to_owned()).collect()
}

/// Asks the mail servers that can be asked who is there.
async fn ask_backends(admin: &Admin, audit: &mut wire::Audit) {
    for (backend, users) in admin.tools.present(None).await {
        match strays_of(admin, &backend, users).await {
            Ok(strays) => {
                audit.backends += 1;
                audit.strays.extend(strays);
            }
            Err(why) => audit.complaints.push(format!("{backend} could not be asked who is there: {why}")),
        }
    }
}

/// Those who are astray at two looks.
async fn strays_of(
    admin: &Admin,
    backend: &BackendId,
    users: Result<Vec<(String, u32)>, String>,
) -> Result<Vec<wire::Stray>, String> {
    let suspects = strays(admin, backend, users?).await?;
    if suspects.is_empty() {
        return Ok(suspects);
    }
    sleep(SECOND_LOOK).await;
    let again = admin.tools.present(Some(backend)).await.remove(backend);
    let mut again = again.unwrap_or_else(|| Err("it is not in the configuration any more".to_owned()))?;
    let suspected = |user: &str| suspects.iter().any(|old| admin.fleet.key_of(user).as_str() == old.key);
    again.retain(|(user, _)| suspected(user));
    strays(admin, backend, again).await
}

/// Those of a mail server's users who are at home elsewhere, with sessions there.
async fn strays(admin: &Admin, backend: &BackendId, users: Vec<(String, u32)>) -> Result<Vec<wire::Stray>, String> {
    let mut strays = Vec::new();
    for (user, connections) in users {
        let key: Key = admin.fleet.key_of(&user);
        let shard = admin.fleet.shard_of(&key).number;
        let binding = admin.fleet.store().binding(shard, &key).await.map_err(|error| error.to_string())?;
        let binding = binding.unwrap_or_default();
        let Some(home) = binding.backend.filter(|home| home != backend && binding.sessions > 0) else { continue };
        let (key, backend, home) = (key.to_string(), backend.to_string(), home.to_string());
        strays.push(wire::Stray { key, backend, connections, home });
    }
    Ok(strays)
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
