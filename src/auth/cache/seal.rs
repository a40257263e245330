//! What the fleet's secret does: names under which notes are kept, and seals that nobody else can open or make.
//!
//! Three keys are derived from each secret (HKDF-SHA256, RFC 5869). A note's name is a keyed digest of what it is about, so
//! that whoever reads the store cannot tell whom it concerns, nor look somebody up. Its value is sealed with AES-256-GCM
//! under a key of that name's own, with the name as associated data: a note put under another name does not open, and
//! random nonces need not last for more than the notes of one name. Secrets may be two while one replaces the other:
//! the first seals, each opens.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::model::Secret;
use crate::store::notes::Name;

/// The least bytes of a secret: with fewer, a dump of the store could be guessed at.
pub const MIN_SECRET: usize = 32;

/// In front of every sealed note. Another form would have another.
const VERSION: u8 = 1;
const TAG: usize = 16;

/// The secrets in force, for all who use them: a reload replaces them for all at once.
pub type SharedSeals = Arc<ArcSwap<Seals>>;

/// The secrets of a fleet, ready for use.
#[derive(Debug)]
pub struct Seals {
    first: Keys,
    second: Option<Keys>,
}

struct Keys {
    name: hmac::Key,
    seal: hmac::Key,
    mark: hmac::Key,
}

/// What a keyed digest is about: no two purposes ever have the same digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The answer of a passdb about a user.
    Answer = 1,
    /// Failures and logins of an address.
    Address = 2,
    /// Failures of a user, and where the user is known.
    User = 3,
    /// Sessions of a user from one address, and connections of an address.
    Sessions = 4,
    /// A password or token.
    Proof = 5,
    /// What SCRAM shows of a user who has no keys of their own.
    Scram = 6,
}

/// No random bytes could be had, or the key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random bytes to give")]
pub struct NotSealed;

impl Seals {
    /// The secret that seals, and one that is only opened. `None` if one is shorter than [`MIN_SECRET`].
    pub fn new(first: &Secret, second: Option<&Secret>) -> Option<Self> {
        let second = match second {
            Some(second) => Some(Keys::derive(second)?),
            None => None,
        };
        Some(Self { first: Keys::derive(first)?, second })
    }

    /// Where a note about this is kept, newest secret first.
    pub fn names(&self, purpose: Purpose, about: &[&[u8]]) -> impl Iterator<Item = Name> {
        std::iter::once(&self.first).chain(&self.second).map(move |keys| keys.name_of(purpose, about))
    }

    /// Where a note about this is put.
    pub fn name(&self, purpose: Purpose, about: &[&[u8]]) -> Name {
        self.first.name_of(purpose, about)
    }

    /// A digest that says whether two things are the same, and nothing else without the secret.
    pub fn mark(&self, purpose: Purpose, about: &[&[u8]]) -> [u8; 32] {
        digest(&self.first.mark, purpose, about)
    }

    /// The same with the secret that has been in use for longest: while one secret replaces the other, proxies that have both
    /// agree with those that have only the old one.
    pub fn lasting_mark(&self, purpose: Purpose, about: &[&[u8]]) -> [u8; 32] {
        digest(&self.second.as_ref().unwrap_or(&self.first).mark, purpose, about)
    }

    /// The mark was made of this, with one of the secrets. In constant time.
    pub fn bears(&self, mark: &[u8; 32], purpose: Purpose, about: &[&[u8]]) -> bool {
        let same = |keys: &Keys| bool::from(digest(&keys.mark, purpose, about).ct_eq(mark));
        same(&self.first) | self.second.as_ref().is_some_and(same)
    }

    /// Seals a note for that name.
    pub fn seal(&self, name: &Name, body: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| NotSealed)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len() + TAG);
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(body);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (_, text) = sealed.split_at_mut(1 + NONCE_LEN);
        let key = self.first.of_name(name).ok_or(NotSealed)?;
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(name.0), text).map_err(|_| NotSealed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for that name with one of the secrets. `None` for whatever else.
    pub fn open(&self, name: &Name, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&VERSION, rest) = sealed.split_first()? else { return None };
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
        std::iter::once(&self.first).chain(&self.second).find_map(|keys| {
            let mut body = Zeroizing::new(text.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = keys.of_name(name)?.open_in_place(nonce, Aad::from(name.0), &mut body).ok()?.len();
            body.truncate(length);
            Some(body)
        })
    }
}

impl Keys {
    fn derive(secret: &Secret) -> Option<Self> {
        let secret = Some(secret.expose()).filter(|secret| secret.len() >= MIN_SECRET)?;
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"homing fleet secret").extract(secret);
        let key = |purpose: &'static [u8]| {
            let info = [purpose];
            Some(hmac::Key::from(root.expand(&info, hmac::HMAC_SHA256).ok()?))
        };
        Some(Self { name: key(b"name")?, seal: key(b"seal")?, mark: key(b"mark")? })
    }

    fn name_of(&self, purpose: Purpose, about: &[&[u8]]) -> Name {
        let digest = digest(&self.name, purpose, about);
        let mut name = [0; 16];
        name.copy_from_slice(&digest[..16]);
        Name(name)
    }

    /// The key for the notes of one name.
    fn of_name(&self, name: &Name) -> Option<LessSafeKey> {
        let key = hmac::sign(&self.seal, &name.0);
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[keys]")
    }
}

/// Each part goes in behind its length, so that no two lists of parts are digested alike.
fn digest(key: &hmac::Key, purpose: Purpose, about: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(&[purpose as u8]);
    for part in about {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.sign().as_ref());
    digest
}
