//! Servers that homing asks something, over a connection for each question: dialled, inside TLS if so wished, and, where
//! they speak HTTP, asked with one POST.

use std::io;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{ClientTls, Stream, TlsFault, tune};
use crate::config::Endpoint;

/// Where to ask. Knows no deadline: every future may be dropped at any time, and closes its connection then.
pub struct Target {
    endpoint: Endpoint,
    tls: Option<TargetTls>,
}

struct TargetTls {
    client: ClientTls,
    /// The name to verify.
    name: String,
}

/// A request that can be sent, and the connection that must be polled for that.
pub struct Posting {
    /// Sends it.
    pub sender: http1::SendRequest<Full<Bytes>>,
    /// Carries it, and the answer.
    pub connection: http1::Connection<TokioIo<Stream>, Full<Bytes>>,
    /// The request.
    pub request: Request<Full<Bytes>>,
}

/// Bytes of an answer that are read at once, and of its head.
const BUFFER_MAX: usize = 64 * 1024;

/// How a server must prove who it is.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// PEM file of authorities; those of the system if there is none.
    pub ca: Option<&'a Path>,
    /// Name to verify instead of the host's.
    pub name: Option<&'a str>,
    /// Without, any certificate is taken.
    pub verify: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TargetFault {
    /// Nobody listens there, or the name has no address.
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// TLS cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// The conversation broke, or was never HTTP.
    #[error("does not answer in HTTP: {0}")]
    Broken(String),
}

impl Target {
    /// Inside TLS if there is a `proof` to ask for. Fails if its authorities cannot be read.
    pub fn new(endpoint: Endpoint, proof: Option<Proof<'_>>) -> Result<Self, TlsFault> {
        let name = |proof: Proof<'_>| proof.name.map_or_else(|| endpoint.host.clone(), str::to_owned);
        let tls = proof
            .map(|proof| Ok(TargetTls { client: ClientTls::new(proof.ca, proof.verify)?, name: name(proof) }))
            .transpose()?;
        Ok(Self { endpoint, tls })
    }

    /// Where that is, for people.
    pub fn place(&self) -> String {
        self.endpoint.place()
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Stream, TargetFault> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(TargetFault::Unreachable)?;
        tune(&tcp);
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some(TargetTls { client, name }) => Ok(client.connect(tcp, name).await?),
        }
    }

    /// Posts to the endpoint's path. Of the answer's body no more than `most` bytes are read and kept.
    pub async fn post(&self, request: Request<Full<Bytes>>, most: usize) -> Result<(StatusCode, Bytes), TargetFault> {
        let broken = |error: hyper::Error| TargetFault::Broken(error.to_string());
        let Posting { mut sender, connection, request } = self.posting(request).await?;
        let mut driver = JoinSet::new(); // ends with this future, however that ends
        driver.spawn(connection);
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = beginning(answer.into_body(), most).await.map_err(broken)?;
        Ok((status, body))
    }

    /// Opens a connection over which a request can be posted to the endpoint's path. It is not announced to be the last:
    /// Dovecot 2.3 then never answers a wrong password.
    pub async fn posting(&self, request: Request<Full<Bytes>>) -> Result<Posting, TargetFault> {
        let (mut head, body) = request.into_parts();
        let wrong = |error: &dyn std::fmt::Display| TargetFault::Broken(error.to_string());
        head.method = hyper::Method::POST;
        head.uri = self.endpoint.path.parse().map_err(|error| wrong(&error))?;
        let host = HeaderValue::from_str(&self.endpoint.authority()).map_err(|error| wrong(&error))?;
        head.headers.insert(HOST, host);
        let stream = TokioIo::new(self.connect().await?);
        let mut http = http1::Builder::new();
        let connected = http.max_buf_size(BUFFER_MAX).handshake(stream).await;
        let (sender, connection) = connected.map_err(|error| wrong(&error))?;
        Ok(Posting { sender, connection, request: Request::from_parts(head, body) })
    }
}

async fn beginning(mut body: Incoming, most: usize) -> Result<Bytes, hyper::Error> {
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data[..data.len().min(most - bytes.len())]);
        }
    }
    Ok(bytes.into())
}
