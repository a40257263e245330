//! EXTERNAL (RFC 4422 appendix A): the client's certificate says who it is; the message says at most as whom it acts.

use super::{Awaited, Fault, Step, Terms, user_name};
use crate::model::{Credentials, Mechanism, Proof};

#[derive(Debug)]
struct External {
    user: String,
}

pub(super) fn begin(terms: &Terms) -> Result<Step, Fault> {
    let name = terms.certificate.as_deref().ok_or(Fault::UnknownMechanism)?;
    Ok(Step::challenge("", External { user: user_name(name.as_bytes())? }))
}

impl Awaited for External {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault> {
        let authzid = if message.is_empty() { None } else { Some(user_name(message)?) };
        Ok(Step::Ask(Credentials {
            authzid: authzid.filter(|name| *name != self.user),
            user: self.user,
            proof: Proof::Proven,
            mechanism: Mechanism::External,
        }))
    }
}
