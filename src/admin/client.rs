//! The other side of the door: how the command line asks a running proxy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::wire;

/// The longest answer that is read.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// How long an answer may take: a reload may have to read large files.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no proxy listens at {0}: is homing running, and is this its [admin] socket?")]
    Unreachable(PathBuf, #[source] std::io::Error),
    /// The proxy says why not.
    #[error("{0}")]
    Refused(String),
    /// The conversation broke.
    #[error("the proxy's answer could not be read: {0}")]
    Broken(String),
}

/// Asks one proxy.
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The proxy whose admin socket that is.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path).await
    }

    /// Has something done.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::POST, path).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let broken = |error: &dyn std::fmt::Display| ClientError::Broken(error.to_string());
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ClientError::Unreachable(self.socket.clone(), error))?;
        let (ok, body) = timeout(PATIENCE, exchange(stream, method, path))
            .await
            .map_err(|late| broken(&late))?
            .map_err(|error| broken(&error))?;
        if ok {
            return serde_json::from_slice(&body).map_err(|error| broken(&error));
        }
        let failure: wire::Failure = serde_json::from_slice(&body).map_err(|error| broken(&error))?;
        Err(ClientError::Refused(failure.error))
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "homing").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let ok = response.status().is_success();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await?.to_bytes();
    driver.abort();
    Ok((ok, body))
}
