//! The three mail servers of the demo: built in, or Dovecot.

use std::net::SocketAddr;

use super::dovecot::Dovecot;
use super::mailbox::{MailStore, Server, samples};
use super::scratch::Scratch;

/// Their names.
pub(super) const NAMES: [&str; 3] = ["mail1", "mail2", "mail3"];

/// Running mail servers over one mail store.
pub(super) enum Backends {
    /// Built in.
    Small(Vec<Server>),
    /// The real thing.
    Dovecot(Vec<Dovecot>),
}

impl Backends {
    /// Starts small servers with accounts for `users`.
    pub(super) async fn small(users: &[String], password: &str) -> anyhow::Result<Self> {
        let mail = MailStore::new(users, password, samples);
        let mut servers = Vec::new();
        for name in NAMES {
            servers.push(Server::start(name, mail.clone()).await?);
        }
        Ok(Self::Small(servers))
    }

    /// Starts Dovecot servers with accounts for `users`.
    pub(super) async fn dovecot(users: &[String], password: &str, scratch: &Scratch) -> anyhow::Result<Self> {
        Dovecot::start_all(&NAMES, users, password, scratch.path()).await.map(Self::Dovecot)
    }

    /// Names and addresses.
    pub(super) fn list(&self) -> Vec<(&'static str, SocketAddr)> {
        let addresses: Vec<_> = match self {
            Self::Small(servers) => servers.iter().map(Server::address).collect(),
            Self::Dovecot(servers) => servers.iter().map(Dovecot::address).collect(),
        };
        NAMES.into_iter().zip(addresses).collect()
    }

    /// Who has sessions there, by each backend's own account: one name per session.
    pub(super) async fn users(&self) -> anyhow::Result<Vec<Vec<String>>> {
        match self {
            Self::Small(servers) => {
                Ok(servers.iter().map(|server| server.live().into_iter().map(|live| live.user).collect()).collect())
            }
            Self::Dovecot(servers) => {
                let mut users = Vec::new();
                for server in servers {
                    users.push(server.users().await?);
                }
                Ok(users)
            }
        }
    }
}
