//! Reading and writing on one connection: whole commands in, literals included, within bounds of size and time.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::protocol::Input;

/// Bytes of one line.
const LINE: usize = 16 * 1024;
/// Bytes of one command, its literals included: a message to APPEND and some room around it.
const COMMAND: usize = super::mail::MESSAGE_MAX + 2 * LINE;

/// What was read.
pub(super) enum Read {
    /// A whole command, literals in place, without its line end.
    Command(Vec<u8>),
    /// It was longer than allowed; what follows makes no sense any more.
    TooLong,
    /// The peer closed its side.
    End,
}

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    input: Input,
    patience: Duration,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, input: Input::with_capacity(LINE), patience }
    }

    /// How long the peer may be silent from now on.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(self.patience, self.stream.write_all(bytes)).await?
    }

    /// Reads a command, asking for each synchronising literal (RFC 3501 4.3) and taking the others (RFC 7888) as they are.
    pub(super) async fn command(&mut self) -> io::Result<Read> {
        let mut command = Vec::new();
        loop {
            let line = match self.line().await? {
                Read::Command(line) => line,
                end => return Ok(end),
            };
            command.extend_from_slice(&line);
            let Some(literal) = announced(&line) else { return Ok(Read::Command(command)) };
            if literal.size > COMMAND.saturating_sub(command.len()) {
                return Ok(Read::TooLong);
            }
            if literal.synchronising {
                self.send(b"+ go on\r\n").await?;
            }
            command.extend_from_slice(b"\r\n");
            self.literal(literal.size, &mut command).await?;
        }
    }

    /// Reads one line. Safe to drop: what was read stays in the buffer.
    pub(super) async fn line(&mut self) -> io::Result<Read> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', self.input.filled()) {
                let line = &self.input.filled()[..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.input.consume(end + 1);
                return Ok(Read::Command(line));
            }
            if self.input.is_full() {
                return Ok(Read::TooLong);
            }
            if self.fill().await? == 0 {
                return Ok(Read::End);
            }
        }
    }

    async fn literal(&mut self, size: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let end = into.len() + size;
        while into.len() < end {
            if self.input.is_empty() && self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = self.input.filled().len().min(end - into.len());
            into.extend_from_slice(&self.input.filled()[..count]);
            self.input.consume(count);
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let count = timeout(self.patience, self.stream.read(self.input.spare())).await??;
        self.input.advance(count);
        Ok(count)
    }
}

/// A literal that the end of a line announces.
struct Announced {
    size: usize,
    synchronising: bool,
}

fn announced(line: &[u8]) -> Option<Announced> {
    let open = memchr::memrchr(b'{', line)?;
    let inner = line[open + 1..].strip_suffix(b"}")?;
    let (digits, synchronising) = match inner.strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (inner, true),
    };
    let size = super::command::number(digits)?;
    Some(Announced { size: usize::try_from(size).ok()?, synchronising })
}
