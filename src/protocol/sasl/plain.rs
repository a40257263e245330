//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL password` in one message.

use zeroize::Zeroizing;

use super::{Awaited, Fault, Step, user_name};
use crate::model::{Credentials, Mechanism, Proof, Secret};

#[derive(Debug)]
struct Plain;

pub(super) fn begin() -> Step {
    Step::challenge("", Plain)
}

impl Awaited for Plain {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault> {
        parse(message).map(Step::Ask)
    }
}

/// What a client sent. Exactly two NULs: a third would be a password with a NUL, which RFC 4616 forbids.
fn parse(message: &[u8]) -> Result<Credentials, Fault> {
    let mut parts = message.split(|byte| *byte == 0);
    let (Some(authzid), Some(authcid), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::Malformed);
    };
    if password.is_empty() {
        return Err(Fault::Malformed);
    }
    let user = user_name(authcid)?;
    let authzid = if authzid.is_empty() { None } else { Some(user_name(authzid)?) };
    Ok(Credentials {
        authzid: authzid.filter(|name| *name != user),
        user,
        proof: Proof::Password(Secret::new(password.to_vec())),
        mechanism: Mechanism::Plain,
    })
}

/// What we send to log `user` in, before base64: with the user's own password, or with that of a `master` who may act
/// as anybody. `None` if a NUL or an empty name or password makes it impossible to say.
pub fn response(user: &str, master: Option<&str>, password: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let (authzid, authcid) = master.map_or(("", user), |master| (user, master));
    let password = password.expose();
    let parts = [authzid.as_bytes(), authcid.as_bytes(), password];
    if user.is_empty() || authcid.is_empty() || password.is_empty() || parts.iter().any(|part| part.contains(&0)) {
        return None;
    }
    let mut message = Zeroizing::new(Vec::with_capacity(authzid.len() + authcid.len() + password.len() + 2));
    message.extend_from_slice(authzid.as_bytes());
    message.push(0);
    message.extend_from_slice(authcid.as_bytes());
    message.push(0);
    message.extend_from_slice(password);
    Some(message)
}
