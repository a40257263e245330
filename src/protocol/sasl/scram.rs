//! SCRAM (RFC 5802, 7677), with and without a channel binding: the client shows that it knows the password, and learns that
//! the server's side does, too; nobody sees it.
//!
//! ```text
//! client: n,,n=user,r=nonce            then the session looks up the user's keys
//! server: r=nonce+more,s=salt,i=rounds
//! client: c=binding,r=nonce+more,p=proof
//! server: v=signature
//! ```

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::{Awaited, Exchange, Fault, Step, Terms, user_name};
use crate::model::{Credentials, Mechanism, Proof, ScramHash, ScramKeys};

/// Whose keys an exchange needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysWanted {
    /// Whose password it is.
    pub user: String,
    /// As whom the client wants to act, if given and different.
    pub authzid: Option<String>,
    /// By which mechanism.
    pub mechanism: Mechanism,
    /// Of which kind.
    pub hash: ScramHash,
}

/// What the session gives an exchange to go on with.
#[derive(Debug)]
pub struct ScramGift {
    /// The user's keys; made up, but always the same, for somebody whom nobody knows.
    pub keys: ScramKeys,
    /// Printable characters without a comma that nobody can guess.
    pub nonce: String,
}

/// The client has begun; the user's keys are awaited.
#[derive(Debug)]
pub struct Waiting {
    begun: Begun,
}

/// What the client's first message says.
#[derive(Debug)]
struct Begun {
    mechanism: Mechanism,
    user: String,
    authzid: Option<String>,
    /// The message without its GS2 header.
    bare: Vec<u8>,
    nonce: Vec<u8>,
    /// What the last message must repeat: the GS2 header, and the channel binding itself.
    binding: Vec<u8>,
}

#[derive(Debug)]
struct First {
    mechanism: Mechanism,
    terms: Terms,
}

#[derive(Debug)]
struct Last {
    begun: Begun,
    keys: ScramKeys,
    /// Our first message.
    first: String,
    /// Both nonces.
    nonce: Vec<u8>,
}

pub(super) fn begin(mechanism: Mechanism, terms: &Terms) -> Step {
    Step::challenge("", First { mechanism, terms: terms.clone() })
}

impl Awaited for First {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault> {
        let Self { mechanism, terms } = *self;
        let hash = mechanism.scram().ok_or(Fault::UnknownMechanism)?;
        let begun = Begun::parse(mechanism, message, &terms)?;
        let wanted = KeysWanted { user: begun.user.clone(), authzid: begun.authzid.clone(), mechanism, hash };
        Ok(Step::Keys(wanted, Waiting { begun }))
    }
}

impl Begun {
    fn parse(mechanism: Mechanism, message: &[u8], terms: &Terms) -> Result<Self, Fault> {
        let mut parts = message.splitn(3, |byte| *byte == b',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Fault::Malformed);
        };
        let data = binding(mechanism, flag, terms)?;
        let header = &message[..flag.len() + authzid.len() + 2]; // with both commas
        let authzid = match authzid {
            b"" => None,
            given => Some(prepared(given.strip_prefix(b"a=").ok_or(Fault::Malformed)?)?),
        };
        let mut fields = bare.split(|byte| *byte == b',');
        // An `m=` in front would be an extension that must be understood.
        let user = prepared(field(fields.next(), b"n=")?)?;
        let nonce = field(fields.next(), b"r=")?;
        if !is_nonce(nonce) {
            return Err(Fault::Malformed);
        }
        Ok(Self {
            mechanism,
            authzid: authzid.filter(|name| *name != user),
            user,
            bare: bare.to_vec(),
            nonce: nonce.to_vec(),
            binding: [header, data].concat(),
        })
    }
}

/// The channel binding that the client means. A client that could bind, but was told that we cannot, has been lied to by
/// somebody on the way (RFC 5802 section 6).
fn binding<'a>(mechanism: Mechanism, flag: &[u8], terms: &'a Terms) -> Result<&'a [u8], Fault> {
    let plus = matches!(mechanism, Mechanism::ScramSha1Plus | Mechanism::ScramSha256Plus);
    let offered = terms.offers(Mechanism::ScramSha1Plus) || terms.offers(Mechanism::ScramSha256Plus);
    match flag {
        b"n" if !plus => Ok(b""),
        b"y" if !plus && !offered => Ok(b""),
        b"y" if !plus => Err(Fault::Binding),
        [b'p', b'=', name @ ..] if plus => terms.bindings.named(name).ok_or(Fault::Binding),
        _ => Err(Fault::Malformed),
    }
}

