//! The first stage: bytes pass in both directions.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::parting::{Farewell, Parting};
use super::pool::{BufferPool, Loan};
use super::stop::{self, StopSignal};
use super::{Outcome, RelaySession, RelaySettings};
use crate::model::Ending;
use crate::net::Stream;

/// How long a client may take to hear our last words and to close.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

/// Two connections and what passes between them.
pub(super) struct Moving {
    client: Stream,
    backend: Stream,
    /// Client to backend.
    up: Direction,
    /// Backend to client.
    down: Direction,
    sending: Sending,
    /// When a byte was last given on, in either direction.
    active: Instant,
    stop: StopSignal,
    isolation: Arc<AtomicU64>,
}

/// Why moving is over, and how patient to be with the backend.
pub(super) struct End {
    pub(super) ending: Ending,
    /// How long the backend may take to end; then it is reset.
    pub(super) patience: Duration,
}

/// The state of what the client sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// It may send more.
    Open,
    /// It has closed its sending side; the backend is being told.
    Closing,
    /// It has closed its sending side and the backend knows.
    Closed,
    /// The backend takes no more. What it still has to say may be waiting.
    Refused,
}

impl Moving {
    pub(super) fn new(client: Stream, backend: Stream, session: RelaySession) -> Self {
        Self {
            client,
            backend,
            up: Direction::starting_with(session.leftover),
            down: Direction::starting_with(Vec::new()),
            sending: Sending::Open,
            active: Instant::now(),
            stop: session.stop,
            isolation: session.isolation,
        }
    }

    /// Obeys, moves what can be moved now, or finds that nobody has spoken for too long. Ready when the session is over.
    pub(super) fn poll(
        &mut self,
        settings: &RelaySettings,
        timer: &mut Pin<Box<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        // Before any byte. An isolated proxy resets at once: the user may be at home elsewhere already, so that not even
        // bytes under way may reach the backend.
        if stop::is_isolated(&self.isolation) {
            return Poll::Ready(End { ending: Ending::Isolated, patience: Duration::ZERO });
        }
        if let Poll::Ready(ending) = self.stop.poll(cx) {
            let patience = if ending == Ending::Isolated { Duration::ZERO } else { settings.close_timeout };
            return Poll::Ready(End { ending, patience });
        }
        if let Poll::Ready(ending) = self.poll_bytes(&settings.pool, cx) {
            return Poll::Ready(End { ending, patience: settings.close_timeout });
        }
        self.poll_silence(settings, timer, cx)
    }

    /// Ready when a peer has ended the session.
    fn poll_bytes(&mut self, pool: &Arc<BufferPool>, cx: &mut Context<'_>) -> Poll<Ending> {
        let before = self.up.moved + self.down.moved;
        // One buffer serves both directions, unless the first must keep it.
        let mut spare = Spare { pool, loan: None };
        let mut ended = self.poll_up(&mut spare, cx);
        if ended.is_pending() {
            ended = self.poll_down(&mut spare, cx);
        }
        if self.up.moved + self.down.moved != before {
            self.active = Instant::now();
        }
        ended
    }

    fn poll_up(&mut self, spare: &mut Spare<'_>, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.sending == Sending::Open {
            match ready!(self.up.poll(&mut self.client, &mut self.backend, spare, cx)) {
                Over::End => self.stop_sending(Sending::Closing),
                Over::ReadFailed => return Poll::Ready(Ending::ClientLost),
                Over::WriteFailed => self.stop_sending(Sending::Refused),
            }
        }
        if self.sending == Sending::Closing {
            // An error here shows again, as the end of what the backend says.
            let _ = ready!(Pin::new(&mut self.backend).poll_shutdown(cx));
            self.sending = Sending::Closed;
        }
        Poll::Pending
    }

    /// From here on the backend's silence counts, and by a shorter limit.
    fn stop_sending(&mut self, sending: Sending) {
        self.sending = sending;
        self.up.held = Held::Nothing;
        self.active = Instant::now();
    }

    fn poll_down(&mut self, spare: &mut Spare<'_>, cx: &mut Context<'_>) -> Poll<Ending> {
        let over = ready!(self.down.poll(&mut self.backend, &mut self.client, spare, cx));
        Poll::Ready(match (self.sending, over) {
            (Sending::Closing | Sending::Closed, _) => Ending::ClientClosed,
            (_, Over::WriteFailed) => Ending::ClientLost,
            (Sending::Refused, _) | (_, Over::ReadFailed) => Ending::BackendLost,
            (Sending::Open, Over::End) => Ending::BackendClosed,
        })
    }

    /// Asks the timer, which was set long ago, whether there has been silence for too long. Only when it fires is it
    /// set anew, for what is then left.
    fn poll_silence(
        &mut self,
        settings: &RelaySettings,
        timer: &mut Pin<Box<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        let (limit, end) = match self.sending {
            Sending::Open => {
                (settings.idle_timeout, End { ending: Ending::ClientIdle, patience: settings.close_timeout })
            }
            // The backend has had its time already.
            Sending::Closing | Sending::Closed => {
                (settings.close_timeout, End { ending: Ending::ClientClosed, patience: Duration::ZERO })
            }
            Sending::Refused => (settings.close_timeout, End { ending: Ending::BackendLost, patience: Duration::ZERO }),
        };
        let due = self.active + limit;
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(end);
            }
            timer.as_mut().reset(due);
        }
    }

    /// On to the second stage. The last `words` are left out where they would land in the middle of a line.
    pub(super) fn part(self, ending: Ending, words: &'static [u8], now: Instant, backend_until: Instant) -> Parting {
        let words = if self.down.is_between_lines() { words } else { b"" };
        Parting::new(
            Farewell::new(self.client, words, now + CLIENT_PATIENCE),
            Farewell::new(self.backend, b"", backend_until),
            Outcome { ending, in_bytes: self.up.moved, out_bytes: self.down.moved },
        )
    }
}

