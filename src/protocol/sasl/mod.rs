//! SASL (RFC 4422): what a client says to prove who it is, in any protocol. A file per mechanism.
//!
//! A protocol names a mechanism to [`Exchange::begin`], shows the client [`Exchange::prompt`] (in base64, [`encode`]) and
//! gives what comes back ([`decode`]) to [`Exchange::answer`], until that yields [`Credentials`]. An initial response
//! (RFC 4959) is the first answer without a prompt. Towards a backend: [`plain::response`].

mod login;
pub mod plain;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::model::Credentials;

/// The mechanisms that clients may choose, strongest first, as capabilities list them.
pub const OFFERED: [&str; 2] = ["PLAIN", "LOGIN"];

/// Why an answer of the client cannot be used. None of them says anything about the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not base64 with its padding (RFC 4648 section 4), or bits left over.
    #[error("not base64")]
    NotBase64,
    /// Not the message that the mechanism asks for.
    #[error("not the message of this mechanism")]
    Malformed,
    /// A user name that is empty, not UTF-8, or has control characters.
    #[error("not a user name")]
    BadName,
}

/// A conversation under way: what the mechanism waits for.
#[derive(Debug)]
pub struct Exchange(Awaited);

#[derive(Debug)]
enum Awaited {
    Plain,
    Login(login::Awaited),
}

/// What came of an answer.
#[derive(Debug)]
pub enum Progress {
    /// The client must answer the next prompt.
    Continue(Exchange),
    /// All is said.
    Done(Credentials),
}

impl Exchange {
    /// Starts the mechanism of that name, in upper or lower case; `None` if it is not offered.
    pub fn begin(mechanism: &[u8]) -> Option<Self> {
        match mechanism {
            name if name.eq_ignore_ascii_case(b"PLAIN") => Some(Self(Awaited::Plain)),
            name if name.eq_ignore_ascii_case(b"LOGIN") => Some(Self(Awaited::Login(login::Awaited::User))),
            _ => None,
        }
    }

    /// What the client is asked, before base64.
    pub fn prompt(&self) -> &'static str {
        match &self.0 {
            Awaited::Plain => "",
            Awaited::Login(awaited) => awaited.prompt(),
        }
    }

    /// Takes the client's answer, after base64.
    pub fn answer(self, message: &[u8]) -> Result<Progress, Fault> {
        match self.0 {
            Awaited::Plain => plain::parse(message).map(Progress::Done),
            Awaited::Login(awaited) => awaited.answer(message),
        }
    }
}

/// Undoes base64, strictly: a sloppy decoder would give one password several spellings.
pub fn decode(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // Room for all of it, so that nothing is left behind by growing.
    let mut message = Zeroizing::new(Vec::with_capacity(text.len()));
    STANDARD.decode_vec(text, &mut message).map_err(|_| Fault::NotBase64)?;
    Ok(message)
}

/// Base64 of a prompt or a response.
pub fn encode(message: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(message.len().div_ceil(3) * 4));
    STANDARD.encode_string(message, &mut text);
    text
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
