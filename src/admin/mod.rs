//! The operator's door: HTTP and JSON over a Unix socket that only its owner may open.
//!
//! | route                  | answers                                             |
//! |------------------------|-----------------------------------------------------|
//! | `GET /v1/status`       | [`wire::Status`]: this proxy, its peers, backends    |
//! | `GET /v1/users/{name}` | [`wire::Whereabouts`]: where a user is at home       |
//! | `GET /v1/backends`     | [`wire::Backends`]: the backend table, loads, work   |
//! | `GET /v1/backends/{name}` | [`wire::BackendShown`]: one of them, with progress |
//! | `POST /v1/backends?verb=…&name=…` | [`wire::Changed`]: a change, and who follows; with `dry`, [`wire::Planned`] |
//! | `GET /v1/dump`         | [`wire::Dump`]: commands that restore what is set    |
//! | `POST /v1/reload`      | [`wire::Reloaded`]: what a changed file has changed  |
//!
//! A failure is [`wire::Failure`], with 503 if the store cannot be asked and 409 if a reload or change was refused.

mod backends;
mod client;
mod dump;
mod reload;
mod socket;
mod status;
mod users;
pub mod wire;

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::config::Changes;
use crate::fleet::Fleet;
use crate::session::Services;
pub use socket::Socket;

/// How long an operator waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What the door gives access to.
pub struct Admin {
    /// This proxy among its peers.
    pub fleet: Arc<Fleet>,
    /// What its sessions use.
    pub services: Arc<Services>,
    /// When it became ready.
    pub began: Instant,
    /// Reads the configuration again.
    pub reload: Arc<dyn Reload>,
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
    serve(Socket::bind(socket).await?, admin)
}

/// Opens the door at a socket.
pub fn serve(socket: Socket, admin: Admin) -> io::Result<Open> {
    let router = Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/users/{name}", get(users::whereabouts))
        .route("/v1/backends", get(backends::list).post(backends::change))
        .route("/v1/backends/{name}", get(backends::show))
        .route("/v1/dump", get(dump::dump))
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
