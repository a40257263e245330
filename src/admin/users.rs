//! `GET /v1/users/{name}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Admin, failure, in_time, wire};
use crate::model::Incarnation;
use crate::store::{BindingView, Census};

/// Where a user is at home, as the store knows it.
pub(super) async fn whereabouts(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    let key = admin.fleet.key_of(&name);
    let store = admin.fleet.store();
    let shard = admin.fleet.number_of(&key) as u16; // there are fewer shards than u16 can count
    let binding = match in_time(store.binding(shard, &key)).await {
        Ok(binding) => binding,
        Err(why) => return failure(StatusCode::SERVICE_UNAVAILABLE, why),
    };
    // Names are a courtesy: without a census the incarnations stand alone.
    let census = in_time(store.census(shard)).await.unwrap_or_default();
    let home = binding.and_then(|binding| home(&binding, &census));
    Json(wire::Whereabouts { key: key.to_string(), home }).into_response()
}

fn home(binding: &BindingView, census: &Census) -> Option<wire::Home> {
    let name = |incarnation: &Incarnation| {
        census.proxies.iter().find(|proxy| &proxy.incarnation == incarnation).map(|proxy| proxy.name.clone())
    };
    let holder = |(incarnation, sessions): &(_, u32)| wire::Holder {
        proxy: name(incarnation),
        incarnation: incarnation.to_string(),
        sessions: *sessions,
    };
    Some(wire::Home {
        backend: binding.backend.as_ref()?.to_string(),
        generation: binding.generation.0,
        sessions: binding.sessions,
        holders: binding.holders.iter().map(holder).collect(),
        idle_s: binding.idle_ms.map(|ms| ms / 1000),
    })
}
