//! Schemes that derive keys from the password: PBKDF2 as Dovecot writes it, and what a SCRAM server stores (RFC 5802).

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::{Cost, Stored, decode_hex};
use crate::auth::fault::Fault;
use crate::model::{ScramHash as Hash, ScramKeys};

/// A million rounds take about half a second.
const MAX_ROUNDS: u32 = 1_000_000;

/// `$1$salt$rounds$hex`: PBKDF2 with HMAC-SHA-1.
#[derive(Clone)]
pub(in crate::auth) struct Pbkdf2 {
    rounds: NonZeroU32,
    salt: Box<str>,
    derived: Box<[u8]>,
}

impl Pbkdf2 {
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        Hash::Sha1.pbkdf2(self.rounds, self.salt.as_bytes(), password).ct_eq(&self.derived).into()
    }
}

/// `rounds,salt,stored key,server key`, all but the rounds in Base64.
pub(super) fn scram(hash: Hash, value: &str) -> Result<(Stored, Cost), Fault> {
    let mut fields = value.split(',');
    let rounds = rounds(fields.next().unwrap_or_default())?;
    let mut bytes = || STANDARD.decode(fields.next().unwrap_or_default()).map_err(|_| Fault::BadHash);
    let (salt, stored_key, server_key) = (bytes()?, bytes()?, bytes()?);
    let whole = stored_key.len() == hash.length() && server_key.len() == hash.length();
    if salt.is_empty() || !whole || fields.next().is_some() {
        return Err(Fault::BadHash);
    }
    let (salt, stored_key, server_key) = (salt.into(), stored_key.into(), server_key.into());
    let keys = ScramKeys { hash, rounds, salt, stored_key, server_key };
    Ok((Stored::Scram(keys), Cost::Derived { hash, rounds: rounds.get() }))
}

/// `$1$salt$rounds$hex`.
pub(super) fn pbkdf2_sha1(value: &str) -> Result<(Stored, Cost), Fault> {
    let fields: Vec<&str> = value.splitn(6, '$').collect();
    let ["", "1", salt, rounds_text, hex] = fields[..] else { return Err(Fault::BadHash) };
    let rounds = rounds(rounds_text)?;
    let derived = decode_hex(hex.as_bytes()).filter(|derived| derived.len() == Hash::Sha1.length());
    let derived = derived.ok_or(Fault::BadHash)?.into();
    let stored = Stored::Pbkdf2(Pbkdf2 { rounds, salt: salt.into(), derived });
    Ok((stored, Cost::Derived { hash: Hash::Sha1, rounds: rounds.get() }))
}

fn rounds(text: &str) -> Result<NonZeroU32, Fault> {
    let rounds: NonZeroU32 = text.parse().map_err(|_| Fault::BadHash)?;
    if rounds.get() > MAX_ROUNDS {
        return Err(Fault::TooCostly("more than 1,000,000 rounds"));
    }
    Ok(rounds)
}
