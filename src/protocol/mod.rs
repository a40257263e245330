//! Conversations without I/O: bytes and verdicts in, replies and wishes out. No socket, clock or store is known here.
//!
//! A [`Machine`] is fed an [`Input`] and writes an [`Output`]; when it wants something done that it cannot do (TLS, a
//! password check, the relay) it returns a wish, and is told the outcome by a method of [`Frontend`] or [`Backend`].

mod buffer;
pub mod doveadm;
mod fault;
pub mod imap;
mod line;
pub mod lmtp;
pub mod pop3;
mod referral;
pub mod sasl;
pub mod sieve;
mod smtp;
pub mod spoken;
mod step;
pub mod submission;
mod talk;
mod tally;
mod worded;
mod xclient;

use std::sync::Arc;

pub use buffer::{Input, Output};
pub use worded::refusal_in_words;

use crate::model::{Credentials, Mechanism, Refusal, Secret};
use sasl::{KeysWanted, ScramGift};

/// One side of a conversation.
pub trait Machine: Send {
    /// What it may want done.
    type Wish;

    /// Consumes what is complete in `input` and writes answers, until it has a wish, or needs more bytes (`None`).
    /// After a wish it must be told the outcome before it is advanced again. A violation ends the conversation; a last
    /// word to the peer is in `out` already.
    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<Self::Wish>, Violation>;
}

/// What a peer did that ends the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// A line longer than allowed.
    #[error("line too long")]
    LineTooLong,
    /// A literal longer than allowed.
    #[error("literal too long")]
    LiteralTooLong,
    /// More commands before login than allowed.
    #[error("too many commands before login")]
    TooManyCommands,
    /// More errors (syntax, unknown commands) than allowed.
    #[error("too many errors")]
    TooManyErrors,
    /// More refused logins than allowed.
    #[error("too many failed logins")]
    TooManyFailures,
    /// Plaintext was pipelined behind STARTTLS.
    #[error("plaintext behind STARTTLS")]
    InjectionBehindStartTls,
    /// The peer does not speak this protocol.
    #[error("not this protocol: {0}")]
    Nonsense(&'static str),
    /// A backend turned the connection away before login (BYE).
    #[error("the backend turned the connection away")]
    TurnedAway,
    /// A backend does not offer what its configuration demands.
    #[error("the backend does not offer {0}")]
    Missing(&'static str),
}

/// The side that faces the mail client, until hand-over.
pub trait Frontend: Machine<Wish = ClientWish> {
    /// The first words after accept (after the TLS handshake on a TLS listener).
    fn greet(&mut self, out: &mut Output);

    /// TLS is up: forget what was said in plaintext.
    fn secured(&mut self);

    /// What SASL has to go by has changed, as it does with TLS.
    fn set_terms(&mut self, terms: Arc<sasl::Terms>);

    /// The keys that were wished for: the exchange goes on.
    fn give_keys(&mut self, gift: ScramGift, out: &mut Output);

    /// The login that was wished for is refused. The dialogue goes on, unless this was one failure too many.
    fn refuse(&mut self, why: Refusal, out: &mut Output) -> Result<(), Violation>;

    /// The backend refused the login, in its own words. The dialogue goes on, unless this was one failure too many.
    fn relay_refusal(&mut self, words: &BackendRefusal, out: &mut Output) -> Result<(), Violation>;

    /// The backend took the login: the last words of this machine, in the client's own tag. The relay follows.
    fn welcome(&mut self, handover: &Handover, out: &mut Output);

    /// Last words before the proxy closes for a reason of its own.
    fn farewell(&mut self, why: Farewell, out: &mut Output);

    /// What the client said about itself (RFC 2971), to be passed on to the backend. Names as given.
    fn client_id(&self) -> &[(String, Option<String>)];

    /// How many more proxies may follow, if the client is a proxy that says so.
    fn proxy_ttl(&self) -> Option<u32>;

    /// The address of whom the client says it speaks for, as a webmail does. Anybody can say that: it is for who believes the
    /// client, and never passed on.
    fn origin(&self) -> Option<std::net::IpAddr>;

    /// The name that the client gave in EHLO, where there is such a thing.
    fn helo(&self) -> Option<&str>;

    /// The client has asked for UTF-8 (POP3, RFC 6856), which its mail server must hear before the login.
    fn utf8(&self) -> bool;
}

/// The side that faces the mail server, until logged in.
pub trait Backend: Machine<Wish = BackendWish> {
    /// How far the conversation is.
    fn stage(&self) -> Stage;

    /// TLS is up: forget what was said in plaintext, and go on.
    fn secured(&mut self, out: &mut Output);

    /// What the server has said that it offers, a line each, as far as frontends of the same protocol show it to clients
    /// ([`FrontendSettings::offers`]). Known when the conversation has come to its wish; empty if there is no such thing.
    fn offers(&self) -> &[String] {
        &[]
    }
}

/// What a conversation with a backend has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The server has not said who it is.
    Greeting,
    /// It has greeted; what it offers is asked, TLS is made, the client announced.
    Dialogue,
    /// The login has been sent.
    Login,
}

/// What a frontend wants done.
#[derive(Debug)]
pub enum ClientWish {
    /// The answer is in `out`; then the TLS handshake. Nothing may be left in the input: the machine saw to that.
    StartTls,
    /// Check, place, connect; then `refuse`, `relay_refusal` or `welcome`.
    Authenticate(Credentials),
    /// Look up what SCRAM needs of this user; then `give_keys`, or `refuse`.
    Keys(KeysWanted),
    /// The client said LOGOUT and was answered: close.
    Logout,
}

