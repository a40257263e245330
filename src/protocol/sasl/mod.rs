//! SASL (RFC 4422): what a client says to prove who it is, in any protocol. A file per mechanism.
//!
//! A protocol gives the mechanism's name, and the initial response (RFC 4959) if one came, to [`open`]; what the client
//! answers to a challenge goes to [`Exchange::answer`]. Both come to a [`Step`]. Protocols differ only in how they frame a
//! challenge ([`encode`]) and what they take out of their frames ([`initial`], [`response`]). Towards a backend:
//! [`outgoing`].

pub mod bearer;
mod external;
mod login;
pub mod outgoing;
pub mod plain;
pub mod scram;
mod terms;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::model::{Credentials, Mechanism};
pub use scram::{KeysWanted, ScramGift};
pub use terms::{Bindings, Terms};

/// A message of a client, or what was base64 in it. It may hold a password.
pub type Message = Zeroizing<Vec<u8>>;

/// Why an exchange comes to nothing before anybody has judged it. None of these says anything about the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A mechanism that is not offered here.
    #[error("not a mechanism that is offered")]
    UnknownMechanism,
    /// Not base64 with its padding (RFC 4648 section 4), or bits left over.
    #[error("not base64")]
    NotBase64,
    /// Not the message that the mechanism asks for.
    #[error("not the message of this mechanism")]
    Malformed,
    /// A user name that is empty, not UTF-8, or has control characters.
    #[error("not a user name")]
    BadName,
    /// The client means another connection than this: somebody is between, or has taken a mechanism off the list.
    #[error("not the channel binding of this connection")]
    Binding,
    /// The client thought better of it.
    #[error("cancelled by the client")]
    Cancelled,
}

/// What an exchange has come to.
#[derive(Debug)]
pub enum Step {
    /// Show the client this, before base64; what comes back is for the exchange.
    Challenge(Vec<u8>, Exchange),
    /// Only the session can say how it goes on: it can ask for the user's keys, with which the exchange goes on.
    Keys(KeysWanted, scram::Waiting),
    /// The session must judge.
    Ask(Credentials),
    /// The same; and if it lets the client in, the client must be shown this, before base64.
    Shown(Vec<u8>, Credentials),
}

/// A mechanism that a client has chosen, and what it said with that.
#[derive(Debug)]
pub struct Opening {
    mechanism: Mechanism,
    initial: Option<Result<Message, Fault>>,
}

/// A conversation under way, in which the client is to speak.
#[derive(Debug)]
pub struct Exchange(Box<dyn Awaited>);

/// What a mechanism waits for.
trait Awaited: Debug + Send {
    /// Takes the client's message, after base64.
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault>;
}

/// Opens the mechanism of that name, in upper or lower case.
pub fn open(mechanism: &[u8], initial: Option<Result<Message, Fault>>) -> Result<Opening, Fault> {
    let mechanism = Mechanism::of_name(mechanism).ok_or(Fault::UnknownMechanism)?;
    Ok(Opening { mechanism, initial })
}

impl Opening {
    /// Starts it, if it is offered. An initial response answers the first challenge before it was made.
    pub fn begin(self, terms: &Terms) -> Result<Step, Fault> {
        if !terms.offers(self.mechanism) {
            return Err(Fault::UnknownMechanism);
        }
        let first = match self.mechanism {
            Mechanism::Plain => plain::begin(),
            Mechanism::Login => login::begin(),
            Mechanism::External => external::begin(terms)?,
            Mechanism::OAuthBearer | Mechanism::XOAuth2 => bearer::begin(self.mechanism),
            Mechanism::Command => return Err(Fault::UnknownMechanism),
            scram => scram::begin(scram, terms),
        };
        match (first, self.initial) {
            (Step::Challenge(_, exchange), Some(message)) => exchange.answer(&message?),
            (step, _) => Ok(step),
        }
    }
}

/// The client must be shown something before it is let in, and says nothing to it.
#[derive(Debug)]
struct Told(Credentials);

impl Awaited for Told {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault> {
        if message.is_empty() { Ok(Step::Ask(self.0)) } else { Err(Fault::Malformed) }
    }
}

impl Step {
    /// For protocols that can show nothing together with a success: it is one more challenge (RFC 4422 section 3.6).
    #[must_use]
    pub fn in_rounds(self) -> Self {
        match self {
            Self::Shown(text, credentials) => Self::Challenge(text, Exchange(Box::new(Told(credentials)))),
            other => other,
        }
    }

    fn challenge(text: &str, awaited: impl Awaited + 'static) -> Self {
        Self::Challenge(text.as_bytes().to_vec(), Exchange(Box::new(awaited)))
    }
}

impl Exchange {
    /// Takes the client's answer, after base64.
    pub fn answer(self, message: &[u8]) -> Result<Step, Fault> {
        self.0.answer(message)
    }
}

/// The initial response in a command's line (RFC 4959 section 3, 5034 and 4954 section 4): `=` is one of no bytes.
pub fn initial(text: &[u8]) -> Result<Message, Fault> {
    if text == b"=" { Ok(Message::default()) } else { decode(text) }
}

/// A line, without its end, that answers a challenge: `*` is no answer.
pub fn response(text: &[u8]) -> Result<Message, Fault> {
    if text == b"*" { Err(Fault::Cancelled) } else { decode(text) }
}

/// Undoes base64, strictly: a sloppy decoder would give one password several spellings.
pub fn decode(text: &[u8]) -> Result<Message, Fault> {
    // Room for all of it, so that nothing is left behind by growing.
    let mut message = Zeroizing::new(Vec::with_capacity(text.len()));
    STANDARD.decode_vec(text, &mut message).map_err(|_| Fault::NotBase64)?;
    Ok(message)
}

/// Base64 of a challenge or a response.
pub fn encode(message: &[u8]) -> Zeroizing<String> {
    // Not `encode_string`, which works in an array on the stack and leaves it there.
    Zeroizing::new(STANDARD.encode(message))
}

/// A user name as any protocol may take it: not empty, UTF-8, and without control characters, for it goes into log
/// lines and keys.
pub fn user_name(bytes: &[u8]) -> Result<String, Fault> {
    let name = std::str::from_utf8(bytes).map_err(|_| Fault::BadName)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Fault::BadName);
    }
    Ok(name.to_owned())
}
