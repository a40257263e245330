//! Who is this user: sources in a list, the first that knows the user decides.
//!
//! `chain.rs` asks the `sources/`; `scheme.rs` reads and verifies stored passwords, `hasher.rs` keeps that off the event
//! loop; `extra.rs` reads the fields of a passdb; `penalty/` makes failures cost time. No password is ever logged, nor quoted in an error.

pub mod cache;
mod chain;
mod extra;
mod fault;
mod hasher;
pub mod penalty;
mod scheme;
pub mod sources;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use async_trait::async_trait;

pub use chain::Chain;

use crate::model::{Credentials, Pool, Protocol, Secret, SessionId, User};

/// A question to a passdb.
#[derive(Debug)]
pub struct Question<'a> {
    /// Name and password as given.
    pub credentials: &'a Credentials,
    /// By which protocol.
    pub service: Protocol,
    /// The client's true address.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The client's connection is encrypted.
    pub secured: bool,
    /// The session's name in the log.
    pub session: &'a SessionId,
}

/// A question about somebody who does not log in: whose mail comes, or is administered.
#[derive(Debug)]
pub struct Lookup<'a> {
    /// Name as given, without detail.
    pub user: &'a str,
    /// By which protocol.
    pub service: Protocol,
    /// The client's true address.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The session's name in the log.
    pub session: &'a SessionId,
}

/// A place that knows users.
#[async_trait]
pub trait Source: Send + Sync {
    /// Name for logs: kind and place.
    fn name(&self) -> String;

    /// Whoever it grants is checked by the backend.
    fn leaves_it_to_the_backend(&self) -> bool {
        false
    }

    /// Checks the password and says what is known about the user. Never blocks the event loop.
    async fn ask(&self, question: &Question<'_>) -> Verdict;

    /// Says what is known about the user, without any password. Never `Denied` for a password; what concerns logins alone
    /// (`nologin`, `allow_nets`) does not count.
    async fn find(&self, lookup: &Lookup<'_>) -> Verdict;

    /// The names of all users that it knows; `None` if it cannot list them.
    async fn list(&self) -> Option<Result<Vec<String>, String>> {
        None
    }
}

/// What a source says.
#[derive(Debug)]
pub enum Verdict {
    /// The password is right, or the backend will check it.
    Granted(Box<Grant>),
    /// The user is known and the password is wrong, or the user may not log in.
    Denied(Denial),
    /// Not known here: ask the next.
    Unknown,
    /// The source could not answer; the text is for the operator.
    Unavailable(String),
}

/// Why a known user is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Wrong password.
    Password,
    /// `nologin`, `allow_nets` and the like.
    Forbidden,
}

/// A user who may log in.
#[derive(Debug)]
pub struct Grant {
    /// Canonical name.
    pub user: User,
    /// Nobody has checked the password: the backend will.
    pub unproven: bool,
    /// The master user who logs in on the user's behalf, with the password that was given.
    pub master: Option<String>,
    /// What the passdb says about the backend's side. Names as in Dovecot's proxy fields.
    pub fields: Fields,
}

impl Grant {
    /// The name at the backend: what the affinity key is made of.
    pub fn home_name(&self) -> &str {
        self.fields.destuser.as_deref().unwrap_or(self.user.as_str())
    }
}

/// A passdb's extra fields that bear on proxying.
#[derive(Debug, Default)]
pub struct Fields {
    /// `pool`, or Dovecot's `director_tag`.
    pub pool: Option<Pool>,
    /// `host`: a backend's name or address. One of the table is a pin; another one is obeyed and never stored.
    pub host: Option<String>,
    /// `port` at `host`.
    pub port: Option<u16>,
    /// `destuser`: the name at the backend; also what the affinity key is made of.
    pub destuser: Option<String>,
    /// `master`: log in as this user on behalf of the user, with `pass`.
    pub master: Option<String>,
    /// `pass`: the password for the backend instead of the client's.
    pub pass: Option<Secret>,
    /// `ssl` or `starttls`, with `any-cert` not verified; only with a `host` that is not of the table.
    pub tls: Option<FieldTls>,
    /// `proxy_timeout`: time for connecting and logging in.
    pub timeout: Option<std::time::Duration>,
    /// `proxy_nopipelining`.
    pub no_pipelining: bool,
    /// `proxy_not_trusted`: do not announce the client.
    pub not_trusted: bool,
    /// `proxy_noauth`: a submission server takes our word for who logs in.
    pub no_auth: bool,
    /// `forward_NAME`: what the backend is to know of the user, without the `forward_`.
    pub forward: Vec<(String, String)>,
}

/// Protection of a connection to a `host` of the passdb's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldTls {
    /// STARTTLS rather than TLS from the first byte.
    pub starttls: bool,
    /// The certificate must be valid for the host.
    pub verify: bool,
}
