//! A command that a mail server carries out for somebody else: what it says is passed on as it comes.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::tcp::{self, Fault};
use super::{Doveadm, DoveadmFault, Garbled};
use crate::net::Stream;
use crate::protocol::Violation;
use crate::protocol::doveadm::{Answer, Command, Demultiplexer, Event, MINOR, MINOR_EXTRA_FIELDS, Verdict, reply};

/// Bytes that are read at once: the largest piece.
const PIECE_MAX: usize = 16 * 1024;

/// A part of what a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Of the answer, as it came.
    Output(Vec<u8>),
    /// Of what it logs.
    Log(Vec<u8>),
    /// The answer is over.
    End(Verdict),
}

/// A command under way.
pub struct Running {
    reader: BufReader<ReadHalf<Stream>>,
    writer: WriteHalf<Stream>,
    frames: Demultiplexer,
    answer: Answer,
}

impl Doveadm {
    /// Logs in over TCP and sends a command. `ttl`: how many more proxies may follow.
    pub async fn start(&self, command: &Command, ttl: u32) -> Result<Running, DoveadmFault> {
        let limit = self.timeout;
        let starting = async {
            let stream = self.target.connect().await.map_err(|fault| self.unreachable(fault))?;
            let mut stream = BufReader::with_capacity(PIECE_MAX, stream);
            let minor = tcp::log_in(&mut stream, self.password()?, MINOR).await.map_err(|fault| self.told(fault))?;
            let options: &[u8] = if minor >= MINOR_EXTRA_FIELDS { b"\t\tOPTION\tlog-passthrough\n" } else { b"" };
            let words = [options, &command.line(minor, ttl)].concat();
            tcp::say(&mut stream, &words).await.map_err(|error| self.told(error.into()))?;
            // The server says nothing before the command has come.
            let (reader, writer) = tokio::io::split(stream.into_inner());
            let reader = BufReader::with_capacity(PIECE_MAX, reader);
            Ok(Running { reader, writer, frames: Demultiplexer::new(minor), answer: Answer::default() })
        };
        timeout(limit, starting).await.map_err(|_| DoveadmFault::Silent { place: self.target.place(), limit })?
    }

    /// What follows, unless the server is silent for so long. Dropping this loses nothing.
    pub async fn next(&self, running: &mut Running, silence: Duration) -> Result<Piece, DoveadmFault> {
        match timeout(silence, running.next()).await {
            Ok(piece) => piece.map_err(|fault| self.told(fault)),
            Err(_) => Err(DoveadmFault::Silent { place: self.target.place(), limit: silence }),
        }
    }
}

impl Running {
    /// Sends what belongs to the command: the text of a mail, for one.
    pub async fn feed(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }

    async fn next(&mut self) -> Result<Piece, Fault> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                return Err(Fault::Lost(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let (piece, done) = digest(&mut self.frames, &mut self.answer, bytes)
                .map_err(|_| Fault::Garbled(Garbled("the end of the answer cannot be understood")))?;
            self.reader.consume(done);
            if let Some(piece) = piece {
                return Ok(piece);
            }
        }
    }

    /// Ends the connection, and waits until the server has ended it as well: then it is done with the mailbox.
    pub async fn part(mut self, patience: Duration) {
        let parting = async {
            self.writer.shutdown().await?;
            loop {
                let read = self.reader.fill_buf().await?.len();
                if read == 0 {
                    return std::io::Result::Ok(());
                }
                self.reader.consume(read);
            }
        };
        // A connection that broke is over, too.
        let _ = timeout(patience, parting).await;
    }
}

/// The first piece in `bytes`, and how many of them are done with.
fn digest(frames: &mut Demultiplexer, answer: &mut Answer, bytes: &[u8]) -> Result<(Option<Piece>, usize), Violation> {
    let (channel, content, done) = frames.next(bytes);
    match channel {
        _ if content.is_empty() => Ok((None, done)),
        reply::ANSWER => {
            let (event, read) = answer.next(content)?;
            let rest = content.len() - read;
            frames.put_back(rest);
            let piece = event.map(|event| match event {
                Event::Output(bytes) => Piece::Output(bytes.to_vec()),
                Event::End(verdict) => Piece::End(verdict),
            });
            Ok((piece, done - rest))
        }
        reply::LOG => Ok((Some(Piece::Log(content.to_vec())), done)),
        _ => Ok((None, done)),
    }
}
