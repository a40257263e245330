//! `POST /v1/reload`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Admin, failure, wire};

/// Reads the configuration again.
pub(super) async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    match admin.reload.reload().await {
        Ok(changes) => {
            let reloaded = wire::Reloaded { applied: changes.applied, needs_restart: changes.needs_restart };
            Json(reloaded).into_response()
        }
        Err(why) => failure(StatusCode::CONFLICT, why),
    }
}
