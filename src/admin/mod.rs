//! The operator's door: HTTP and JSON over a Unix socket that only its owner may open.
//!
//! | route                               | answers                                                       |
//! |-------------------------------------|---------------------------------------------------------------|
//! | `GET /v1/status`                    | [`wire::Status`]: this proxy, its peers, backends              |
//! | `GET /v1/users?backend=..`          | lines of [`wire::UserRow`]; asked by [`wire::ListAsk`]         |
//! | `GET /v1/users/{name}`              | [`wire::Whereabouts`]: where a user is at home                 |
//! | `GET /v1/users/{name}/explain`      | [`wire::Explained`]: why, and where a login would go           |
//! | `GET /v1/users/{name}/history`      | [`wire::History`]: former homes                                |
//! | `POST /v1/users/{name}/move`        | [`wire::MoveAsk`]; a line of [`wire::Moved`]                   |
//! | `POST /v1/users/{name}/kick`        | [`wire::KickAsk`]; a line of [`wire::Moved`]                   |
//! | `POST /v1/users/{name}/hold`        | [`wire::HoldAsk`]; a line of [`wire::Marked`]                  |
//! | `POST /v1/users/{name}/pin`         | [`wire::PinAsk`]; a line of [`wire::Marked`]                   |
//! | `POST /v1/users/{name}/release`, `/unpin` | a line of [`wire::Marked`]                               |
//! | `POST /v1/users/{name}/migrate`     | [`wire::MigrateAsk`]; a line of [`wire::Migrated`]             |
//! | `POST /v1/proxies/{name}/forget`    | [`wire::ForgetAsk`]; a line of [`wire::Forgotten`]             |
//! | `GET /v1/backends`     | [`wire::Backends`]: the backend table, loads, work   |
//! | `GET /v1/backends/{name}` | [`wire::BackendShown`]: one of them, with progress |
//! | `POST /v1/backends?verb=…&name=…` | [`wire::Changed`]: a change, and who follows; with `dry`, [`wire::Planned`] |
//! | `GET /v1/dump`         | lines of [`wire::Restoring`]: commands that restore what is set |
//! | `POST /v1/kicks`                   | [`wire::KickMany`]; a line of [`wire::KickedMany`]             |
//! | `POST /v1/audit`                   | a line of [`wire::Audit`]: who is where, held against the table |
//! | `GET /v1/auth`                       | [`wire::AuthStats`]: passdbs, and the cache before them         |
//! | `POST /v1/auth/test`                | [`wire::TrialAsk`]; a line of [`wire::Trial`]                  |
//! | `POST /v1/auth/flush`               | [`wire::FlushAsk`]; a line of [`wire::Flushed`]                |
//! | `POST /v1/auth/forgive`             | [`wire::ForgiveAsk`]; a line of [`wire::Forgiven`]             |
//! | `POST /v1/reload`                   | [`wire::Reloaded`]: what a changed file has changed            |
//!
//! A failure is [`wire::Failure`], with 503 if the store cannot be asked and 409 if a reload or a change was refused. What may take a
//! while is answered in lines, each a [`wire::Line`]; it is done to its end also if nobody waits for that.

mod auth;
mod backends;
mod client;
mod dump;
mod errands;
mod proxies;
mod reload;
mod status;
mod stream;
mod users;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::config::Changes;
use crate::fleet::{Fleet, Hook};
use crate::health::Health;
use crate::model::BackendId;
pub use crate::net::LocalSocket as Socket;
use crate::placement::{Moves, Quiet};
use crate::session::Services;

/// Permissions of the operator's socket.
pub const OWNER_ONLY: u32 = 0o600;
/// How long an operator waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What the door gives access to.
pub struct Admin {
    /// This proxy among its peers.
    pub fleet: Arc<Fleet>,
    /// What its sessions use.
    pub services: Arc<Services>,
    /// Which backends this proxy finds fit.
    pub health: Arc<Health>,
    /// When it became ready.
    pub began: Instant,
    /// Reads the configuration again.
    pub reload: Arc<dyn Reload>,
    /// What is done to users.
    pub moves: Arc<Moves>,
    /// What migrations use.
    pub tools: Arc<dyn Tools>,
}

