//! LOGIN (draft-murchison-sasl-login): obsolete, but some clients know nothing else. Name and password in two messages.

use super::{Exchange, Fault, Progress, user_name};
use crate::model::{Credentials, Mechanism, Secret};

#[derive(Debug)]
pub(super) enum Awaited {
    User,
    Password { user: String },
}

impl Awaited {
    /// Some clients look for these very words, colon and all.
    pub(super) fn prompt(&self) -> &'static str {
        match self {
            Self::User => "Username:",
            Self::Password { .. } => "Password:",
        }
    }

    pub(super) fn answer(self, message: &[u8]) -> Result<Progress, Fault> {
        match self {
            Self::User => {
                let next = Self::Password { user: user_name(message)? };
                Ok(Progress::Continue(Exchange(super::Awaited::Login(next))))
            }
            // A NUL could not be passed on to a backend that is asked with PLAIN.
            Self::Password { .. } if message.is_empty() || message.contains(&0) => Err(Fault::Malformed),
            Self::Password { user } => Ok(Progress::Done(Credentials {
                user,
                authzid: None,
                password: Secret::new(message.to_vec()),
                mechanism: Mechanism::Login,
            })),
        }
    }
}
