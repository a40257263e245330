//! How we log in at a mail server, in any protocol: with a password, or with the client's token by a mechanism for tokens.

use zeroize::Zeroizing;

use super::{bearer, plain};
use crate::model::Mechanism;
use crate::protocol::{BackendLogin, Means, Violation};

/// What a server offers besides PLAIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct Offered {
    oauthbearer: bool,
    xoauth2: bool,
}

impl Offered {
    /// Takes the name of a mechanism.
    pub(in crate::protocol) fn add(&mut self, name: &str) {
        self.oauthbearer |= name.eq_ignore_ascii_case(Mechanism::OAuthBearer.name());
        self.xoauth2 |= name.eq_ignore_ascii_case(Mechanism::XOAuth2.name());
    }
}

impl BackendLogin {
    /// By which mechanism, of those that the server offers; `None` for PLAIN where there is no PLAIN.
    ///
    /// # Errors
    /// The client's token needs one of the mechanisms for tokens. It is never sent as if it were a password.
    pub(in crate::protocol) fn mechanism(&self, plain: bool, offered: Offered) -> Result<Option<Mechanism>, Violation> {
        match self.means {
            Means::Password => Ok(plain.then_some(Mechanism::Plain)),
            Means::Token if offered.oauthbearer => Ok(Some(Mechanism::OAuthBearer)),
            Means::Token if offered.xoauth2 => Ok(Some(Mechanism::XOAuth2)),
            Means::Token => Err(Violation::Missing("OAUTHBEARER or XOAUTH2")),
        }
    }

    /// Our one message, before base64; `None` if it cannot be said. A token has no master.
    pub(in crate::protocol) fn message(&self, mechanism: Mechanism) -> Option<Zeroizing<Vec<u8>>> {
        match mechanism {
            Mechanism::Plain => plain::response(&self.user, self.master.as_deref(), &self.password),
            _ if self.master.is_some() => None,
            by_token => bearer::response(by_token, &self.user, &self.password),
        }
    }

    /// What is said to a prompt that we have nothing for. Behind a token that is the refusal in JSON, which wants an answer
    /// before the refusal proper (RFC 7628 section 3.2.3, and Google's word).
    pub(in crate::protocol) fn nothing_more(&self, mechanism: Mechanism) -> &'static str {
        match mechanism {
            Mechanism::OAuthBearer => "AQ==",
            Mechanism::XOAuth2 => "",
            _ => "*",
        }
    }
}