impl Waiting {
    /// Shows the client what its proof must be made of.
    pub fn go_on(self, ScramGift { keys, nonce }: ScramGift) -> (Vec<u8>, Exchange) {
        let nonce = [&self.begun.nonce, nonce.as_bytes()].concat();
        let shown = String::from_utf8_lossy(&nonce); // a nonce is ASCII
        let first = format!("r={shown},s={},i={}", STANDARD.encode(&keys.salt), keys.rounds);
        let text = first.clone().into_bytes();
        (text, Exchange(Box::new(Last { begun: self.begun, keys, first, nonce })))
    }
}

impl Awaited for Last {
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Step, Fault> {
        let Self { begun, keys, first, nonce } = *self;
        // The proof is the last of the fields, whatever else there is.
        let place = memchr::memmem::rfind(message, b",p=").ok_or(Fault::Malformed)?;
        let (without_proof, proof) = (&message[..place], &message[place + b",p=".len()..]);
        let mut fields = without_proof.split(|byte| *byte == b',');
        let given = STANDARD.decode(field(fields.next(), b"c=")?).map_err(|_| Fault::Malformed)?;
        if field(fields.next(), b"r=")? != nonce {
            return Err(Fault::Malformed);
        }
        let proof = STANDARD.decode(proof).map_err(|_| Fault::Malformed)?;
        if given != begun.binding {
            return Err(Fault::Binding);
        }
        let text = [&begun.bare, b",".as_slice(), first.as_bytes(), b",", without_proof].concat();
        let proven = is_right(&keys, &text, &proof);
        let Begun { user, authzid, mechanism, .. } = begun;
        let given = |proof| Credentials { user, authzid, proof, mechanism };
        if !proven {
            return Ok(Step::Ask(given(Proof::Failed(keys))));
        }
        let signature = STANDARD.encode(keys.hash.hmac(&keys.server_key, &text));
        Ok(Step::Shown(format!("v={signature}").into_bytes(), given(Proof::Proven)))
    }
}

/// RFC 5802 section 3: the proof is the client key, hidden by what only who has the stored key can compute.
fn is_right(keys: &ScramKeys, text: &[u8], proof: &[u8]) -> bool {
    let signature = keys.hash.hmac(&keys.stored_key, text);
    if proof.len() != signature.as_ref().len() {
        return false;
    }
    let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    keys.hash.digest(&client_key).as_ref().ct_eq(&keys.stored_key).into()
}

fn field<'a>(given: Option<&'a [u8]>, name: &[u8]) -> Result<&'a [u8], Fault> {
    given.and_then(|text| text.strip_prefix(name)).ok_or(Fault::Malformed)
}

fn is_nonce(nonce: &[u8]) -> bool {
    !nonce.is_empty() && nonce.iter().all(u8::is_ascii_graphic)
}

/// RFC 5802 section 5.1: a comma is `=2C`, an equals sign `=3D`, and no other `=` is allowed.
pub(super) fn saslname(text: &[u8]) -> Result<String, Fault> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = match (first, behind) {
            (b'=', [b'2', b'C', behind @ ..]) => (b',', behind),
            (b'=', [b'3', b'D', behind @ ..]) => (b'=', behind),
            (b'=', _) => return Err(Fault::Malformed),
            (other, behind) => (*other, behind),
        };
        name.push(byte);
        rest = behind;
    }
    String::from_utf8(name).map_err(|_| Fault::BadName)
}

/// A name of SCRAM, by SASLprep (RFC 4013).
fn prepared(text: &[u8]) -> Result<String, Fault> {
    let name = saslname(text)?;
    let name: Cow<'_, str> = stringprep::saslprep(&name).map_err(|_| Fault::BadName)?;
    user_name(name.as_bytes())
}
