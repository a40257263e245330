//! A small IMAP client with control over every byte. Each step has a deadline.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

pub use super::talk::STEP;
use super::talk::Talk;
use super::{Result, User};

/// A connection to an IMAP server or proxy.
pub struct Imap {
    talk: Talk,
    tags: u32,
    /// The greeting line.
    pub greeting: String,
}

/// What a command was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// OK
    Ok,
    /// NO
    No,
    /// BAD
    Bad,
}

/// A complete answer to a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Lines before the tagged one, literals included, without the last CRLF.
    pub untagged: Vec<String>,
    /// Of the tagged line.
    pub status: Status,
    /// The tagged line after tag and status.
    pub text: String,
}

impl Answer {
    /// Fails unless the status is `OK`.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.status == Status::Ok, "{:?} {}", self.status, self.text);
        Ok(self)
    }

    /// The first untagged line that starts with `* ` and `word`.
    pub fn line(&self, word: &str) -> Option<&str> {
        self.untagged
            .iter()
            .map(String::as_str)
            .find(|line| line.strip_prefix("* ").is_some_and(|l| l.starts_with(word)))
    }
}

impl Imap {
    /// Connects in plaintext and reads the greeting.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let mut imap = Self::dial(address).await?;
        imap.greet().await?;
        Ok(imap)
    }

    /// Connects from an address of the caller's choice and reads the greeting.
    pub async fn connect_from(from: IpAddr, address: SocketAddr) -> Result<Self> {
        let mut imap = Self::over(Talk::dial_from(from, address).await?);
        imap.greet().await?;
        Ok(imap)
    }

    /// Connects in plaintext and reads nothing.
    pub async fn dial(address: SocketAddr) -> Result<Self> {
        Ok(Self::over(Talk::dial(address).await?))
    }

    /// The same, if it does not take longer than `span`.
    pub async fn dial_within(address: SocketAddr, span: Duration) -> Result<Self> {
        Ok(Self::over(Talk::dial_within(address, span).await?))
    }

    /// Connects with TLS from the first byte, asking for `name`, and reads the greeting.
    pub async fn connect_tls(address: SocketAddr, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        let mut imap = Self::dial(address).await?.start_handshake(name, config).await?;
        imap.greet().await?;
        Ok(imap)
    }

    /// STARTTLS: the command and the handshake.
    pub async fn starttls(mut self, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        self.command("STARTTLS").await?.ok()?;
        self.start_handshake(name, config).await
    }

    /// Does the TLS handshake on a connection that has been plain so far.
    pub async fn start_handshake(self, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        Ok(Self { talk: self.talk.secure(name, config).await?, ..self })
    }

    /// Over a connection that is open, of which nothing was read.
    pub fn over(talk: Talk) -> Self {
        Self { talk, tags: 0, greeting: String::new() }
    }

    /// Lets every later step take up to `patience`.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.talk.be_patient(patience);
        self
    }

    /// Reads the greeting.
    pub async fn greet(&mut self) -> Result {
        self.greeting = self.line().await.context("greeting")?;
        ensure!(self.greeting.starts_with("* OK"), "greeted with {:?}", self.greeting);
        Ok(())
    }

    /// LOGIN with quoted strings. Fails unless it is accepted.
    pub async fn login(&mut self, user: &User) -> Result<Answer> {
        self.try_login(user).await?.ok()
    }

    /// LOGIN with quoted strings; the answer may be any.
    pub async fn try_login(&mut self, user: &User) -> Result<Answer> {
        self.command(&format!("LOGIN {} {}", quote(&user.name), quote(&user.password))).await
    }

    /// Sends a command without tag and CRLF, and reads its answer.
    pub async fn command(&mut self, text: &str) -> Result<Answer> {
        let tag = self.begin(text).await?;
        self.answer(&tag).await
    }

    /// Sends a command without waiting for its answer; gives its tag.
    pub async fn begin(&mut self, text: &str) -> Result<String> {
        self.tags += 1;
        let tag = format!("a{}", self.tags);
        self.send(format!("{tag} {text}\r\n").as_bytes()).await?;
        Ok(tag)
    }

    /// Reads up to the tagged answer to `tag`.
    pub async fn answer(&mut self, tag: &str) -> Result<Answer> {
        let mut untagged = Vec::new();
        loop {
            let line = self.line().await?;
            let Some(rest) = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) else {
                untagged.push(line);
                continue;
            };
            let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let status = match word {
                "OK" => Status::Ok,
                "NO" => Status::No,
                "BAD" => Status::Bad,
                _ => bail!("no status in {line:?}"),
            };
            return Ok(Answer { untagged, status, text: text.to_owned() });
        }
    }

    /// APPEND with a synchronising literal.
    pub async fn append(&mut self, mailbox: &str, message: &str) -> Result<Answer> {
        let tag = self.begin(&format!("APPEND {mailbox} {{{}}}", message.len())).await?;
        let go_on = self.line().await?;
        ensure!(go_on.starts_with('+'), "APPEND was answered {go_on:?}");
        self.send(message.as_bytes()).await?;
        self.send(b"\r\n").await?;
        self.answer(&tag).await?.ok()
    }

    /// Starts IDLE; ends with [`Imap::done`].
    pub async fn idle(&mut self) -> Result<String> {
        let tag = self.begin("IDLE").await?;
        loop {
            let line = self.line().await?;
            if line.starts_with('+') {
                return Ok(tag);
            }
            ensure!(line.starts_with("* "), "IDLE was answered {line:?}");
        }
    }

    /// Ends IDLE.
    pub async fn done(&mut self, tag: &str) -> Result<Answer> {
        self.send(b"DONE\r\n").await?;
        self.answer(tag).await?.ok()
    }

    /// The name that the server gives itself in its answer to ID: which backend this is.
    pub async fn backend(&mut self) -> Result<String> {
        let answer = self.command("ID NIL").await?.ok()?;
        let line = answer.line("ID").context("no ID")?;
        let name = line.split('"').nth(3).with_context(|| format!("no name in {line:?}"))?;
        Ok(name.to_owned())
    }

    /// LOGOUT, up to the end of the connection.
    pub async fn logout(mut self) -> Result {
        self.command("LOGOUT").await?.ok()?;
        self.closed().await
    }

    /// Ends the connection by a reset, as a client that dies with unread mail does.
    pub fn reset(self) -> Result {
        self.talk.reset()
    }

    /// Reads a line with the literals in it, without the last CRLF.
    pub async fn line(&mut self) -> Result<String> {
        self.talk.line_with_literals().await
    }
}

impl Deref for Imap {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

impl DerefMut for Imap {
    fn deref_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
