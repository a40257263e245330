//! One connection to a mail server that takes envelopes and messages, for one transaction after the other.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tracing::warn;

use super::recipient::Delivery;
use crate::backend::Arrival;
use crate::net::Stream;
use crate::protocol::lmtp::{Mail, Replies, Reply, forwarded_within, offered, reply};
use crate::protocol::{Input, Violation};

/// Bytes of a server's line.
const LINE: usize = 16 * 1024;
/// Commands sent at once. Both sides would wait for ever if neither could take what the other says.
const WINDOW: usize = 100;
/// Bytes of what is forwarded of a recipient, as Dovecot bounds it: its own lookups fail with much more.
const FORWARD: usize = 900;

/// A connection.
pub(super) struct Upstream {
    stream: Stream,
    input: Input,
    replies: Replies,
    offers: Vec<String>,
    /// It may be told what is forwarded of recipients.
    trusted: bool,
    /// It has served a transaction before, so it may have been closed meanwhile.
    pub(super) is_used: bool,
    /// An envelope was begun and not followed by a message.
    is_open: bool,
}

/// The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("it closed the connection")]
    Closed,
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Fault(#[from] Violation),
    /// What it said cannot be told from the answer to what is said next.
    #[error("it said what it was not asked for")]
    Unasked,
}

/// What a server says to an envelope.
pub(super) enum Answers {
    /// It does not take the sender.
    Sender(Reply),
    /// A reply for each recipient.
    Recipients(Vec<Reply>),
}