/// What a migration is done with, beside the store.
#[async_trait]
pub trait Tools: Send + Sync {
    /// Something to run, as the operator names it: a command or a URL. It may take so long.
    fn hook(&self, what: &str, limit: Duration) -> Result<Arc<dyn Hook>, String>;

    /// Who can say whether a mail server has let go of a user.
    fn quiet(&self) -> Arc<dyn Quiet>;

    /// What the mail servers that can be asked, or `only` one, say about who is there: users with their connections, or
    /// why not.
    async fn present(&self, only: Option<&BackendId>) -> BTreeMap<BackendId, Result<Vec<(String, u32)>, String>>;
}

/// Reads the configuration again; the error is for the operator.
#[async_trait::async_trait]
pub trait Reload: Send + Sync {
    /// All of it or nothing.
    async fn reload(&self) -> Result<Changes, String>;
}

/// An open door. Dropping it leaves it open.
pub struct Open {
    task: AbortHandle,
    socket: Arc<Socket>,
}

impl Open {
    /// Closes it and removes the socket.
    pub fn close(self) {
        self.task.abort();
        self.socket.remove();
    }
}

/// Takes the name `socket` and opens the door there.
pub async fn open(socket: &Path, admin: Admin) -> io::Result<Open> {
    serve(Socket::bind(socket, OWNER_ONLY).await?, admin)
}

/// Opens the door at a socket.
pub fn serve(socket: Socket, admin: Admin) -> io::Result<Open> {
    let router = Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/users", get(users::all))
        .route("/v1/users/{name}", get(users::whereabouts))
        .route("/v1/users/{name}/explain", get(users::explain))
        .route("/v1/users/{name}/history", get(users::history))
        .route("/v1/users/{name}/move", post(users::move_user))
        .route("/v1/users/{name}/kick", post(users::kick))
        .route("/v1/users/{name}/hold", post(users::hold))
        .route("/v1/users/{name}/release", post(users::release))
        .route("/v1/users/{name}/pin", post(users::pin))
        .route("/v1/users/{name}/unpin", post(users::unpin))
        .route("/v1/users/{name}/migrate", post(users::migrate))
        .route("/v1/proxies/{name}/forget", post(proxies::forget))
        .route("/v1/backends", get(backends::list).post(backends::change))
        .route("/v1/backends/{name}", get(backends::show))
        .route("/v1/dump", get(dump::dump))
        .route("/v1/kicks", post(errands::kick))
        .route("/v1/audit", post(errands::audit))
        .route("/v1/auth", get(auth::stats))
        .route("/v1/auth/test", post(auth::try_out))
        .route("/v1/auth/flush", post(auth::flush))
        .route("/v1/auth/forgive", post(auth::forgive))
        .route("/v1/reload", post(reload::reload))
        .fallback(async || failure(StatusCode::NOT_FOUND, "there is no such route"))
        .method_not_allowed_fallback(async || failure(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .with_state(Arc::new(admin));
    let listener = socket.listen()?;
    let socket = Arc::new(socket);
    let named = socket.clone();
    let task = tokio::spawn(async move {
        let _named = named; // for as long as it is served
        // Ends only with the process: accept errors are axum's to wait out.
        let _ = axum::serve(listener, router).await;
    });
    Ok(Open { task: task.abort_handle(), socket })
}

/// Asks the store, but not for ever: operators ask just when something hangs.
async fn in_time<T, E: Display>(question: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(STORE_PATIENCE, question).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the store gave no answer within {STORE_PATIENCE:?}")),
    }
}

/// A failure as a response.
fn failure(status: StatusCode, error: impl Into<String>) -> Response {
    (status, axum::Json(wire::Failure { error: error.into() })).into_response()
}