/// What a backend machine wants done.
#[derive(Debug)]
pub enum BackendWish {
    /// The backend agreed: do the TLS handshake, then `secured`.
    StartTls,
    /// Logged in. What is left in the input belongs to the client.
    LoggedIn(Handover),
    /// The backend refused the login.
    Refused(BackendRefusal),
    /// A visit is over: all that was to be seen went well, and the goodbye has been said.
    Seen,
}

/// What a conversation with a backend is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// A user logs in, and stays.
    Session,
    /// A probe: all that comes before a login, and goodbye where the login would be.
    Look,
    /// A probe that logs in, and says goodbye.
    Try,
}

/// What the backend said at login, for the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Untagged lines that belong to the client, whole, each with its CRLF (an untagged CAPABILITY, for one).
    pub untagged: Vec<u8>,
    /// The text of the OK, with its response code, without tag, `OK` and CRLF.
    pub text: Vec<u8>,
}

/// A login refused by the backend, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendRefusal {
    /// With its response code, without tag, status word and CRLF: what the frontend of the same protocol puts behind its own.
    pub text: Vec<u8>,
    /// It is temporary (RFC 5530 UNAVAILABLE, INUSE, LIMIT, SERVERBUG): not the fault of the password.
    pub temporary: bool,
    /// It names the server where the user belongs.
    pub referral: Option<Referral>,
}

/// Where a backend sends a user whom it does not serve (RFC 2221 for IMAP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referral {
    /// The name there, if it is another.
    pub user: Option<String>,
    /// Name or address of the server, without brackets.
    pub host: String,
    /// Its port, if one was named.
    pub port: Option<u16>,
}

/// Why the proxy closes a connection that is not logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Silent for too long, or too slow to log in.
    TimedOut,
    /// As many connections as allowed.
    Overloaded,
    /// Going down.
    ShuttingDown,
}

/// Bounds of the dialogue before login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one line, its end included. Also the capacity of the input buffer.
    pub line: usize,
    /// Bytes of one literal.
    pub literal: usize,
    /// Commands before login; one more ends the conversation.
    pub commands: u32,
    /// Faulty commands; the last of them is answered and ends the conversation.
    pub errors: u32,
    /// Refused logins, for whatever reason; the last of them is answered and ends the conversation.
    pub failures: u32,
}

/// What a frontend needs to know about its listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendSettings {
    /// The bytes run inside TLS already (here, or in front of us as a trusted PROXY header says).
    pub secured: bool,
    /// STARTTLS is offered while not secured.
    pub starttls: bool,
    /// A password is accepted while not secured.
    pub plaintext_login: bool,
    /// Text of the greeting.
    pub banner: String,
    /// The name of this proxy, for protocols that greet with one.
    pub host: String,
    /// What backends offer, as [`Backend::offers`] has it: what all that were seen lately have in common. Empty if none was.
    pub offers: Arc<[String]>,
    /// What SASL has to go by.
    pub sasl: Arc<sasl::Terms>,
    /// Bounds.
    pub bounds: Bounds,
}

impl FrontendSettings {
    /// Nobody on the way can read along, or the operator does not mind.
    fn takes_passwords(&self) -> bool {
        self.secured || self.plaintext_login
    }

    /// The protocol's own commands for passwords may be said: they are as good as PLAIN.
    fn takes_commands(&self) -> bool {
        let by_password = [Mechanism::Plain, Mechanism::Login];
        self.takes_passwords() && by_password.into_iter().any(|mechanism| self.sasl.offers(mechanism))
    }

    /// STARTTLS may be said.
    fn offers_tls(&self) -> bool {
        self.starttls && !self.secured
    }
}

/// What is shown to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Means {
    /// A password.
    #[default]
    Password,
    /// A bearer token, by OAUTHBEARER or XOAUTH2.
    Token,
    /// Our own certificate, by EXTERNAL; the server knows it as one that may act for every user.
    Certificate,
}

/// How to log in at a backend.
#[derive(Debug, Default)]
pub struct BackendLogin {
    /// Whose mailbox.
    pub user: String,
    /// The master user whose password this is, if not the user's own.
    pub master: Option<String>,
    /// The password of `master`, or of `user`; or the user's token; empty if neither is shown.
    pub password: Secret,
    /// Which of them it is.
    pub means: Means,
    /// The client, announced to a backend that trusts us; `None`: do not announce.
    pub announce: Option<Announcement>,
    /// STARTTLS must be done before anything else.
    pub starttls: bool,
    /// Our own steps may be sent without waiting, where the greeting shows that the backend copes.
    pub pipelining: bool,
    /// The name of this proxy, for protocols that greet with one. Empty: none worth telling.
    pub host: String,
    /// The backend takes our word for who logs in (submission, by XCLIENT LOGIN): no password is sent, so somebody else must
    /// have checked it.
    pub noauth: bool,
    /// What the passdb wants the backend to know of the user, names and values (submission, by XCLIENT FORWARD).
    pub forward: Vec<(String, String)>,
    /// The client has asked for UTF-8 (POP3): without it, it is not let in.
    pub utf8: bool,
}

/// The true client, as ID, XCLIENT or a PROXY header tell the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The client's address.
    pub client: std::net::SocketAddr,
    /// The address that it connected to.
    pub local: std::net::SocketAddr,
    /// The session's name in our log.
    pub session: crate::model::SessionId,
    /// How many more proxies may follow; 0 would be refused by the next.
    pub ttl: u32,
    /// The client's connection is encrypted.
    pub secured: bool,
    /// The name it asked for (SNI).
    pub server_name: Option<String>,
    /// The name that it gave in EHLO.
    pub helo: Option<String>,
    /// What the client said in its own ID.
    pub client_id: Vec<(String, Option<String>)>,
}
