//! The operator's door: HTTP and JSON over a Unix socket that only its owner may open.
//!
//! | route                  | answers                                             |
//! |------------------------|-----------------------------------------------------|
//! | `GET /v1/status`       | [`wire::Status`]: this proxy, its peers, backends    |
//! | `GET /v1/users/{name}` | [`wire::Whereabouts`]: where a user is at home       |
//! | `POST /v1/reload`      | [`wire::Reloaded`]: what a changed file has changed  |
//!
//! A failure is [`wire::Failure`], with 503 if the store cannot be asked and 409 if a reload was refused.

mod client;
mod reload;
mod status;
mod users;
pub mod wire;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::UnixListener;
use tokio::task::AbortHandle;

use crate::config::Changes;
use crate::fleet::Fleet;
use crate::session::Services;
pub use client::{Client, ClientError};

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

/// An open door.
pub struct Open {
    task: AbortHandle,
    socket: PathBuf,
}

impl Open {
    /// Closes it and removes the socket.
    pub fn close(self) {
        self.task.abort();
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Opens the door. A socket that a dead process left is replaced; one that answers is not.
pub async fn open(socket: &Path, admin: Admin) -> io::Result<Open> {
    if tokio::net::UnixStream::connect(socket).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let router = Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/users/{name}", get(users::whereabouts))
        .route("/v1/reload", post(reload::reload))
        .with_state(Arc::new(admin));
    let task = tokio::spawn(async move {
        // Ends only with the process: accept errors are axum's to wait out.
        let _ = axum::serve(listener, router).await;
    });
    Ok(Open { task: task.abort_handle(), socket: socket.to_owned() })
}

/// A failure as a response.
fn failure(status: StatusCode, error: impl Into<String>) -> Response {
    (status, axum::Json(wire::Failure { error: error.into() })).into_response()
}
