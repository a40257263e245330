//! What a client gave to prove who it is, and who it turned out to be.

use super::{ScramHash, ScramKeys, Secret};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// RFC 7677 with a channel binding.
    ScramSha256Plus,
    /// RFC 7677.
    ScramSha256,
    /// RFC 5802 with a channel binding.
    ScramSha1Plus,
    /// RFC 5802.
    ScramSha1,
    /// RFC 4422 appendix A: by the certificate of the client's TLS.
    External,
    /// RFC 7628.
    OAuthBearer,
    /// Google's forerunner of OAUTHBEARER.
    XOAuth2,
    /// RFC 4616.
    Plain,
    /// The obsolete but common LOGIN.
    Login,
    /// The protocol's own command (IMAP LOGIN).
    Command,
}

impl Mechanism {
    /// Those of SASL, as capabilities list them: the strongest first.
    pub const SASL: [Self; 9] = [
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::ScramSha1Plus,
        Self::ScramSha1,
        Self::External,
        Self::OAuthBearer,
        Self::XOAuth2,
        Self::Plain,
        Self::Login,
    ];

    /// As in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
            Self::External => "EXTERNAL",
        }
    }

    /// The SASL mechanism of that name, in upper or lower case.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        Self::SASL.into_iter().find(|mechanism| mechanism.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The hash of a SCRAM mechanism.
    pub fn scram(self) -> Option<ScramHash> {
        match self {
            Self::ScramSha1 | Self::ScramSha1Plus => Some(ScramHash::Sha1),
            Self::ScramSha256 | Self::ScramSha256Plus => Some(ScramHash::Sha256),
            _ => None,
        }
    }

    /// It brings a token.
    pub fn is_by_token(self) -> bool {
        matches!(self, Self::OAuthBearer | Self::XOAuth2)
    }

    /// What the client says could be used by whoever reads along.
    pub fn shows_a_secret(self) -> bool {
        matches!(self, Self::Plain | Self::Login | Self::Command) || self.is_by_token()
    }
}

/// What shows that a client is who it says. Nobody takes anything but what they can check themselves, except
/// [`Proof::Proven`], which only an exchange makes that has seen to it.
#[derive(Debug)]
pub enum Proof {
    /// The password itself, to be compared.
    Password(Secret),
    /// A bearer token of OAuth 2.0, to be verified.
    Token(Secret),
    /// The exchange itself has shown it: the client knows the password (SCRAM), or has the key of a certificate (EXTERNAL).
    Proven,
    /// The exchange has shown that it does not fit these keys. Whether they are still the user's is for the passdb to say.
    Failed(ScramKeys),
}

impl Proof {
    /// A second copy.
    pub fn duplicate(&self) -> Self {
        match self {
            Self::Password(password) => Self::Password(password.duplicate()),
            Self::Token(token) => Self::Token(token.duplicate()),
            Self::Proven => Self::Proven,
            Self::Failed(keys) => Self::Failed(keys.clone()),
        }
    }
}

/// A name that a client gave, and what shows that it is the client's, before anybody has looked at them.
#[derive(Debug)]
pub struct Credentials {
    /// Whose proof it is (authentication identity).
    pub user: String,
    /// As whom the client wants to act (authorization identity), if given and different.
    pub authzid: Option<String>,
    /// What shows it.
    pub proof: Proof,
    /// How it came.
    pub mechanism: Mechanism,
}

impl Credentials {
    /// The password, if there is one to compare.
    pub fn password(&self) -> Option<&Secret> {
        match &self.proof {
            Proof::Password(password) => Some(password),
            _ => None,
        }
    }

    /// The token, if there is one to verify.
    pub fn token(&self) -> Option<&Secret> {
        match &self.proof {
            Proof::Token(token) => Some(token),
            _ => None,
        }
    }
    /// What could be used by whoever learns it: password or token.
    pub fn secret(&self) -> Option<&Secret> {
        self.password().or_else(|| self.token())
    }
}
