//! The second stage: both connections are closed in good order, each within its own time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Outcome;
use super::direction::poll_read;
use super::pool::BufferPool;
use crate::net::Stream;

/// Both connections on their way out. Each is dropped as soon as it is over.
pub(super) struct Parting {
    client: Option<Farewell>,
    backend: Option<Farewell>,
    pub(super) outcome: Outcome,
}

impl Parting {
    pub(super) fn new(client: Farewell, backend: Farewell, outcome: Outcome) -> Self {
        Self { client: Some(client), backend: Some(backend), outcome }
    }

    pub(super) fn backend_is_gone(&self) -> bool {
        self.backend.is_none()
    }

    /// When the timer must fire, at the latest.
    pub(super) fn next_limit(&self) -> Option<Instant> {
        [&self.client, &self.backend].into_iter().flatten().map(|farewell| farewell.until).min()
    }

    /// Ready when both are over.
    pub(super) fn poll(&mut self, pool: &Arc<BufferPool>, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if let Some(backend) = &mut self.backend
            && backend.poll_backend(now, pool, cx).is_ready()
        {
            self.backend = None;
        }
        if let Some(client) = &mut self.client
            && client.poll_client(now, pool, cx).is_ready()
        {
            self.client = None;
        }
        if self.next_limit().is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One connection on its way out.
pub(super) struct Farewell {
    stream: Stream,
    /// Still to be said.
    words: &'static [u8],
    shut: bool,
    /// TLS has ended; what counts is the end of the connection below it.
    bare: bool,
    until: Instant,
}

impl Farewell {
    pub(super) fn new(stream: Stream, words: &'static [u8], until: Instant) -> Self {
        Self { stream, words, shut: false, bare: false, until }
    }

    /// Ready when the backend has ended its side, whatever became of ours, or when its time is over.
    fn poll_backend(&mut self, now: Instant, pool: &Arc<BufferPool>, cx: &mut Context<'_>) -> Poll<()> {
        if now >= self.until {
            self.stream.reset_on_drop();
            return Poll::Ready(());
        }
        // What fails here shows again as the end of the backend's side.
        let _ = self.poll_our_side(cx);
        if ready!(self.poll_their_side(pool, cx)).is_err() {
            // TLS may have failed over a connection that is as sound as ever.
            self.stream.reset_on_drop();
        }
        Poll::Ready(())
    }

    /// Ready when the client has heard us and has ended its side: closing while its bytes are on their way would make
    /// the kernel send a reset, which destroys our last words in the client's own buffer.
    fn poll_client(&mut self, now: Instant, pool: &Arc<BufferPool>, cx: &mut Context<'_>) -> Poll<()> {
        if now >= self.until {
            return Poll::Ready(());
        }
        let ours = self.poll_our_side(cx);
        let theirs = self.poll_their_side(pool, cx);
        match (ours, theirs) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }

    fn poll_our_side(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.words.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, self.words))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.words = &self.words[count..];
        }
        if !self.shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what the peer still sends, until it ends.
    fn poll_their_side(&mut self, pool: &Arc<BufferPool>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut loan = pool.lend();
        while !self.bare {
            self.bare = ready!(poll_read(&mut self.stream, &mut loan, cx))? == 0;
        }
        loop {
            let mut bytes = ReadBuf::new(&mut loan);
            let read = match &mut self.stream {
                Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, &mut bytes),
                Stream::Tls(tls) => Pin::new(tls.get_mut().0).poll_read(cx, &mut bytes),
                Stream::Local(local) => Pin::new(local).poll_read(cx, &mut bytes),
            };
            ready!(read)?;
            if bytes.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
