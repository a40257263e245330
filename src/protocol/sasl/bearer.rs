//! Bearer tokens of OAuth 2.0: OAUTHBEARER (RFC 7628) and XOAUTH2, its forerunner at Google.
//!
//! A refusal takes a round more than elsewhere: the client is shown why, in JSON, and answers with nothing; only then comes
//! the protocol's own refusal.

use zeroize::Zeroizing;

use super::scram::saslname;
use super::{Awaited, Fault, Step, user_name};
use crate::model::{Credentials, Mechanism, Proof, Secret};

/// What stands between the fields of a message.
const SEPARATOR: u8 = 1;
const SCHEME: &[u8] = b"Bearer ";

#[derive(Debug)]
struct Bearer(Mechanism);

pub(super) fn begin(mechanism: Mechanism) -> Step {
    Step::challenge("", Bearer(mechanism))
}

impl Awaited for Bearer {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault> {
        let (user, fields) = match self.0 {
            Mechanism::OAuthBearer => after_gs2(message)?,
            _ => after_user(message)?,
        };
        let token = token(fields)?;
        Ok(Step::Ask(Credentials {
            user,
            authzid: None,
            proof: Proof::Token(Secret::new(token.to_vec())),
            mechanism: self.0,
        }))
    }
}

/// `n,a=user,^A`: whose mailbox. Who says none (`n,,^A`) wants that of whom the token names (RFC 7628 section 3.1). A channel
/// binding would need a mechanism with PLUS.
fn after_gs2(message: &[u8]) -> Result<(String, &[u8]), Fault> {
    let (header, fields) = split(message, SEPARATOR).ok_or(Fault::Malformed)?;
    let mut parts = header.split(|byte| *byte == b',');
    let (Some(b"n" | b"y"), Some(name), Some(b""), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::Malformed);
    };
    if name.is_empty() {
        return Ok((String::new(), fields));
    }
    let name = name.strip_prefix(b"a=").ok_or(Fault::BadName)?;
    Ok((user_name(saslname(name)?.as_bytes())?, fields))
}

/// `user=user^A`.
fn after_user(message: &[u8]) -> Result<(String, &[u8]), Fault> {
    let (name, fields) = split(message, SEPARATOR).ok_or(Fault::Malformed)?;
    let name = name.strip_prefix(b"user=").ok_or(Fault::Malformed)?;
    Ok((user_name(name)?, fields))
}

/// `key=value^A ... ^A`, of which only `auth` matters. RFC 6750 section 2.1: a token is of printable ASCII, without blanks.
fn token(fields: &[u8]) -> Result<&[u8], Fault> {
    let fields = fields.strip_suffix(&[SEPARATOR, SEPARATOR]).ok_or(Fault::Malformed)?;
    let mut given = fields.split(|byte| *byte == SEPARATOR).filter_map(|field| field.strip_prefix(b"auth="));
    let (Some(value), None) = (given.next(), given.next()) else { return Err(Fault::Malformed) };
    let (scheme, token) = value.split_at_checked(SCHEME.len()).ok_or(Fault::Malformed)?;
    let sound = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    if sound && scheme.eq_ignore_ascii_case(SCHEME) { Ok(token) } else { Err(Fault::Malformed) }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(at, bytes)?;
    Some((&bytes[..place], &bytes[place + 1..]))
}

/// What the client is shown of a refusal, where its mechanism has such a thing.
pub(in crate::protocol) fn refusal(mechanism: Mechanism) -> Option<&'static str> {
    match mechanism {
        Mechanism::OAuthBearer => Some(r#"{"status":"invalid_token"}"#),
        Mechanism::XOAuth2 => Some(r#"{"status":"401","schemes":"bearer"}"#),
        _ => None,
    }
}

/// What we send to pass a token on, before base64; `None` if it cannot be said.
pub fn response(mechanism: Mechanism, user: &str, token: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let token = token.expose();
    if user.is_empty()
        || user.chars().any(char::is_control)
        || token.is_empty()
        || !token.iter().all(u8::is_ascii_graphic)
    {
        return None;
    }
    let head = match mechanism {
        Mechanism::OAuthBearer => format!("n,a={},", user.replace('=', "=3D").replace(',', "=2C")),
        Mechanism::XOAuth2 => format!("user={user}"),
        _ => return None,
    };
    let parts: [&[u8]; 5] = [head.as_bytes(), b"\x01auth=", SCHEME, token, b"\x01\x01"];
    Some(Zeroizing::new(parts.concat()))
}
