//! What SCRAM (RFC 5802) computes, on whichever side: of the passdb, which stores keys, or of an exchange, which uses them.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The hash below SCRAM, and below PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// RFC 5802.
    Sha1,
    /// RFC 7677.
    Sha256,
}

/// What a server must have to let a user in by SCRAM. Nobody can log in elsewhere with the stored key; still, whoever has
/// it can try passwords, so it is never shown.
#[derive(Clone)]
pub struct ScramKeys {
    /// Of which all is made.
    pub hash: ScramHash,
    /// Iterations of PBKDF2.
    pub rounds: NonZeroU32,
    /// Not empty.
    pub salt: Box<[u8]>,
    /// What the client's proof is held against.
    pub stored_key: Box<[u8]>,
    /// What shows the client that the server knows the password, too.
    pub server_key: Box<[u8]>,
}

impl ScramHash {
    /// Bytes of a digest.
    pub fn length(self) -> usize {
        match self {
            Self::Sha1 => digest::SHA1_OUTPUT_LEN,
            Self::Sha256 => digest::SHA256_OUTPUT_LEN,
        }
    }

    /// Takes milliseconds to half a second, by the rounds.
    pub fn pbkdf2(self, rounds: NonZeroU32, salt: &[u8], password: &[u8]) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        };
        let mut derived = Zeroizing::new(vec![0; self.length()]);
        pbkdf2::derive(algorithm, rounds, salt, password, &mut derived);
        derived
    }

    /// The keyed digest of `text`.
    pub fn hmac(self, key: &[u8], text: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text)
    }

    /// The digest of `text`.
    pub fn digest(self, text: &[u8]) -> digest::Digest {
        match self {
            Self::Sha1 => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text),
            Self::Sha256 => digest::digest(&digest::SHA256, text),
        }
    }
}

impl ScramKeys {
    /// Those of a password, which must be normalized already. Takes as long as [`ScramHash::pbkdf2`].
    pub fn derive(hash: ScramHash, rounds: NonZeroU32, salt: &[u8], password: &[u8]) -> Self {
        let salted = hash.pbkdf2(rounds, salt, password);
        let client_key = hash.hmac(&salted, b"Client Key");
        Self {
            hash,
            rounds,
            salt: salt.into(),
            stored_key: hash.digest(client_key.as_ref()).as_ref().into(),
            server_key: hash.hmac(&salted, b"Server Key").as_ref().into(),
        }
    }

    /// They are the same, and shown the same.
    pub fn are(&self, other: &Self) -> bool {
        let Self { hash, rounds, salt, stored_key, server_key: _ } = self;
        let shown = (*hash, *rounds, salt) == (other.hash, other.rounds, &other.salt);
        bool::from(stored_key.ct_eq(&other.stored_key)) & shown
    }

    /// The password is the one that these are made of. Takes as long as [`ScramHash::pbkdf2`].
    pub fn verify(&self, password: &[u8]) -> bool {
        let made = Self::derive(self.hash, self.rounds, &self.salt, password);
        let stored: bool = made.stored_key.ct_eq(&self.stored_key).into();
        let server: bool = made.server_key.ct_eq(&self.server_key).into();
        stored & server
    }
}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramKeys").field("hash", &self.hash).finish_non_exhaustive()
    }
}
