//! A small POP3 client. Each step has a deadline.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use anyhow::{Context, ensure};

use super::talk::Talk;
use super::{Result, User};

/// A connection to a POP3 server or proxy.
pub struct Pop3 {
    talk: Talk,
    /// The greeting line.
    pub greeting: String,
}

/// The first line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `+OK`, not `-ERR`.
    pub positive: bool,
    /// What stands behind that.
    pub text: String,
}

impl Verdict {
    /// Fails unless it is `+OK`.
    pub fn ok(self) -> Result<String> {
        ensure!(self.positive, "-ERR {}", self.text);
        Ok(self.text)
    }
}

impl Pop3 {
    /// Connects in plaintext and reads the greeting.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        Self::over(Talk::dial(address).await?).await
    }

    /// Connects from an address of the caller's choice and reads the greeting.
    pub async fn connect_from(from: IpAddr, address: SocketAddr) -> Result<Self> {
        Self::over(Talk::dial_from(from, address).await?).await
    }

    /// Connects with TLS from the first byte, asking for `name`, and reads the greeting.
    pub async fn connect_tls(address: SocketAddr, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        Self::over(Talk::dial(address).await?.secure(name, config).await?).await
    }

    /// Reads the greeting from a connection on which it comes next.
    pub async fn over(talk: Talk) -> Result<Self> {
        let mut pop3 = Self { talk, greeting: String::new() };
        pop3.greeting = pop3.line().await.context("greeting")?;
        ensure!(pop3.greeting.starts_with("+OK"), "greeted with {:?}", pop3.greeting);
        Ok(pop3)
    }

    /// STLS: the command and the handshake.
    pub async fn starttls(mut self, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        self.command("STLS").await?.ok()?;
        Ok(Self { talk: self.talk.secure(name, config).await?, ..self })
    }

    /// USER and PASS. Fails unless both are accepted.
    pub async fn log_in(&mut self, user: &User) -> Result<String> {
        self.try_log_in(user).await?.ok()
    }

    /// USER and PASS; the answer to PASS may be any.
    pub async fn try_log_in(&mut self, user: &User) -> Result<Verdict> {
        self.command(&format!("USER {}", user.name)).await?.ok()?;
        self.command(&format!("PASS {}", user.password)).await
    }

    /// Sends a command without its CRLF, and reads the first line of its answer.
    pub async fn command(&mut self, text: &str) -> Result<Verdict> {
        self.send(format!("{text}\r\n").as_bytes()).await?;
        self.verdict().await
    }

    /// Reads the first line of an answer.
    pub async fn verdict(&mut self) -> Result<Verdict> {
        let line = self.line().await?;
        let positive = line.strip_prefix("+OK");
        let rest = positive.or(line.strip_prefix("-ERR")).with_context(|| format!("no verdict in {line:?}"))?;
        Ok(Verdict { positive: positive.is_some(), text: rest.trim_start().to_owned() })
    }

    /// Sends a command that is answered by several lines; gives those behind the first, as they were meant.
    pub async fn list(&mut self, text: &str) -> Result<Vec<String>> {
        self.command(text).await?.ok()?;
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            match line.strip_prefix('.') {
                Some("") => return Ok(lines),
                Some(rest) => lines.push(rest.to_owned()),
                None => lines.push(line),
            }
        }
    }

    /// How many messages there are.
    pub async fn count(&mut self) -> Result<usize> {
        let text = self.command("STAT").await?.ok()?;
        Ok(text.split(' ').next().unwrap_or("").parse()?)
    }

    /// A whole message, counted from 1.
    pub async fn retrieve(&mut self, number: usize) -> Result<String> {
        let lines = self.list(&format!("RETR {number}")).await?;
        Ok(lines.into_iter().map(|line| line + "\r\n").collect())
    }

    /// QUIT, up to the end of the connection.
    pub async fn quit(mut self) -> Result {
        self.command("QUIT").await?.ok()?;
        self.closed().await
    }
}

impl Deref for Pop3 {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

impl DerefMut for Pop3 {
    fn deref_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}
