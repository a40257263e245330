//! A message on its way to all backends of its transaction, piece by piece, at the pace of the slowest. Nobody holds more of
//! it than one piece; a backend that takes nothing for `backend_timeout` is left behind, and the others go on.

use futures_util::future::{join, join_all};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::leg::Leg;
use super::watch::{all_of, mid_message};
use super::way::Shared;
use super::{PIECE, Visit};
use crate::model::Ending;
use crate::net::{Stream, flush};
use crate::protocol::lmtp::{Content, Reply, Wish, reply};
use crate::protocol::{Farewell, Output};
use crate::session::Services;
use crate::session::ending::End;

impl Visit<'_> {
    /// A message by DATA, or a chunk of one. An error ends the connection.
    pub(super) async fn message(&mut self, stream: &mut Stream, wish: Wish) -> Result<(), End> {
        let chunk = if let Wish::Chunk { size, last } = wish { Some((size, last)) } else { None };
        if !std::mem::replace(&mut self.begun, true) {
            let Self { shared, legs, .. } = self;
            let all = all_of(legs);
            join_all(legs.iter_mut().map(|leg| leg.begin(shared, &all, chunk.is_some()))).await;
        }
        match chunk {
            Some((size, last)) => {
                self.legs.iter_mut().filter(|leg| leg.is_alive()).for_each(|leg| leg.chunk(size, last));
            }
            None if self.legs.iter().any(Leg::is_alive) => self.frontend.go_on(&mut self.out),
            None => {
                self.refuse();
                return Ok(());
            }
        }
        self.transfer(stream).await
    }

    /// No backend is left that would take the message: the client need not send it.
    fn refuse(&mut self) {
        let fates = || self.legs.iter().filter(|leg| !leg.deliveries.is_empty()).filter_map(Leg::fate);
        // One word for all: a temporary one, unless all say the same.
        let first = fates().next().filter(|first| fates().all(|fate| fate == *first));
        let why = first.cloned().unwrap_or(reply::BACKEND_UNAVAILABLE);
        self.tell(&mut |_| why.clone());
        self.frontend.refuse(&why, &mut self.out);
        self.end_transaction();
    }

    /// The lines about the recipients.
    pub(super) fn tell(&self, reply: &mut dyn FnMut(&Option<Reply>) -> Reply) {
        for leg in &self.legs {
            for delivery in &leg.deliveries {
                let reply = reply(&delivery.verdict);
                delivery.tell(&self.shared.announcement, &leg.way.server, &reply, self.size);
            }
        }
    }

    /// Reads what comes of the message and sends it on, until its end, or that of the chunk.
    async fn transfer(&mut self, stream: &mut Stream) -> Result<(), End> {
        let mut content = Vec::with_capacity(PIECE);
        loop {
            content.clear();
            let progress = self.frontend.content(&mut self.input, &mut content, &mut self.out);
            self.size += content.len() as u64;
            if self.frontend.is_too_large() {
                // The rest is swallowed.
                self.abort_all(&reply::TOO_LARGE);
            }
            // A message that is here at once goes out so, with its end: nothing is on its way that could hold it up.
            let is_whole = matches!(progress, Content::End) && self.size == content.len() as u64;
            if !content.is_empty() && !is_whole {
                let Self { shared, legs, .. } = self;
                let all = all_of(legs);
                join_all(legs.iter_mut().map(|leg| leg.feed(shared, &all, &content))).await;
            }
            match progress {
                Content::End => return self.finish(stream, if is_whole { &content } else { &[] }).await,
                Content::ChunkTaken => return Ok(()),
                Content::More => self.read(stream).await?,
            }
        }
    }

    /// Reads more of the message. Recipients that must go meanwhile do, and so does a client that still brings a message
    /// when the grace of a proxy that goes down is over.
    async fn read(&mut self, stream: &mut Stream) -> Result<(), End> {
        let read = {
            let Self { shared, legs, input, out, .. } = self;
            let reading = timeout(shared.lmtp.client_timeout, async {
                flush(stream, out).await?;
                stream.read(input.spare()).await
            });
            let reading = async {
                tokio::select! {
                    biased;
                    read = reading => Some(read),
                    () = closed(shared.services) => None,
                }
            };
            mid_message(shared.services, legs, reading).await
        };
        match read {
            Some(Ok(Ok(0))) => Err((Ending::ClientLost, Some("it closed in the middle of a message".to_owned()))),
            Some(Ok(Ok(count))) => {
                self.input.advance(count);
                Ok(())
            }
            Some(Ok(Err(error))) => Err((Ending::ClientLost, Some(error.to_string()))),
            Some(Err(_)) => {
                self.bid_farewell(stream, Farewell::TimedOut).await;
                Err((Ending::ClientIdle, None))
            }
            None => {
                self.bid_farewell(stream, Farewell::ShuttingDown).await;
                Err((Ending::Shutdown, None))
            }
        }
    }

    fn abort_all(&mut self, fate: &Reply) {
        for leg in self.legs.iter_mut().filter(|leg| leg.is_alive()) {
            leg.hang_up(self.shared.services, fate.clone());
        }
    }

    /// The message is complete with `rest`: every backend says what became of it, and the client is told in order, as soon
    /// as it is known. A client that has gone meanwhile, or listens slowly, changes nothing of that.
    async fn finish(&mut self, stream: &mut Stream, rest: &[u8]) -> Result<(), End> {
        let (told, mut answers) = mpsc::unbounded_channel();
        let listens = {
            let Self { shared, legs, frontend, out, .. } = self;
            let ends = join_all(legs.iter_mut().map(|leg| leg.finish(shared, rest, told.clone())));
            drop(told);
            let telling = async {
                let mut listens = Ok(());
                while let Some((number, reply)) = answers.recv().await {
                    frontend.settle(number, reply, out);
                    if listens.is_ok() && !out.is_empty() {
                        listens = say(shared, stream, out).await;
                    }
                }
                listens
            };
            join(ends, telling).await.1
        };
        self.count();
        self.end_transaction();
        listens
    }

    fn count(&mut self) {
        self.tell(&mut |verdict| verdict.clone().unwrap_or(reply::BACKEND_LOST));
        let verdicts =
            self.legs.iter().flat_map(|leg| &leg.deliveries).filter_map(|delivery| delivery.verdict.as_ref());
        self.mailed.recipients += verdicts.filter(|reply| reply.is_good()).count() as u64;
        self.mailed.messages += 1;
        self.mailed.bytes += self.size;
    }
}

/// Resolves when the grace of a proxy that goes down is over.
pub(super) async fn closed(services: &Services) {
    services.closing.cancelled().await;
    sleep(services.limits.load().shutdown_grace).await;
}

/// Waits as long as a client may take to be told something.
async fn say(shared: &Shared<'_>, stream: &mut Stream, out: &mut Output) -> Result<(), End> {
    tokio::select! {
        biased;
        said = timeout(shared.lmtp.client_timeout, flush(stream, out)) => match said {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err((Ending::ClientLost, Some(error.to_string()))),
            Err(_) => Err((Ending::ClientIdle, None)),
        },
        () = closed(shared.services) => Err((Ending::Shutdown, None)),
    }
}
