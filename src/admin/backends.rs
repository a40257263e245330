//! `GET /v1/backends`, `GET /v1/backends/{name}`, `POST /v1/backends`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, sleep};

use super::{Admin, failure, in_time, wire};
use crate::config::Config;
use crate::fleet::{Change, ChangeFault, InForce, Plan, Verb};
use crate::model::BackendId;
use crate::store::{BackendView, Census};

/// Between the two looks that a rate is taken from.
const BETWEEN: Duration = Duration::from_secs(1);

/// The backend table with loads and work.
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    match look(&admin).await {
        Ok((backends, _)) => Json(backends).into_response(),
        Err(why) => failure(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// One backend; if there is work at it, how fast that goes.
pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    match progress(&admin, &name).await {
        Ok(Some(shown)) => Json(shown).into_response(),
        Ok(None) => failure(StatusCode::NOT_FOUND, format!("there is no backend {name}")),
        Err(why) => failure(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn progress(admin: &Admin, name: &str) -> Result<Option<wire::BackendShown>, String> {
    let find = |backends: wire::Backends| backends.backends.into_iter().find(|line| line.name == name);
    let began = Instant::now();
    let (backends, moving) = look(admin).await?;
    let Some(before) = find(backends) else { return Ok(None) };
    let Some(job) = before.job.as_ref().filter(|job| !job.paused) else {
        return Ok(Some(wire::BackendShown { backend: before, moving, rate: None, left_s: None }));
    };
    sleep(BETWEEN).await;
    let (backends, moving) = look(admin).await?;
    let Some(backend) = find(backends) else { return Ok(None) };
    let left = backend.job.as_ref().map_or(0, |job| job.left);
    let rate = job.left.saturating_sub(left) as f64 / began.elapsed().as_secs_f64();
    let left_s = (rate > 0.0).then(|| (left as f64 / rate).ceil() as u64);
    Ok(Some(wire::BackendShown { backend, moving, rate: Some(rate), left_s }))
}

/// The sum of all shards, and how many users are being moved.
async fn look(admin: &Admin) -> Result<(wire::Backends, u64), String> {
    let (mut lines, mut moving) = (BTreeMap::new(), 0);
    let mut table = (0, 0);
    for shard in admin.fleet.shards() {
        let census = in_time(admin.fleet.store().census(shard.number)).await?;
        if shard.number == 0 {
            table = (census.table_version, census.voters);
        }
        moving += u64::from(census.moving);
        for view in &census.backends {
            let left = left(&census, &view.backend);
            match lines.entry(view.backend.clone()) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    // The first shard's row decides; one that only another shard has is about to go.
                    if shard.number == 0 {
                        entry.insert(line(admin, view, census.now, left));
                    }
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => add(entry.get_mut(), view, left),
            }
        }
    }
    let backends = lines.into_values().collect();
    Ok((wire::Backends { version: table.0, voters: table.1, backends }, moving))
}

/// What live proxies have left to move there, and how many stay because they are pinned.
fn left(census: &Census, backend: &BackendId) -> (u64, u64) {
    let live = census.proxies.iter().filter(|proxy| !proxy.orphan).flat_map(|proxy| &proxy.left);
    live.filter(|left| left.backend == *backend)
        .fold((0, 0), |(keys, pinned), left| (keys + u64::from(left.keys), pinned + u64::from(left.pinned)))
}

fn line(admin: &Admin, view: &BackendView, now: u64, (left, pinned): (u64, u64)) -> wire::BackendLine {
    let row = &view.row;
    let servers = admin.services.servers.load();
    let seconds = |since: u64| now.saturating_sub(since) / 1000;
    let set = [("weight", row.weight_set), ("state", row.state_set), ("added", row.added.is_some())];
    wire::BackendLine {
        name: view.backend.to_string(),
        address: servers.get(&view.backend).map(|server| address(&server.host, server.shown_port())),
        weight: row.weight.get(),
        users: u64::from(view.users),
        pool: row.pool.to_string(),
        state: row.condition().to_owned(),
        since_s: (row.since > 0).then(|| seconds(row.since)),
        sessions: u64::from(view.sessions),
        max_sessions: row.max_sessions,
        votes: view.votes,
        set: set.iter().filter(|(_, is)| *is).map(|(what, _)| (*what).to_owned()).collect(),
        job: row.job.as_ref().map(|job| wire::JobLine {
            kind: job.kind.word().to_owned(),
            paused: job.paused,
            why: job.why.clone(),
            since_s: seconds(job.since),
            left,
            pinned,
        }),
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn add(line: &mut wire::BackendLine, view: &BackendView, (left, pinned): (u64, u64)) {
    line.sessions += u64::from(view.sessions);
    line.users += u64::from(view.users);
    if let Some(job) = &mut line.job {
        job.left += left;
        job.pinned += pinned;
    }
}

/// Does something to backends: `verb`, once; `name`, each; `weight`; `dry`, to see what would be done; all else are settings
/// of a backend that is added.
pub(super) async fn change(State(admin): State<Arc<Admin>>, Query(said): Query<Vec<(String, String)>>) -> Response {
    let (change, dry) = match understood(said) {
        Ok(understood) => understood,
        Err(why) => return failure(StatusCode::BAD_REQUEST, why),
    };
    if dry {
        return match admin.fleet.plan(&change).await {
            Ok(plans) => Json(wire::Planned { at: plans.into_iter().map(planned).collect() }).into_response(),
            Err(fault) => refused(&fault),
        };
    }
    match admin.fleet.change(&change).await {
        Ok(done) => {
            tracing::info!(
                ?change,
                version = done.version,
                confirmed = done.confirmed,
                live = done.live,
                "by an operator"
            );
            Json(changed(done)).into_response()
        }
        Err(fault) => refused(&fault),
    }
}

fn understood(said: Vec<(String, String)>) -> Result<(Change, bool), String> {
    let (mut verb, mut backends, mut argument, mut dry, mut settings) = (None, Vec::new(), None, false, Vec::new());
    for (what, value) in said {
        match what.as_str() {
            "verb" => verb = Some(value),
            "name" => backends.push(BackendId::new(value)),
            "to" => argument = Some(value),
            "dry" => dry = true,
            _ => match what.strip_prefix("set.") {
                Some(key) => settings.push((key.to_owned(), value)),
                None => return Err(format!("{what:?} is not understood")),
            },
        }
    }
    let verb = verb.ok_or("say what to do, with verb=")?;
    if verb == "add" {
        let [name] = backends.as_slice() else { return Err("one backend is added at a time".to_owned()) };
        if !Config::is_name(name.as_str()) {
            return Err(format!("{name:?} cannot be the name of a backend"));
        }
        let line = || Config::added_line(name.as_str(), &settings);
        argument = if settings.is_empty() { None } else { Some(line()?) };
    } else if !settings.is_empty() {
        return Err("settings go with add".to_owned());
    }
    let verb = Verb::from_words(&verb, argument.as_deref())?;
    Ok((Change { backends, verb }, dry))
}

fn refused(fault: &ChangeFault) -> Response {
    let status = match fault {
        ChangeFault::Refused(_) | ChangeFault::Busy => StatusCode::CONFLICT,
        ChangeFault::Recovering | ChangeFault::Unreachable(_) | ChangeFault::Unknown(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    failure(status, fault.to_string())
}

fn changed(done: InForce) -> wire::Changed {
    wire::Changed {
        version: done.version,
        live: done.live,
        confirmed: done.confirmed,
        silent: done.silent,
        complaints: done.complaints,
        replicas: done.replicas,
        notes: done.notes,
    }
}

fn planned(plan: Plan) -> wire::PlannedAt {
    let destination = |(backend, users): (BackendId, u64)| wire::Destination { backend: backend.to_string(), users };
    wire::PlannedAt {
        backend: plan.backend.to_string(),
        users: plan.users,
        sessions: plan.sessions,
        pinned_here: plan.pinned_here,
        takes_s: plan.takes.as_secs_f64().ceil() as u64,
        to: plan.to.into_iter().map(destination).collect(),
    }
}
