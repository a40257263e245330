//! What a client gave to prove who it is, and who it turned out to be.

use super::Secret;

/// The canonical login name, as the passdb returned it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User(Box<str>);

impl User {
    /// Takes the name as it is.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a client logged in. Names are those of the IANA SASL registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// The protocol's own command (IMAP LOGIN).
    Command,
    /// RFC 4616.
    Plain,
    /// The obsolete but common LOGIN.
    Login,
}

impl Mechanism {
    /// As in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// A name and a password that a client gave, before anybody has looked at them.
#[derive(Debug)]
pub struct Credentials {
    /// Whose password it is (authentication identity).
    pub user: String,
    /// As whom the client wants to act (authorization identity), if given and different.
    pub authzid: Option<String>,
    /// The password.
    pub password: Secret,
    /// How it came.
    pub mechanism: Mechanism,
}

impl Credentials {
    /// The token, if there is one to verify.
    pub fn token(&self) -> Option<&Secret> {
        None
    }

    /// What could be used by whoever learns it.
    pub fn secret(&self) -> Option<&Secret> {
        Some(&self.password)
    }
}
