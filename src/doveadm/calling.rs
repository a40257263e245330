//! A command of the HTTP API that a mail server carries out for somebody else: what it answers is passed on as it comes.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{Doveadm, DoveadmFault, Garbled};
use crate::model::Exit;
use crate::net::{Posting, Stream, TargetFault};
use crate::protocol::doveadm::{ApiAnswer, PROXY_TTL};

/// A part of what a server answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Portion {
    /// Of the result, as it came.
    Result(Bytes),
    /// The answer is over: that was it, or there is none, for this kind of failure and with this code.
    End(Result<(), (String, Exit)>),
}

/// A command under way.
pub struct Calling {
    /// Of HTTP, until it has ended by itself.
    connection: Option<Connection<TokioIo<Stream>, Full<Bytes>>>,
    /// The connection ends without.
    _sender: SendRequest<Full<Bytes>>,
    awaited: Awaited,
    answer: ApiAnswer,
    /// What has come and was not passed on.
    rest: Bytes,
}

enum Awaited {
    Head(Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>),
    Body(Incoming),
    Nothing,
}

impl Doveadm {
    /// Sends a body of the HTTP API with one command. `ttl`: how many more proxies may follow.
    pub async fn call(&self, body: Vec<u8>, ttl: u32) -> Result<Calling, DoveadmFault> {
        let limit = self.timeout;
        let mut request = self.request(body);
        request.headers_mut().insert(PROXY_TTL, HeaderValue::from(ttl));
        let posting = timeout(limit, self.target.posting(request)).await;
        let posting = posting.map_err(|_| DoveadmFault::Silent { place: self.target.place(), limit })?;
        let Posting { mut sender, connection, request } = posting.map_err(|fault| self.unreachable(fault))?;
        let head = Box::pin(sender.send_request(request));
        Ok(Calling {
            connection: Some(connection),
            _sender: sender,
            awaited: Awaited::Head(head),
            answer: ApiAnswer::default(),
            rest: Bytes::new(),
        })
    }

    /// What follows, unless the server is silent for so long. Dropping this loses nothing.
    pub async fn portion(&self, calling: &mut Calling, silence: Duration) -> Result<Portion, DoveadmFault> {
        match timeout(silence, self.next_portion(calling)).await {
            Ok(portion) => portion,
            Err(_) => Err(DoveadmFault::Silent { place: self.target.place(), limit: silence }),
        }
    }

    async fn next_portion(&self, calling: &mut Calling) -> Result<Portion, DoveadmFault> {
        let garbled = |_| self.garbled(Garbled("the JSON is none, or of another form"));
        loop {
            while !calling.rest.is_empty() {
                let (result, done) = calling.answer.next(&calling.rest).map_err(garbled)?;
                let result = calling.rest.slice_ref(result);
                calling.rest = calling.rest.slice(done..);
                if !result.is_empty() {
                    return Ok(Portion::Result(result));
                }
            }
            let broken = |error: hyper::Error| self.unreachable(TargetFault::Broken(error.to_string()));
            match calling.more().await.map_err(broken)? {
                Came::Head(answer) => {
                    self.must_be_ok(answer.status())?;
                    calling.awaited = Awaited::Body(answer.into_body());
                }
                Came::Bytes(bytes) => calling.rest = bytes,
                Came::End => {
                    calling.awaited = Awaited::Nothing;
                    return std::mem::take(&mut calling.answer).end().map(Portion::End).map_err(garbled);
                }
            }
        }
    }
}

enum Came {
    Head(Response<Incoming>),
    Bytes(Bytes),
    End,
}

impl Calling {
    async fn more(&mut self) -> hyper::Result<Came> {
        let Self { connection, awaited, .. } = self;
        let coming = async {
            match awaited {
                Awaited::Head(head) => head.await.map(Came::Head),
                Awaited::Body(body) => match body.frame().await {
                    Some(frame) => Ok(Came::Bytes(frame?.into_data().unwrap_or_default())),
                    None => Ok(Came::End),
                },
                Awaited::Nothing => Ok(Came::End),
            }
        };
        let mut coming = std::pin::pin!(coming);
        while let Some(carrier) = connection {
            tokio::select! {
                came = coming.as_mut() => return came,
                // Whatever ended it, `coming` is told.
                _ = carrier => *connection = None,
            }
        }
        coming.await
    }

    /// Ends the connection, and waits until the server has ended it as well: then it is done with the mailbox.
    pub async fn part(self, patience: Duration) {
        let Some(connection) = self.connection else { return };
        let mut stream = connection.into_parts().io.into_inner();
        if !stream.part(patience).await {
            stream.reset_on_drop();
        }
    }
}