impl Upstream {
    /// `trusted`: it may be told who the client is, and what is forwarded of recipients.
    pub(super) fn new(arrival: Arrival, trusted: bool) -> Self {
        let mut input = Input::with_capacity(LINE);
        input.push(&arrival.early);
        let (stream, offers) = (arrival.stream, arrival.offers);
        Self { stream, input, replies: Replies::default(), offers, trusted, is_used: false, is_open: false }
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    pub(super) fn takes_chunks(&self) -> bool {
        self.offers("CHUNKING")
    }

    fn offers(&self, keyword: &str) -> bool {
        offered(&self.offers, keyword).is_some()
    }

    /// Names recipients, and first the sender if there is one. What was begun before and not ended is given up.
    pub(super) async fn envelope(&mut self, mail: Option<&Mail>, to: &[Delivery]) -> Result<Answers, Lost> {
        let mut commands = Vec::with_capacity(to.len() + 2);
        let reset = mail.is_some() && self.is_open;
        if reset {
            commands.push("RSET\r\n".to_owned());
        }
        if let Some(mail) = mail {
            if mail.smtputf8 && !self.offers("SMTPUTF8") {
                return Ok(Answers::Sender(reply::NO_SMTPUTF8));
            }
            commands.push(self.mail(mail));
        }
        commands.extend(to.iter().map(|delivery| self.rcpt(delivery)));
        self.silence().await?;
        self.is_open = true;
        let mut answers = self.converse(&commands).await?.into_iter();
        if reset {
            answers.next();
        }
        let sender = mail.is_some().then(|| answers.next()).flatten();
        match sender {
            Some(refusal) if !refusal.is_good() => Ok(Answers::Sender(refusal)),
            _ => Ok(Answers::Recipients(answers.collect())),
        }
    }

    /// Gives up what was begun.
    pub(super) async fn reset(&mut self) -> Result<(), Lost> {
        self.converse(&["RSET\r\n".to_owned()]).await?;
        self.is_open = false;
        Ok(())
    }

    /// Makes sure that nothing has come that was not asked for: it would be taken for the answer to what is said next, and
    /// in the end a message for stored that is not. Notices as well that a server has closed an idle connection.
    pub(super) async fn silence(&mut self) -> Result<(), Lost> {
        let said = self.feed(&[], &mut 0).await?.is_some();
        if said || !self.input.is_empty() || !self.replies.is_empty() { Err(Lost::Unasked) } else { Ok(()) }
    }

    /// Asks for the go-ahead to a message by DATA.
    pub(super) async fn data(&mut self) -> Result<Reply, Lost> {
        self.silence().await?;
        self.write(b"DATA\r\n").await?;
        self.reply().await
    }

    /// The message was answered: the next envelope may follow.
    pub(super) fn is_done(&mut self) {
        (self.is_used, self.is_open) = (true, false);
    }

    /// Commands, and a reply for each: at once where the server allows that (RFC 2920).
    async fn converse(&mut self, commands: &[String]) -> Result<Vec<Reply>, Lost> {
        let mut replies = Vec::with_capacity(commands.len());
        let window = if self.offers("PIPELINING") { WINDOW } else { 1 };
        for some in commands.chunks(window) {
            self.write(some.concat().as_bytes()).await?;
            for _ in some {
                replies.push(self.reply().await?);
            }
        }
        Ok(replies)
    }

    fn mail(&self, mail: &Mail) -> String {
        let mut command = format!("MAIL FROM:<{}>", mail.sender);
        if let Some(size) = mail.size.filter(|_| self.offers("SIZE")) {
            command.push_str(&format!(" SIZE={size}"));
        }
        if let Some(body) = mail.body.filter(|_| self.offers("8BITMIME")) {
            command.push_str(&format!(" BODY={body}"));
        }
        if mail.smtputf8 {
            command.push_str(" SMTPUTF8");
        }
        self.with_dsn(command, &mail.dsn)
    }

    fn rcpt(&self, delivery: &Delivery) -> String {
        let mut command = format!("RCPT TO:<{}>", delivery.address);
        // One that does not know it, or not us, would refuse the recipient for good.
        if self.trusted && self.offers("XRCPTFORWARD") {
            let (told, left_out) = forwarded_within(&delivery.forward, FORWARD);
            if left_out > 0 {
                warn!(user = delivery.user, left_out, "the forward_ fields are longer than 900 bytes in all");
            }
            command.extend(told.map(|value| format!(" XRCPTFORWARD={value}")));
        }
        self.with_dsn(command, &delivery.dsn)
    }

    /// Clients are offered DSN while all servers have it; one that has lost it since is not told.
    fn with_dsn(&self, mut command: String, parameters: &[String]) -> String {
        for parameter in parameters.iter().filter(|_| self.offers("DSN")) {
            command.push(' ');
            command.push_str(parameter);
        }
        command.push_str("\r\n");
        command
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next reply.
    pub(super) async fn reply(&mut self) -> Result<Reply, Lost> {
        loop {
            if let Some(reply) = self.replies.next(&mut self.input)? {
                return Ok(reply);
            }
            let count = self.stream.read(self.input.spare()).await?;
            if count == 0 {
                return Err(Lost::Closed);
            }
            self.input.advance(count);
        }
    }

    /// Sends a part of a message, with an eye on what the server says meanwhile: its answers to the chunks before
    /// (`owed`), and otherwise nothing.
    pub(super) async fn feed(&mut self, bytes: &[u8], owed: &mut usize) -> Result<Option<Reply>, Lost> {
        let mut sent = 0;
        loop {
            let has_news = poll_fn(|cx| {
                while sent < bytes.len() {
                    match Pin::new(&mut self.stream).poll_write(cx, &bytes[sent..]) {
                        Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        Poll::Ready(Ok(count)) => sent += count,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => break,
                    }
                }
                let flushed = Pin::new(&mut self.stream).poll_flush(cx)?.is_ready();
                let mut room = ReadBuf::new(self.input.spare());
                match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
                    Poll::Ready(Ok(())) => {
                        let count = room.filled().len();
                        self.input.advance(count);
                        Poll::Ready(if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(true) })
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending if flushed && sent == bytes.len() => Poll::Ready(Ok(false)),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await?;
            while let Some(reply) = self.replies.next(&mut self.input)? {
                if *owed == 0 || !reply.is_good() {
                    return Ok(Some(reply));
                }
                *owed -= 1;
            }
            if !has_news {
                return Ok(None);
            }
        }
    }
}
