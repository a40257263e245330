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
/// sent when this returns; so have last words before a violation. The caller sets the deadline: dropping this is safe,
/// for bytes read are in `input`.
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
        flush(stream, out).await?;
        if let Some(wish) = outcome? {
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

/// Sends what is in `out` and wipes it.
pub async fn flush<S: AsyncWrite + Unpin>(stream: &mut S, out: &mut Output) -> io::Result<()> {
    if !out.is_empty() {
        stream.write_all(out.bytes()).await?;
        stream.flush().await?;
        out.clear();
    }
    Ok(())
}
