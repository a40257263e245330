//! Stored passwords: `{SCHEME}text` as Dovecot writes it, checked for form and cost when read, and verified.

mod crypt;
mod derived;
mod md5_crypt;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::fault::Fault;
use crate::model::{ScramHash as Hash, ScramKeys, Secret};
use crypt::crypt;
use derived::Pbkdf2;

/// SHA-crypt's work grows with the password's length, too.
const MAX_PASSWORD: usize = 1024;

/// Schemes of Dovecot that are broken or need more than a name and a password. Named so that the log may name them; any
/// other text between braces may be a piece of a password.
const REFUSED: [&str; 11] = [
    "DES-CRYPT",
    "MD5",
    "SMD5",
    "LDAP-MD5",
    "PLAIN-MD5",
    "PLAIN-MD4",
    "PLAIN-TRUNC",
    "DIGEST-MD5",
    "CRAM-MD5",
    "HMAC-MD5",
    "OTP",
];

/// How stored passwords of a source are read.
#[derive(Clone, Debug)]
pub struct Schemes {
    /// Scheme of those without one.
    default: Box<str>,
    /// MD5-CRYPT is taken, too.
    weak: bool,
}

impl Schemes {
    /// `default` is for text without a {SCHEME}; `weak` is `auth.weak_schemes`.
    pub fn new(default: &str, weak: bool) -> Self {
        Self { default: default.into(), weak }
    }
}

/// A password as it is stored.
pub(super) enum Stored {
    /// Nothing at all, which matches nothing.
    Empty,
    /// `!` and `*` as in shadow files: nothing matches.
    Locked,
    Clear(Secret),
    Digest {
        algorithm: &'static digest::Algorithm,
        digest: Box<[u8]>,
        salt: Box<[u8]>,
    },
    /// `$5$` and `$6$`.
    ShaCrypt(Box<str>),
    Bcrypt(Box<str>),
    Argon2(Box<str>),
    /// `$1$`: salt and hash.
    Md5Crypt(Box<str>, Box<str>),
    Pbkdf2(Pbkdf2),
    Scram(ScramKeys),
}

/// How dear a verification is. Two users of equal cost cannot be told apart by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cost {
    /// Microseconds.
    Cheap,
    ShaCrypt {
        long: bool,
        rounds: u32,
    },
    Bcrypt(u32),
    Argon2 {
        memory: u32,
        passes: u32,
        lanes: u32,
    },
    Derived {
        hash: Hash,
        rounds: u32,
    },
    /// A third of a millisecond.
    Md5Crypt,
}

/// The hash could not be computed; says nothing about the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be checked: out of memory or threads")]
pub(super) struct NotComputed;

impl Stored {
    /// Reads a password as it is stored, with its {SCHEME} or without.
    pub(super) fn parse(text: &str, schemes: &Schemes) -> Result<(Self, Cost), Fault> {
        let (scheme, value) = split_scheme(text).unwrap_or((&schemes.default, text));
        let (name, encoding) = match scheme.split_once('.') {
            Some((name, encoding)) => (name, Some(Encoding::parse(encoding)?)),
            None => (scheme, None),
        };
        if value.is_empty() {
            return Ok((Self::Empty, Cost::Cheap));
        }
        let parsed = match name.to_ascii_uppercase().as_str() {
            "PLAIN" | "CLEARTEXT" | "CLEAR" => clear(value, encoding),
            "CRYPT" | "SHA512-CRYPT" | "SHA256-CRYPT" | "BLF-CRYPT" | "MD5-CRYPT" | "ARGON2ID" | "ARGON2I"
            | "ARGON2" => crypt(&decoded(value, encoding)?),
            "PBKDF2" => derived::pbkdf2_sha1(&decoded(value, encoding)?),
            "SCRAM-SHA-1" => derived::scram(Hash::Sha1, &decoded(value, encoding)?),
            "SCRAM-SHA-256" => derived::scram(Hash::Sha256, &decoded(value, encoding)?),
            "SHA" | "SHA1" => plain_digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, value, encoding),
            "SHA256" => plain_digest(&digest::SHA256, value, encoding),
            "SHA512" => plain_digest(&digest::SHA512, value, encoding),
            "SSHA" => salted_digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, value, encoding),
            "SSHA256" => salted_digest(&digest::SHA256, value, encoding),
            "SSHA512" => salted_digest(&digest::SHA512, value, encoding),
            other => Err(match REFUSED.iter().find(|refused| **refused == other) {
                Some(refused) => Fault::UnsupportedScheme(refused),
                None => Fault::UnknownScheme,
            }),
        }?;
        if parsed.1 == Cost::Md5Crypt && !schemes.weak {
            return Err(Fault::WeakScheme("MD5-CRYPT"));
        }
        Ok(parsed)
    }

    /// What a SCRAM exchange with this user needs, if that is what is stored.
    #[cfg(test)]
    fn scram_keys(&self) -> Option<&ScramKeys> {
        match self {
            Self::Scram(keys) => Some(keys),
            _ => None,
        }
    }

    /// A SCRAM exchange with that hash can do with it; also where nobody may log in at all.
    pub(super) fn gives_scram_keys(&self, hash: Hash) -> bool {
        match self {
            Self::Scram(keys) => keys.hash == hash,
            Self::Clear(_) | Self::Locked => true,
            _ => false,
        }
    }

    /// A copy for later, of a hash that takes its time; of any other there is no need.
    pub(super) fn slow_copy(&self) -> Option<Self> {
        match self {
            Self::ShaCrypt(hash) => Some(Self::ShaCrypt(hash.clone())),
            Self::Bcrypt(hash) => Some(Self::Bcrypt(hash.clone())),
            Self::Argon2(hash) => Some(Self::Argon2(hash.clone())),
            Self::Md5Crypt(salt, hash) => Some(Self::Md5Crypt(salt.clone(), hash.clone())),
            Self::Pbkdf2(derived) => Some(Self::Pbkdf2(derived.clone())),
            Self::Scram(keys) => Some(Self::Scram(keys.clone())),
            Self::Empty | Self::Locked | Self::Clear(_) | Self::Digest { .. } => None,
        }
    }

    /// Compares in constant time; computes for milliseconds up to seconds unless the cost is [`Cost::Cheap`].
    pub(super) fn verify(&self, password: &[u8]) -> Result<bool, NotComputed> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        match self {
            Self::Empty | Self::Locked => Ok(false),
            Self::Clear(secret) => Ok(secret.expose().ct_eq(password).into()),
            Self::Digest { algorithm, digest, salt } => {
                let mut context = digest::Context::new(algorithm);
                context.update(password);
                context.update(salt);
                Ok(context.finish().as_ref().ct_eq(digest).into())
            }
            Self::ShaCrypt(hash) => {
                use sha_crypt::PasswordVerifier;
                Ok(sha_crypt::ShaCrypt::default().verify_password(password, &**hash).is_ok())
            }
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).map_err(|_| NotComputed),
            Self::Argon2(hash) => verify_argon2(hash, password),
            Self::Md5Crypt(salt, hash) => {
                Ok(md5_crypt::hash(password, salt.as_bytes()).as_slice().ct_eq(hash.as_bytes()).into())
            }
            Self::Pbkdf2(derived) => Ok(derived.verify(password)),
            Self::Scram(keys) => Ok(keys.verify(password)),
        }
    }
}

