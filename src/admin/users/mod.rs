//! `/v1/users`: where users are, and what is done to them.

mod ask;
mod told;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;

pub(super) use ask::{explain, history, list, whereabouts};

use super::stream::in_background;
use super::{Admin, wire};
use crate::model::BackendId;
use crate::placement::{Migration, MoveWish};

/// Moves a user.
pub(super) async fn move_user(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Json(ask): Json<wire::MoveAsk>,
) -> Response {
    let wish = MoveWish { to: ask.to.map(BackendId::new), force: ask.force, hook: ask.hook, wait: ask.wait };
    in_background(async move {
        let key = admin.fleet.key_of(&name);
        let report = match ask.confirm {
            true => admin.moves.move_confirmed(&key, &wish, &admin.tools.quiet()).await,
            false => admin.moves.move_user(&key, &wish).await,
        };
        report.map(told::moved).map_err(|refused| refused.to_string())
    })
}

/// Ends a user's sessions.
pub(super) async fn kick(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Json(ask): Json<wire::KickAsk>,
) -> Response {
    in_background(async move {
        let key = admin.fleet.key_of(&name);
        let report = match ask.confirm {
            true => admin.moves.kick_confirmed(&key, &admin.tools.quiet()).await,
            false => admin.moves.kick(&key, ask.wait).await,
        };
        report.map(told::moved).map_err(|refused| refused.to_string())
    })
}

/// Keeps a user out.
pub(super) async fn hold(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Json(ask): Json<wire::HoldAsk>,
) -> Response {
    in_background(async move {
        let span = ask.for_ms.map(Duration::from_millis);
        let report = admin.moves.hold(&admin.fleet.key_of(&name), span, ask.kick).await;
        report.map(told::marked).map_err(|refused| refused.to_string())
    })
}

/// Lets a user in again.
pub(super) async fn release(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    in_background(async move {
        let report = admin.moves.release(&admin.fleet.key_of(&name)).await;
        report.map(told::marked).map_err(|refused| refused.to_string())
    })
}

/// Fixes a user's home.
pub(super) async fn pin(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Json(ask): Json<wire::PinAsk>,
) -> Response {
    in_background(async move {
        let report = admin.moves.pin(&admin.fleet.key_of(&name), &BackendId::new(ask.backend), ask.go).await;
        report.map(told::marked).map_err(|refused| refused.to_string())
    })
}

/// Forgets a pin.
pub(super) async fn unpin(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    in_background(async move {
        let report = admin.moves.unpin(&admin.fleet.key_of(&name)).await;
        report.map(told::marked).map_err(|refused| refused.to_string())
    })
}

/// Takes a user's mailbox to another backend.
pub(super) async fn migrate(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Json(ask): Json<wire::MigrateAsk>,
) -> Response {
    in_background(async move {
        let limit = Duration::from_secs(ask.hook_timeout_s);
        let copy = ask.hook.map(|hook| admin.tools.hook(&hook, limit)).transpose()?;
        let quiet = ask.confirm.then(|| admin.tools.quiet());
        let migration = Migration { to: BackendId::new(ask.to), copy, quiet, pin: ask.pin };
        Ok(told::migrated(admin.moves.migrate(&admin.fleet.key_of(&name), &migration).await))
    })
}

/// The users of the fleet.
pub(super) async fn all(State(admin): State<Arc<Admin>>, Query(wanted): Query<wire::ListAsk>) -> Response {
    list(admin, wanted)
}
