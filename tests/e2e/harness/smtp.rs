//! A small client of submission and LMTP servers. Each step has a deadline.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};

use super::letter::stuffed;
use super::talk::Talk;
use super::{Result, User};

/// What it calls itself.
const NAME: &str = "client.test";

/// Which of the two dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// EHLO, one reply for a message.
    Smtp,
    /// LHLO, a reply for each recipient.
    Lmtp,
}

/// A connection to a submission or LMTP server or proxy.
pub struct Smtp {
    talk: Talk,
    dialect: Dialect,
    /// The greeting's text.
    pub greeting: String,
    /// What the last EHLO or LHLO was answered with, behind the server's name.
    pub extensions: Vec<String>,
}

/// A complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// The text of each line.
    pub lines: Vec<String>,
}

impl Reply {
    /// Fails unless the code is of the twohundreds or threehundreds.
    pub fn ok(self) -> Result<Self> {
        ensure!((200..400).contains(&self.code), "{self:?}");
        Ok(self)
    }
}

/// What became of a message.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The replies to RCPT, in order.
    pub recipients: Vec<Reply>,
    /// The replies to the message: one of SMTP, one for each accepted recipient of LMTP, in order.
    pub outcome: Vec<Reply>,
}

impl Delivery {
    /// Fails unless every recipient was accepted and served.
    pub fn ok(self) -> Result<Self> {
        for reply in self.recipients.iter().chain(&self.outcome) {
            reply.clone().ok()?;
        }
        Ok(self)
    }
}

impl Smtp {
    /// Connects in plaintext, reads the greeting and says EHLO or LHLO.
    pub async fn connect(dialect: Dialect, address: SocketAddr) -> Result<Self> {
        Self::over(dialect, Talk::dial(address).await?).await
    }

    /// Connects from an address of the caller's choice.
    pub async fn connect_from(from: IpAddr, dialect: Dialect, address: SocketAddr) -> Result<Self> {
        Self::over(dialect, Talk::dial_from(from, address).await?).await
    }

    /// Connects to a Unix socket.
    pub async fn connect_unix(dialect: Dialect, path: &Path) -> Result<Self> {
        Self::over(dialect, Talk::dial_unix(path).await?).await
    }

    /// Connects with TLS from the first byte, asking for `name`.
    pub async fn connect_tls(
        dialect: Dialect,
        address: SocketAddr,
        name: &str,
        config: &Arc<rustls::ClientConfig>,
    ) -> Result<Self> {
        Self::over(dialect, Talk::dial(address).await?.secure(name, config).await?).await
    }

    /// Reads the greeting from a connection on which it comes next, and says EHLO or LHLO.
    pub async fn over(dialect: Dialect, talk: Talk) -> Result<Self> {
        let mut smtp = Self { talk, dialect, greeting: String::new(), extensions: Vec::new() };
        smtp.greeting = smtp.reply().await.context("greeting")?.ok()?.lines.join("\n");
        smtp.hello(NAME).await?;
        Ok(smtp)
    }

    /// STARTTLS: the command, the handshake, and EHLO or LHLO again.
    pub async fn starttls(mut self, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        self.command("STARTTLS").await?.ok()?;
        let mut smtp = Self { talk: self.talk.secure(name, config).await?, ..self };
        smtp.hello(NAME).await?;
        Ok(smtp)
    }

    /// EHLO or LHLO.
    pub async fn hello(&mut self, name: &str) -> Result<Reply> {
        let word = if self.dialect == Dialect::Smtp { "EHLO" } else { "LHLO" };
        let reply = self.command(&format!("{word} {name}")).await?.ok()?;
        self.extensions = reply.lines[1..].to_vec();
        Ok(reply)
    }

    /// The parameters of an extension, if it is offered.
    pub fn extension(&self, word: &str) -> Option<&str> {
        let mut lines = self.extensions.iter().map(|line| line.split_once(' ').unwrap_or((line, "")));
        lines.find(|(name, _)| *name == word).map(|(_, parameters)| parameters)
    }

    /// AUTH PLAIN with an initial response. Fails unless it is accepted.
    pub async fn log_in(&mut self, user: &User) -> Result<Reply> {
        self.try_log_in(user).await?.ok()
    }