fn verify_argon2(hash: &str, password: &[u8]) -> Result<bool, NotComputed> {
    use argon2::password_hash::Error;
    use argon2::{Argon2, PasswordVerifier};
    match Argon2::default().verify_password(password, hash) {
        Ok(()) => Ok(true),
        Err(Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(NotComputed), // its form was checked when it was read: what is left is memory
    }
}

/// How bytes are written as text.
#[derive(Clone, Copy)]
enum Encoding {
    Base64,
    Hex,
}

impl Encoding {
    fn parse(name: &str) -> Result<Self, Fault> {
        match name.to_ascii_uppercase().as_str() {
            "B64" | "BASE64" => Ok(Self::Base64),
            "HEX" => Ok(Self::Hex),
            _ => Err(Fault::UnknownScheme),
        }
    }

    fn decode(self, text: &str) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Base64 => STANDARD.decode(text).map_err(|_| Fault::BadHash),
            Self::Hex => decode_hex(text.as_bytes()).ok_or(Fault::BadHash),
        }
    }
}

fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|value| value as u8); // at most 15
    let (pairs, rest) = text.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

/// `{SCHEME}value`.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('{')?.split_once('}')
}

/// A text that may have been written as Base64 or hex.
fn decoded(value: &str, encoding: Option<Encoding>) -> Result<Cow<'_, str>, Fault> {
    match encoding {
        Some(encoding) => String::from_utf8(encoding.decode(value)?).map(Cow::Owned).map_err(|_| Fault::BadHash),
        None => Ok(Cow::Borrowed(value)),
    }
}

fn clear(value: &str, encoding: Option<Encoding>) -> Result<(Stored, Cost), Fault> {
    let bytes = match encoding {
        Some(encoding) => encoding.decode(value)?,
        None => value.as_bytes().to_vec(),
    };
    Ok((Stored::Clear(Secret::new(bytes)), Cost::Cheap))
}

/// Base64 unless said otherwise, but hex where the length can only mean that: as Dovecot guesses.
fn plain_digest(
    algorithm: &'static digest::Algorithm,
    value: &str,
    encoding: Option<Encoding>,
) -> Result<(Stored, Cost), Fault> {
    let guess = if value.len() == 2 * algorithm.output_len() { Encoding::Hex } else { Encoding::Base64 };
    let digest = encoding.unwrap_or(guess).decode(value)?;
    if digest.len() != algorithm.output_len() {
        return Err(Fault::BadHash);
    }
    Ok((Stored::Digest { algorithm, digest: digest.into(), salt: Box::default() }, Cost::Cheap))
}

/// The salt follows the digest.
fn salted_digest(
    algorithm: &'static digest::Algorithm,
    value: &str,
    encoding: Option<Encoding>,
) -> Result<(Stored, Cost), Fault> {
    let both = encoding.unwrap_or(Encoding::Base64).decode(value)?;
    match both.split_at_checked(algorithm.output_len()) {
        Some((digest, salt)) if !salt.is_empty() => {
            Ok((Stored::Digest { algorithm, digest: digest.into(), salt: salt.into() }, Cost::Cheap))
        }
        _ => Err(Fault::BadHash),
    }
}
