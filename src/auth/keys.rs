//! Keys for SCRAM: made of passwords that are stored in clear, and made up for users whom nobody knows.
//!
//! What a client is shown before it has proven anything, salt and rounds, must not tell whether there is such a user. So
//! both kinds come from the name and the fleet's secret alone: they are the same at every proxy and after every restart. They
//! change when a secret that was replaced is taken out of the file, while salts that are stored do not: whoever has asked for
//! the same name before and after that can tell them apart. Nothing that lasts longer is known to all proxies.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::cache::seal::{Purpose, Seals};
use crate::model::{ScramHash, ScramKeys};

/// Bytes of a salt, as Dovecot stores it.
const SALT: usize = 16;

/// What is shown of users who have no salt of their own.
pub(super) struct MadeUp {
    seals: Arc<Seals>,
    /// Those of a source whose users have none.
    pub(super) rounds: NonZeroU32,
}

impl MadeUp {
    pub(super) fn new(seals: Arc<Seals>, rounds: NonZeroU32) -> Self {
        Self { seals, rounds }
    }

    /// The salt of a user whose password is not stored with one.
    pub(super) fn salt(&self, name: &str, hash: ScramHash) -> Vec<u8> {
        self.bytes(b"salt", name, hash)[..SALT].to_vec()
    }

    /// Keys that no password fits, with as many rounds as most have.
    pub(super) fn nobodys(&self, name: &str, hash: ScramHash, rounds: NonZeroU32) -> ScramKeys {
        let key = |what| self.bytes(what, name, hash)[..hash.length()].into();
        ScramKeys {
            hash,
            rounds,
            salt: self.salt(name, hash).into(),
            stored_key: key(b"stored key"),
            server_key: key(b"server key"),
        }
    }

    /// As many as the longest hash has.
    fn bytes(&self, what: &[u8], name: &str, hash: ScramHash) -> [u8; 32] {
        let hash: &[u8] = match hash {
            ScramHash::Sha1 => b"SHA-1",
            ScramHash::Sha256 => b"SHA-256",
        };
        self.seals.lasting_mark(Purpose::Scram, &[what, hash, name.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cache::seal::MIN_SECRET;
    use crate::model::Secret;

    fn made_up(first: u8, second: Option<u8>) -> MadeUp {
        let secret = |byte| Secret::new(vec![byte; MIN_SECRET]);
        let seals = Seals::new(&secret(first), second.map(secret).as_ref()).unwrap();
        MadeUp::new(Arc::new(seals), NonZeroU32::new(4096).unwrap())
    }

    #[test]
    fn what_is_made_up_is_the_same_at_every_proxy_and_another_for_every_name_hash_and_fleet() {
        let shown = |made: &MadeUp, name, hash| {
            let keys = made.nobodys(name, hash, made.rounds);
            assert_eq!((keys.stored_key.len(), keys.salt.len()), (hash.length(), SALT));
            (keys.salt.clone(), keys.stored_key.clone())
        };
        let ours = made_up(1, None);
        let ann = shown(&ours, "ann", ScramHash::Sha256);
        assert_eq!(ann, shown(&made_up(1, None), "ann", ScramHash::Sha256));
        assert_eq!(ann, shown(&made_up(2, Some(1)), "ann", ScramHash::Sha256), "while the secret is replaced");
        for other in [
            shown(&ours, "bob", ScramHash::Sha256),
            shown(&ours, "ann", ScramHash::Sha1),
            shown(&made_up(2, None), "ann", ScramHash::Sha256),
        ] {
            assert!(ann.0 != other.0 && ann.1 != other.1);
        }
    }
}
