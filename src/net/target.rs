//! Servers that homing asks something, over a connection for each question: dialled, inside TLS if so wished, and, where
//! they speak HTTP, asked with one POST.

use std::io;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
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

    /// Posts to the endpoint's path. Of the answer's body no more than `most` bytes are read and
    /// kept. The connection is not announced to be the
    /// last: Dovecot 2.3 then never answers a wrong password.
    pub async fn post(&self, request: Request<Full<Bytes>>, most: usize) -> Result<(StatusCode, Bytes), TargetFault> {
        let broken = |error: hyper::Error| TargetFault::Broken(error.to_string());
        let (mut head, body) = request.into_parts();
        let wrong = |error: &dyn std::fmt::Display| TargetFault::Broken(error.to_string());
        head.method = hyper::Method::POST;
        head.uri = self.endpoint.path.parse().map_err(|error| wrong(&error))?;
        let host = HeaderValue::from_str(&self.endpoint.authority()).map_err(|error| wrong(&error))?;
        head.headers.insert(HOST, host);
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(broken)?;
        let mut driver = JoinSet::new(); // ends with this future, however that ends
        driver.spawn(connection);
        let answer = sender.send_request(Request::from_parts(head, body)).await.map_err(broken)?;
        let status = answer.status();
        let body = beginning(answer.into_body(), most).await.map_err(broken)?;
        Ok((status, body))
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