/// A buffer borrowed for this poll, if one was needed.
struct Spare<'a> {
    pool: &'a Arc<BufferPool>,
    loan: Option<Loan>,
}

/// One way of the two. Holds bytes only while the writer cannot take them.
struct Direction {
    held: Held,
    /// What of `held` is still to be written.
    start: u32,
    end: u32,
    /// Written, but perhaps still in the TLS layer.
    unflushed: bool,
    last_byte: u8,
    /// Bytes written.
    moved: u64,
}

enum Held {
    Nothing,
    Borrowed(Loan),
    /// What came before the relay.
    Own(Vec<u8>),
}

/// Why a direction is over.
enum Over {
    /// The reader has no more.
    End,
    ReadFailed,
    WriteFailed,
}

impl Direction {
    fn starting_with(bytes: Vec<u8>) -> Self {
        // Bounded by the dialogue's limits, far below 4 GiB; were it more, the rest could not be represented.
        let end = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let held = if bytes.is_empty() { Held::Nothing } else { Held::Own(bytes) };
        // A relay starts behind the line that answered the login.
        Self { held, start: 0, end, unflushed: false, last_byte: b'\n', moved: 0 }
    }

    fn is_between_lines(&self) -> bool {
        matches!(self.held, Held::Nothing) && self.last_byte == b'\n'
    }

    /// Moves until the reader or the writer would wait. The read that would wait leaves no buffer behind.
    fn poll(&mut self, from: &mut Stream, to: &mut Stream, spare: &mut Spare<'_>, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            if ready!(self.poll_write_held(to, spare, cx)).is_err() {
                return Poll::Ready(Over::WriteFailed);
            }
            let mut loan = spare.loan.take().unwrap_or_else(|| spare.pool.lend());
            match poll_read(from, &mut loan, cx) {
                Poll::Pending => {
                    spare.loan = Some(loan);
                    return self.poll_flush(to, cx);
                }
                Poll::Ready(Ok(0)) => {
                    spare.loan = Some(loan);
                    return Poll::Ready(Over::End);
                }
                Poll::Ready(Ok(count)) => (self.held, self.start, self.end) = (Held::Borrowed(loan), 0, count),
                Poll::Ready(Err(_)) => {
                    spare.loan = Some(loan);
                    return Poll::Ready(Over::ReadFailed);
                }
            }
        }
    }

    fn poll_write_held(
        &mut self,
        to: &mut Stream,
        spare: &mut Spare<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes: &[u8] = match &self.held {
            Held::Nothing => return Poll::Ready(Ok(())),
            Held::Borrowed(loan) => loan,
            Held::Own(bytes) => bytes,
        };
        while self.start < self.end {
            let count = ready!(Pin::new(&mut *to).poll_write(cx, &bytes[self.start as usize..self.end as usize]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved += count as u64;
            self.start += count as u32; // at most end - start
            self.unflushed = true;
        }
        self.last_byte = bytes[self.end as usize - 1]; // nothing empty is ever held
        if let Held::Borrowed(loan) = std::mem::replace(&mut self.held, Held::Nothing) {
            spare.loan = Some(loan);
        }
        Poll::Ready(Ok(()))
    }

    /// The reader waits: now the TLS layer must not keep what it was given.
    fn poll_flush(&mut self, to: &mut Stream, cx: &mut Context<'_>) -> Poll<Over> {
        if self.unflushed {
            match ready!(Pin::new(to).poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(_) => return Poll::Ready(Over::WriteFailed),
            }
        }
        Poll::Pending
    }
}

/// Zero at the end. A TLS peer that goes without saying so has ended in the way that most do.
pub(super) fn poll_read(from: &mut Stream, into: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<u32>> {
    let mut into = ReadBuf::new(into);
    match ready!(Pin::new(from).poll_read(cx, &mut into)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
        Err(error) => Poll::Ready(Err(error)),
        Ok(()) => Poll::Ready(Ok(into.filled().len() as u32)), // a pool's buffer is far below 4 GiB
    }
}