    /// AUTH PLAIN with an initial response; the answer may be any.
    pub async fn try_log_in(&mut self, user: &User) -> Result<Reply> {
        self.command(&format!("AUTH PLAIN {}", user.sasl_plain())).await
    }

    /// Sends a command without its CRLF, and reads its reply.
    pub async fn command(&mut self, text: &str) -> Result<Reply> {
        self.send(format!("{text}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// Reads a whole reply.
    pub async fn reply(&mut self) -> Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            let (code, rest) = line.split_at_checked(3).with_context(|| format!("no reply: {line:?}"))?;
            lines.push(rest.get(1..).unwrap_or("").to_owned());
            if !rest.starts_with('-') {
                return Ok(Reply { code: code.parse().with_context(|| format!("no reply: {line:?}"))?, lines });
            }
        }
    }

    /// Sends a message by DATA, each step after the reply to the one before. MAIL must be accepted.
    pub async fn send_mail(&mut self, from: &str, to: &[&str], message: &str) -> Result<Delivery> {
        let recipients = self.envelope(from, to).await?;
        let accepted = count_accepted(&recipients);
        if accepted == 0 {
            return Ok(Delivery { recipients, outcome: Vec::new() });
        }
        self.command("DATA").await?.ok()?;
        self.send(stuffed(message).as_bytes()).await?;
        self.outcome(recipients, accepted).await
    }

    /// The same by BDAT, in chunks of `size` bytes (RFC 3030).
    pub async fn send_chunks(&mut self, from: &str, to: &[&str], message: &str, size: usize) -> Result<Delivery> {
        let recipients = self.envelope(from, to).await?;
        let accepted = count_accepted(&recipients);
        let mut chunks = message.as_bytes().chunks(size).peekable();
        while let Some(chunk) = chunks.next() {
            let last = if chunks.peek().is_none() { " LAST" } else { "" };
            self.send(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes()).await?;
            self.send(chunk).await?;
            if last.is_empty() {
                self.reply().await?.ok()?;
            }
        }
        self.outcome(recipients, accepted).await
    }

    /// The same by DATA, with MAIL, all RCPT and DATA sent at once (RFC 2920).
    pub async fn send_pipelined(&mut self, from: &str, to: &[&str], message: &str) -> Result<Delivery> {
        let recipients: String = to.iter().map(|name| format!("RCPT TO:<{name}>\r\n")).collect();
        self.send(format!("MAIL FROM:<{from}>\r\n{recipients}DATA\r\n").as_bytes()).await?;
        self.reply().await?.ok()?;
        let recipients = self.replies(to.len()).await?;
        self.reply().await?.ok()?;
        self.send(stuffed(message).as_bytes()).await?;
        let accepted = count_accepted(&recipients);
        self.outcome(recipients, accepted).await
    }

    /// MAIL, which must be accepted, and RCPT for everyone; gives the replies to those.
    pub async fn envelope(&mut self, from: &str, to: &[&str]) -> Result<Vec<Reply>> {
        self.command(&format!("MAIL FROM:<{from}>")).await?.ok()?;
        let mut replies = Vec::new();
        for name in to {
            replies.push(self.command(&format!("RCPT TO:<{name}>")).await?);
        }
        Ok(replies)
    }

    /// QUIT, up to the end of the connection.
    pub async fn quit(mut self) -> Result {
        self.command("QUIT").await?.ok()?;
        self.closed().await
    }

    async fn outcome(&mut self, recipients: Vec<Reply>, accepted: usize) -> Result<Delivery> {
        let count = if self.dialect == Dialect::Smtp { 1 } else { accepted };
        Ok(Delivery { recipients, outcome: self.replies(count).await? })
    }

    async fn replies(&mut self, count: usize) -> Result<Vec<Reply>> {
        let mut replies = Vec::new();
        for _ in 0..count {
            replies.push(self.reply().await?);
        }
        Ok(replies)
    }
}

fn count_accepted(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.code / 100 == 2).count()
}

impl Deref for Smtp {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

impl DerefMut for Smtp {
    fn deref_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}
