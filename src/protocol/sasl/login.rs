//! LOGIN (draft-murchison-sasl-login): obsolete, but some clients know nothing else. Name and password in two messages.

use super::{Awaited, Fault, Step, user_name};
use crate::model::{Credentials, Mechanism, Proof, Secret};

#[derive(Debug)]
struct User;

#[derive(Debug)]
struct Password {
    user: String,
}

/// Some clients look for these very words, colon and all.
pub(super) fn begin() -> Step {
    Step::challenge("Username:", User)
}

impl Awaited for User {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault> {
        Ok(Step::challenge("Password:", Password { user: user_name(message)? }))
    }
}

impl Awaited for Password {
    /// A NUL could not be passed on to a backend that is asked with PLAIN.
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault> {
        if message.is_empty() || message.contains(&0) {
            return Err(Fault::Malformed);
        }
        Ok(Step::Ask(Credentials {
            user: self.user,
            authzid: None,
            proof: Proof::Password(Secret::new(message.to_vec())),
            mechanism: Mechanism::Login,
        }))
    }
}
