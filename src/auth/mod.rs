//! Who is this user: sources in a list, the first that knows the user decides.
//!
//! `chain.rs` says who logs in as whom; `links.rs` asks the `sources/` in their order behind the fleet's `cache/`, each through
//! a `link.rs`, which bounds how long and how often. Sources that store
//! passwords only look them up: `verifier.rs` compares, `scheme.rs` reads what is stored, and `hasher.rs` keeps the work
//! off the event loop. `extra.rs` reads the fields of a passdb. `penalty/` makes failures cost time. No password is ever logged, nor quoted in an error.

pub mod cache;
mod chain;
mod extra;
mod fault;
mod hasher;
mod keys;
mod link;
mod links;
mod pace;
pub mod penalty;
mod policy;
mod scheme;
pub mod sources;
#[cfg(test)]
mod tests;
mod verifier;
mod web;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use ipnet::IpNet;

pub use cache::{Recall, Recalled};
pub use chain::{Chain, Trial};
pub use link::{LATENCY_BOUNDS, SourceStats};
pub use policy::PolicyStats;
pub use scheme::Schemes;
pub use verifier::{Decoy, StoredUser};

use crate::model::{Credentials, Mechanism, Pool, Protocol, Refusal, ScramHash, Secret, SessionId, User};
use crate::net::ProxyTls;

/// A question to a passdb.
#[derive(Debug)]
pub struct Question<'a> {
    /// Name and proof as given.
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
    /// What else is known of the connection.
    pub around: Circumstances<'a>,
}

/// What is known of a client's connection beyond its addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances<'a> {
    /// Its TLS, with us or with the load balancer in front of us.
    pub tls: Option<&'a ProxyTls>,
    /// The name that it asked for (SNI).
    pub server_name: Option<&'a str>,
    /// The addresses of the connection itself, its peer's and ours, where a load balancer told the client's.
    pub via: Option<(SocketAddr, SocketAddr)>,
    /// Which login of the connection this is, from 1.
    pub attempt: u32,
    /// What the client says that it is (IMAP ID).
    pub client_id: &'a [(String, Option<String>)],
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

    /// Checks the proof and says what is known about the user. `allow_nets` is judged by the
    /// chain. Never blocks the event loop.
    ///
    /// Nobody is granted for a proof that this source cannot check: it says [`Verdict::Unknown`], and the next may. What is
    /// stored it gives as [`Verdict::Stored`] for any proof: who asks knows what can be held against it.
    async fn ask(&self, question: &Question<'_>) -> Verdict;

    /// Users whom it knows can log in by SCRAM with that hash: it has a password or keys of all of them.
    fn has_scram_keys(&self, _: ScramHash) -> bool {
        false
    }

    /// It gives what it has stored: whoever compares with it can do more than compare passwords.
    fn stores_passwords(&self) -> bool {
        false
    }

    /// It can say something about a password.
    fn takes_passwords(&self) -> bool {
        true
    }

    /// It knows who may log in without a look at the proof: who has shown elsewhere who it is can be looked up.
    fn knows_users(&self) -> bool {
        self.stores_passwords()
    }

    /// It verifies tokens that come by that mechanism, or lets the backend do so.
    fn takes_tokens(&self, _: Mechanism) -> bool {
        false
    }

    /// Says what is known about the user, without any password. Never `Denied` for a password; what concerns logins alone
    /// (`nologin`) does not count.
    async fn find(&self, lookup: &Lookup<'_>) -> Verdict;

    /// A stored password that costs as much to verify as most do, if the source knows: what a user whom nobody knows is
    /// held against, for the time that it takes.
    fn decoy(&self) -> Option<Decoy> {
        None
    }

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
    /// The user is known by this stored password, which is still to be compared with the one given.
    Stored(Box<StoredUser>),
    /// Not known here: ask the next.
    Unknown,
    /// The source is well, but what it has about this user cannot be used; the text is for the operator.
    Faulty(String),
    /// The source could not answer; the text is for the operator. Several in a row, and it is left alone for a while.
    Unavailable(String),
}

/// Why a known user is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Wrong password.
    Password,
    /// `nologin`, or an address that is not of `allow_nets`.
    Forbidden,
    /// As the source says.
    Told(Refused),
}

/// A login that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// What the client is told instead of our own words.
    pub words: Option<String>,
    /// How long it waits for its answer, up to [`LONGEST_WAIT`].
    pub wait: Duration,
}

/// Nobody waits longer because a source says so (as Dovecot's `delay_until`).
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, words: None, wait: Duration::ZERO }
    }
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Password => Refusal::BadCredentials.into(),
            Denial::Forbidden => Refusal::Forbidden.into(),
            Denial::Told(refused) => refused,
        }
    }
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
    /// `hostip`: the address of `host`, so that its name is only for its certificate.
    pub hostip: Option<IpAddr>,
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
    pub timeout: Option<Duration>,
    /// `proxy_nopipelining`.
    pub no_pipelining: bool,
    /// `proxy_not_trusted`: do not announce the client.
    pub not_trusted: bool,
    /// `proxy_noauth`: a submission server takes our word for who logs in.
    pub no_auth: bool,
    /// `delay_until`: the login waits until then, up to [`LONGEST_WAIT`].
    pub delay_until: Option<SystemTime>,
    /// `forward_NAME`: what the backend is to know of the user, without the `forward_`.
    pub forward: Vec<(String, String)>,
    /// `allow_nets`: the user may log in only from there.
    pub allow_nets: Option<Vec<IpNet>>,
    /// Not a passdb's word, but the token's: it is good until then.
    pub until: Option<SystemTime>,
}

impl Fields {
    /// The client's address is one that the user may log in from.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.allow_nets.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&client)))
    }
}

/// Protection of a connection to a `host` of the passdb's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldTls {
    /// STARTTLS rather than TLS from the first byte.
    pub starttls: bool,
    /// The certificate must be valid for the host.
    pub verify: bool,
}
