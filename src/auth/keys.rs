//! Keys for SCRAM: made of passwords that are stored in clear, and made up for users whom nobody knows.
//!
//! What a client is shown before it has proven anything, salt and rounds, must not tell whether there is such a user. So
//! both kinds come from the name alone, by a key of this process.

use std::num::NonZeroU32;
use std::sync::OnceLock;

use aws_lc_rs::{hmac, rand};

use crate::model::{ScramHash, ScramKeys};

/// RFC 7677 section 4; also what Dovecot stores by default.
pub(super) const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
/// Bytes of a salt, as Dovecot stores it.
const SALT: usize = 16;

/// Bytes that only this process can compute, the same whenever it is asked.
fn made_up(what: &str, name: &str, hash: ScramHash) -> hmac::Tag {
    static KEY: OnceLock<hmac::Key> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut secret = [0; 32];
        // It fails on no system that we run on; if it did, salts could be told apart, and nobody could log in by them.
        let _ = rand::fill(&mut secret);
        hmac::Key::new(hmac::HMAC_SHA256, &secret)
    });
    hmac::sign(key, format!("{what} {hash:?} {name}").as_bytes())
}

/// The salt of a user whose password is not stored with one.
pub(super) fn salt(name: &str, hash: ScramHash) -> Vec<u8> {
    made_up("salt", name, hash).as_ref()[..SALT].to_vec()
}

/// Keys that no password fits.
pub(super) fn nobodys(name: &str, hash: ScramHash, rounds: NonZeroU32) -> ScramKeys {
    let key = |what| made_up(what, name, hash).as_ref()[..hash.length()].into();
    ScramKeys {
        hash,
        rounds,
        salt: salt(name, hash).into(),
        stored_key: key("stored key"),
        server_key: key("server key"),
    }
}
