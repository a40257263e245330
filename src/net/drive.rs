//! Runs a protocol machine over a stream, until it wants something done.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::{Input, Machine, Output, Violation};

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The peer closed its side.
    #[error("closed by the peer")]
    Closed,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// The peer went too far; it was told.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// Feeds `machine` from `stream` and sends what it says, until it has a wish. What it says along with a wish has been
/// sent when this returns, and so have last words before a violation, if the peer takes them. All that came before the
/// peer closed its side is answered first.
///
/// The caller sets the deadline by dropping this. Then nothing is left but last words: the machine may have had a wish
/// that was lost, but `out` holds exactly what was not sent yet, so a farewell can be appended and [`flush`]ed.
pub async fn drive<M, S>(
    machine: &mut M,
    stream: &mut S,
    input: &mut Input,
    out: &mut Output,
) -> Result<M::Wish, DriveError>
where
    M: Machine + ?Sized,
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let outcome = machine.advance(input, out);
        let sent = flush(stream, out).await;
        // A violation tells more than that its sender did not wait for our last words.
        let wish = outcome?;
        sent?;
        if let Some(wish) = wish {
            return Ok(wish);
        }
        if input.is_full() {
            // Every machine answers an over-long line itself; this keeps a faulty one from spinning.
            return Err(Violation::LineTooLong.into());
        }
        let count = stream.read(input.spare()).await?;
        if count == 0 {
            return Err(DriveError::Closed);
        }
        input.advance(count);
    }
}

/// Sends what is in `out` and wipes it, as far as it got. May be dropped and called again.
pub async fn flush<S: AsyncWrite + Unpin>(stream: &mut S, out: &mut Output) -> io::Result<()> {
    while !out.is_empty() {
        match stream.write(out.bytes()).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => out.consume(count),
        }
    }
    // Even with nothing to write: a call that was dropped may have left sealed bytes inside the TLS layer.
    stream.flush().await
}
