//! SASL (RFC 4422): what a client says to prove who it is, in any protocol. A file per mechanism.
//!
//! A protocol gives the mechanism's name, and the initial response (RFC 4959) if one came, to [`start`]; what the client
//! answers to a challenge goes to [`Exchange::answer`]. Both come to a [`Step`]. Protocols differ only in how they frame a
//! challenge ([`encode`]) and what they take out of their frames ([`initial`], [`response`]). Towards a backend:
//! [`plain::response`].

mod login;
pub mod plain;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::model::Credentials;

/// The mechanisms that clients may choose, strongest first, as capabilities list them.
pub const OFFERED: [&str; 2] = [plain::NAME, login::NAME];

/// A message of a client, or what was base64 in it. It may hold a password.
pub type Message = Zeroizing<Vec<u8>>;

/// Why an exchange comes to nothing before anybody has judged it. None of these says anything about the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A mechanism that is not among the [`OFFERED`].
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
    /// The client thought better of it.
    #[error("cancelled by the client")]
    Cancelled,
}

/// What an exchange has come to.
#[derive(Debug)]
pub enum Step {
    /// Show the client this, before base64; what comes back is for the exchange.
    Challenge(Vec<u8>, Exchange),
    /// Only the session can say how it goes on: it knows the users. The conversation waits for its verdict, whatever it is:
    /// today it lets in or refuses; a mechanism for which it is one more challenge keeps its [`Exchange`] here.
    Ask(Credentials),
}

/// A conversation under way, in which the client is to speak.
#[derive(Debug)]
pub struct Exchange(Box<dyn Awaited>);

/// What a mechanism waits for.
trait Awaited: Debug + Send {
    /// Takes the client's message, after base64.
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault>;
}

/// Starts the mechanism of that name, in upper or lower case. An initial response answers the first challenge before it
/// was made.
pub fn start(mechanism: &[u8], initial: Option<Result<Message, Fault>>) -> Result<Step, Fault> {
    let begin = match mechanism {
        name if name.eq_ignore_ascii_case(plain::NAME.as_bytes()) => plain::begin,
        name if name.eq_ignore_ascii_case(login::NAME.as_bytes()) => login::begin,
        _ => return Err(Fault::UnknownMechanism),
    };
    match (begin(), initial) {
        (Step::Challenge(_, exchange), Some(message)) => exchange.answer(&message?),
        (step, _) => Ok(step),
    }
}

impl Step {
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
