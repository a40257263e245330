//! Questions about users.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::stream::pages;
use super::super::{Admin, failure, wire};
use super::told;
use crate::model::{BackendId, Key, Pool};
use crate::placement::{Bookmark, Candidate, Explanation, Filter, Next};
use crate::store::BindingView;

/// The pool that the passdb would name.
#[derive(Debug, serde::Deserialize)]
pub(in crate::admin) struct PoolAsk {
    pool: Option<String>,
}

/// Where a user is at home, as the store knows it.
pub(in crate::admin) async fn whereabouts(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    let key = admin.fleet.key_of(&name);
    match admin.moves.explain(&key, None).await {
        Ok(Explanation { binding, holders, .. }) => Json(wire::Whereabouts {
            key: key.to_string(),
            home: told::home(&binding, &holders),
            marks: told::marks(&binding),
        })
        .into_response(),
        Err(why) => failure(StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
    }
}

/// Why a user is there, and where a login would go.
pub(in crate::admin) async fn explain(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Query(ask): Query<PoolAsk>,
) -> Response {
    let (key, pool) = (admin.fleet.key_of(&name), ask.pool.map(Pool::new));
    match admin.moves.explain(&key, pool.as_ref()).await {
        Ok(explanation) => Json(explained(name, &key, explanation)).into_response(),
        Err(why) => failure(StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
    }
}

fn explained(name: String, key: &Key, explanation: Explanation) -> wire::Explained {
    let Explanation { shard, binding, age_ms, holders, next, candidates, .. } = explanation;
    let (next, backend, why) = match next {
        Next::Goes(backend, why) => ("goes", Some(backend.to_string()), why.to_owned()),
        Next::Waits(why) => ("waits", None, why),
        Next::Fails(why) => ("fails", None, why),
    };
    wire::Explained {
        name,
        key: key.to_string(),
        shard,
        home: told::home(&binding, &holders),
        age_ms,
        marks: told::marks(&binding),
        next: next.to_owned(),
        next_backend: backend,
        why,
        candidates: candidates.iter().map(candidate).collect(),
    }
}

fn candidate(candidate: &Candidate) -> wire::Candidate {
    wire::Candidate {
        backend: candidate.backend.to_string(),
        sessions: candidate.load,
        users: candidate.users,
        share_percent: candidate.share as f64 / 100.0,
        load_per_share: candidate.load_per_share(),
    }
}

/// The homes of a user.
pub(in crate::admin) async fn history(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    let key = admin.fleet.key_of(&name);
    let Explanation { binding, age_ms, holders, now, .. } = match admin.moves.explain(&key, None).await {
        Ok(explanation) => explanation,
        Err(why) => return failure(StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
    };
    let past = binding.past.iter().map(|past| wire::FormerHome {
        backend: past.backend.to_string(),
        began_ms_ago: now.saturating_sub(past.generation.0),
        ended_ms_ago: now.saturating_sub(past.until.0),
        why: past.why.clone(),
    });
    let past = past.collect();
    Json(wire::History { key: key.to_string(), home: told::home(&binding, &holders), age_ms, past }).into_response()
}

/// The users of the fleet, page by page, for as long as somebody reads.
pub(in crate::admin) fn list(admin: Arc<Admin>, wanted: wire::ListAsk) -> Response {
    let filter = Filter {
        backend: wanted.backend.map(BackendId::new),
        pool: wanted.pool.map(Pool::new),
        held: wanted.held,
        pinned: wanted.pinned,
        moving: wanted.moving,
    };
    let left = if wanted.limit == 0 { usize::MAX } else { wanted.limit };
    let filter = Arc::new(filter);
    pages((Bookmark::default(), left), move |(from, left)| {
        let (admin, filter) = (admin.clone(), filter.clone());
        async move {
            let (mut users, next) = admin.moves.page(&filter, from).await.map_err(|why| why.to_string())?;
            users.truncate(left);
            let left = left - users.len();
            let next = next.filter(|_| left > 0).map(|next| (next, left));
            Ok((users.iter().map(row).collect(), next))
        }
    })
}

fn row((key, binding): &(Key, BindingView)) -> wire::UserRow {
    wire::UserRow {
        key: key.to_string(),
        backend: binding.backend.as_ref().map(ToString::to_string),
        sessions: binding.sessions,
        idle_s: binding.idle_ms.map(|ms| ms / 1000),
        marks: told::marks(binding),
    }
}
