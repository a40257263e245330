//! A small client of doveadm's TCP protocol, version 1.0, that gives commands for one user at a time. Each step has a
//! deadline.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Result;
use super::talk::Talk;

/// What proxies ask for at this door; see [`super::fleet::Plan::protocols`].
pub const DOOR_PASSWORD: &str = "Verwalter+Kennwort";

/// A connection to a proxy's door for doveadm.
pub struct Doveadm {
    talk: Talk,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The fields that it has printed, one behind the other.
    pub printed: String,
    /// `+`, or `-` and why not.
    pub verdict: String,
}

impl Outcome {
    /// Whether it was carried out.
    pub fn is_done(&self) -> bool {
        self.verdict == "+"
    }

    /// Fails unless it was carried out.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.is_done(), "{self:?}");
        Ok(self)
    }
}

impl Doveadm {
    /// Connects and says the password.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let mut doveadm = Self { talk: Talk::dial(address).await? };
        let login = STANDARD.encode(format!("\0doveadm\0{DOOR_PASSWORD}"));
        doveadm.send(format!("VERSION\tdoveadm-server\t1\t0\nPLAIN\t{login}\n").as_bytes()).await?;
        for wanted in ["-", "+"] {
            let line = doveadm.bare_line().await?;
            ensure!(line == wanted, "{line:?} for {wanted:?}");
        }
        Ok(doveadm)
    }

    /// A command, its words separated by tabs.
    pub async fn command(&mut self, user: &str, words: &str) -> Result<Outcome> {
        self.begin(user, words).await?;
        self.outcome().await
    }

    /// Begins a command that takes something along, such as `save` a message with a dot behind it.
    pub async fn begin(&mut self, user: &str, words: &str) -> Result {
        self.send(format!("\t{user}\t{words}\n").as_bytes()).await
    }

    /// How the command that was begun has ended.
    pub async fn outcome(&mut self) -> Result<Outcome> {
        Ok(Outcome { printed: self.bare_line().await?, verdict: self.bare_line().await? })
    }
}

impl Deref for Doveadm {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

impl DerefMut for Doveadm {
    fn deref_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}
