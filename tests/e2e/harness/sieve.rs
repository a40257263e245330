//! A small ManageSieve client. Each step has a deadline.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use anyhow::{Context, ensure};

use super::talk::Talk;
use super::{Result, User};

/// A connection to a ManageSieve server or proxy.
pub struct Sieve {
    talk: Talk,
    /// The last capabilities that were told, as lines.
    pub capabilities: Vec<String>,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// OK
    Ok,
    /// NO
    No,
    /// BYE
    Bye,
}

/// A complete answer to a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Lines before the last, literals included.
    pub lines: Vec<String>,
    /// Of the last line.
    pub verdict: Verdict,
    /// The last line behind that: a response code in parentheses, if any, and a text.
    pub text: String,
}

impl Answer {
    /// Fails unless it is `OK`.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.verdict == Verdict::Ok, "{:?} {}", self.verdict, self.text);
        Ok(self)
    }
}

impl Sieve {
    /// Connects in plaintext and reads the greeting.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        Self::over(Talk::dial(address).await?).await
    }

    /// Connects from an address of the caller's choice and reads the greeting.
    pub async fn connect_from(from: IpAddr, address: SocketAddr) -> Result<Self> {
        Self::over(Talk::dial_from(from, address).await?).await
    }

    /// Reads the greeting from a connection on which it comes next: capabilities and OK.
    pub async fn over(talk: Talk) -> Result<Self> {
        let mut sieve = Self { talk, capabilities: Vec::new() };
        sieve.capabilities = sieve.answer().await.context("greeting")?.ok()?.lines;
        Ok(sieve)
    }

    /// STARTTLS: the command, the handshake, and the capabilities that are told again.
    pub async fn starttls(mut self, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        self.command("STARTTLS").await?.ok()?;
        Self::over(self.talk.secure(name, config).await?).await
    }

    /// AUTHENTICATE PLAIN with an initial response. Fails unless it is accepted.
    pub async fn log_in(&mut self, user: &User) -> Result<Answer> {
        self.try_log_in(user).await?.ok()
    }

    /// AUTHENTICATE PLAIN with an initial response; the answer may be any.
    pub async fn try_log_in(&mut self, user: &User) -> Result<Answer> {
        self.command(&format!("AUTHENTICATE \"PLAIN\" \"{}\"", user.sasl_plain())).await
    }

    /// Sends a command without its CRLF, and reads its answer.
    pub async fn command(&mut self, text: &str) -> Result<Answer> {
        self.send(format!("{text}\r\n").as_bytes()).await?;
        self.answer().await
    }

    /// Reads a whole answer.
    pub async fn answer(&mut self) -> Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let line = self.talk.line_with_literals().await?;
            let (word, text) = line.split_once(' ').unwrap_or((&line, ""));
            let verdict = match word {
                "OK" => Verdict::Ok,
                "NO" => Verdict::No,
                "BYE" => Verdict::Bye,
                _ => {
                    lines.push(line);
                    continue;
                }
            };
            return Ok(Answer { lines, verdict, text: text.to_owned() });
        }
    }

    /// PUTSCRIPT with a literal that needs no go-ahead.
    pub async fn put_script(&mut self, name: &str, script: &str) -> Result<Answer> {
        self.command(&format!("PUTSCRIPT \"{name}\" {{{}+}}\r\n{script}", script.len())).await?.ok()
    }

    /// GETSCRIPT.
    pub async fn get_script(&mut self, name: &str) -> Result<String> {
        let answer = self.command(&format!("GETSCRIPT \"{name}\"")).await?.ok()?;
        let literal = answer.lines.first().and_then(|line| line.split_once("\r\n"));
        Ok(literal.with_context(|| format!("no script in {answer:?}"))?.1.to_owned())
    }

    /// SETACTIVE: this script sorts the mail from now on.
    pub async fn activate(&mut self, name: &str) -> Result<Answer> {
        self.command(&format!("SETACTIVE \"{name}\"")).await?.ok()
    }

    /// LOGOUT, up to the end of the connection.
    pub async fn logout(mut self) -> Result {
        self.command("LOGOUT").await?.ok()?;
        self.closed().await
    }
}

impl Deref for Sieve {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

impl DerefMut for Sieve {
    fn deref_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}
