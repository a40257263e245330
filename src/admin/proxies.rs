//! `/v1/proxies`: what is done about dead ones.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;

use super::stream::in_background;
use super::{Admin, wire};
use crate::model::Incarnation;

/// Frees what the orphans of that name hold.
pub(super) async fn forget(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Json(ask): Json<wire::ForgetAsk>,
) -> Response {
    in_background(async move {
        let done = admin.moves.forget_proxy(&name, ask.force).await.map_err(|refused| refused.to_string())?;
        if done.freed.is_empty() && done.alive.is_empty() {
            return Err(format!("the fleet knows no proxy {name}, dead or alive"));
        }
        let names = |list: Vec<Incarnation>| list.iter().map(ToString::to_string).collect();
        Ok(wire::Forgotten { freed: names(done.freed), alive: names(done.alive) })
    })
}
