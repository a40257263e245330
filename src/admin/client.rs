//! The other side of the door: how the command line asks a running proxy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::wire;

/// The longest answer that is read.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// The longest line of an answer that comes in lines.
const LINE_MAX: usize = ANSWER_MAX;
/// How long an answer, or the next line of one, may take: a reload may have to read large files.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no proxy listens at {0}: is homing running, and is this its [admin] socket?")]
    Unreachable(PathBuf, #[source] std::io::Error),
    /// Somebody may listen, but not to us.
    #[error("{0} may not be opened: run this as the user that homing runs as, or as root")]
    Denied(PathBuf),
    /// The proxy says why not.
    #[error("{0}")]
    Refused(String),
    /// What was told could not be passed on.
    #[error("the answer cannot be written")]
    Unwritten(#[source] std::io::Error),
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

    /// Has something done that may take a while: for as long as the proxy says that it is at it.
    pub async fn work<T: DeserializeOwned>(&self, path: &str, ask: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(ask).map_err(broken)?;
        let mut done = None;
        let keep = |item| {
            done = Some(item);
            Ok(())
        };
        self.lines(Method::POST, path, body.into(), keep).await?;
        done.ok_or_else(|| ClientError::Broken("it says nothing".to_owned()))
    }

    /// Asks for a list; `each` gets one item after the other, and ends it by failing.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        each: impl FnMut(T) -> std::io::Result<()>,
    ) -> Result<(), ClientError> {
        self.lines(Method::GET, path, Bytes::new(), each).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let exchange = async {
            let (response, _driver) = self.send(method, path, Bytes::new()).await?;
            read_whole(response).await
        };
        timeout(PATIENCE, exchange).await.map_err(broken)?
    }

    async fn lines<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        mut each: impl FnMut(T) -> std::io::Result<()>,
    ) -> Result<(), ClientError> {
        let (response, _driver) = timeout(PATIENCE, self.send(method, path, body)).await.map_err(broken)??;
        if !response.status().is_success() {
            return timeout(PATIENCE, read_whole::<()>(response)).await.map_err(broken)?;
        }
        let mut lines = Lines { body: response.into_body(), read: BytesMut::new() };
        while let Some(line) = timeout(PATIENCE, lines.next()).await.map_err(broken)?? {
            match serde_json::from_slice(&line).map_err(broken)? {
                wire::Line::Alive => {}
                wire::Line::Item(item) => each(item).map_err(ClientError::Unwritten)?,
                wire::Line::Failed(why) => return Err(ClientError::Refused(why)),
                wire::Line::End => return Ok(()),
            }
        }
        Err(ClientError::Broken("it ended early; what was begun goes on without this proxy".to_owned()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, AbortOnDrop), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => ClientError::Unreachable(self.socket.clone(), error),
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = AbortOnDrop(tokio::spawn(connection).abort_handle());
        let request = Request::builder().method(method).uri(path).header(HOST, "homing");
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body)).map_err(broken)?;
        Ok((sender.send_request(request).await.map_err(broken)?, driver))
    }
}

/// The connection lives as long as its answer is read.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read_whole<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let ok = response.status().is_success();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(broken)?.to_bytes();
    if ok {
        return serde_json::from_slice(&body).map_err(broken);
    }
    match serde_json::from_slice::<wire::Failure>(&body) {
        Ok(failure) => Err(ClientError::Refused(failure.error)),
        // What the web framework itself refuses comes as text.
        Err(_) => Err(ClientError::Refused(String::from_utf8_lossy(&body).into_owned())),
    }
}

/// An answer that comes line by line.
struct Lines {
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    /// The next line without its end; `None` if there are no more.
    async fn next(&mut self) -> Result<Option<BytesMut>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.read[searched..]) {
                let line = self.read.split_to(searched + end + 1);
                return Ok(Some(line));
            }
            searched = self.read.len();
            if searched > LINE_MAX {
                return Err(ClientError::Broken(format!("a line of it is longer than {LINE_MAX} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}
