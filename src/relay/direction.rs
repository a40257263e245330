//! One way of the two: from one connection to the other.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pool::{BufferPool, Loan};
use crate::net::Stream;

/// A buffer borrowed for this poll, if one was needed.
pub(super) struct Spare<'a> {
    pool: &'a Arc<BufferPool>,
    loan: Option<Loan>,
}

impl<'a> Spare<'a> {
    pub(super) fn none_yet(pool: &'a Arc<BufferPool>) -> Self {
        Self { pool, loan: None }
    }
}

/// One way of the two. Holds bytes only while the writer cannot take them.
pub(super) struct Direction {
    held: Held,
    /// What of `held` is still to be written.
    start: u32,
    end: u32,
    /// Written, but perhaps still in the TLS layer.
    unflushed: bool,
    last_byte: u8,
    /// Bytes written.
    pub(super) moved: u64,
}

enum Held {
    Nothing,
    Borrowed(Loan),
    /// What came before the relay.
    Own(Vec<u8>),
}

/// Why a direction is over.
pub(super) enum Over {
    /// The reader has no more.
    End,
    ReadFailed,
    WriteFailed,
}

impl Direction {
    pub(super) fn starting_with(bytes: Vec<u8>) -> Self {
        // Bounded by the dialogue's limits, far below 4 GiB; were it more, the rest could not be represented.
        let end = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let held = if bytes.is_empty() { Held::Nothing } else { Held::Own(bytes) };
        // A relay starts behind the line that answered the login.
        Self { held, start: 0, end, unflushed: false, last_byte: b'\n', moved: 0 }
    }

    /// What was written ends a line, and nothing waits behind it.
    pub(super) fn is_between_lines(&self) -> bool {
        matches!(self.held, Held::Nothing) && self.last_byte == b'\n'
    }

    /// Nothing waits here, nor in the TLS layer.
    pub(super) fn is_flushed(&self) -> bool {
        matches!(self.held, Held::Nothing) && !self.unflushed
    }

    /// Forgets what waits: the writer takes no more.
    pub(super) fn give_up(&mut self) {
        self.held = Held::Nothing;
    }

    /// Moves until the reader or the writer would wait. The read that would wait leaves no buffer behind.
    pub(super) fn poll(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        spare: &mut Spare<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Over> {
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
