//! Who tries to log in, from where, and under which names that is noted.

use std::net::IpAddr;

use super::board::{Part, millis};
use super::{MINUTE, PenaltyRules};
use crate::auth::cache::seal::{Purpose, Seals};
use crate::auth::cache::shard_of;
use crate::model::Proof;
use crate::store::notes::{Name, Note, Noted, Trace};

/// One try to log in.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Whose password it is: name as given.
    pub user: &'a str,
    /// The address that counts; `None` if nobody can tell, as behind a webmail that announces none.
    pub client: Option<IpAddr>,
    /// What is to show it.
    pub proof: &'a Proof,
}

/// What has to be asked about an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Questions {
    /// About the user; in the shard where everything about that user's logins is.
    pub(super) user: Part,
    /// About the address, if there is one.
    pub(super) address: Option<Part>,
    pub(super) user_name: Name,
    pub(super) address_name: Option<Name>,
    /// Where it is noted at which addresses the user is known, and the trace of this one there; newest secret first.
    pub(super) known: Vec<(Name, Trace)>,
    pub(super) user_mark: [u8; 8],
    /// All zeros if nobody can tell the address.
    pub(super) address_mark: [u8; 8],
}

impl Questions {
    pub(super) fn about(attempt: &Attempt<'_>, seals: &Seals, rules: &PenaltyRules, shards: u16) -> Self {
        let user = whose(attempt, seals);
        let client = attempt.client.map(|address| network(address, rules.ipv6_prefix));
        let user_name = seals.name(Purpose::User, &[user.as_bytes()]);
        // Tokens come and go: one that stands for itself is known nowhere, or each would be noted for as long as a user.
        let known = client.as_ref().filter(|_| !attempt.user.is_empty() && !rules.known.is_zero());
        let known = known.map_or_else(Vec::new, |client| known_at(seals, &user, client));
        let mut of_user = vec![Note::Traces(user_name)];
        of_user.extend(known.iter().map(|(name, _)| Note::Traces(*name)));
        let address_name = client.as_ref().map(|client| seals.name(Purpose::Address, &[client.as_bytes()]));
        let address = client.as_ref().zip(address_name).map(|(client, name)| {
            let mut notes = vec![Note::Traces(name)];
            if rules.logins_per_minute > 0 {
                let name = seals.name(Purpose::Address, &[client.as_bytes(), b"rate"]);
                notes.push(Note::Tally { name, ttl: millis(MINUTE) });
            }
            (shard_of(client, shards), notes)
        });
        Self {
            user: (shard_of(&user, shards), of_user),
            address,
            user_name,
            address_name,
            known,
            user_mark: mark(seals, Purpose::User, &[user.as_bytes()]),
            address_mark: client.map(|client| mark(seals, Purpose::Address, &[client.as_bytes()])).unwrap_or_default(),
        }
    }

    /// What a failure leaves: at the user, and at the address. The same password or token leaves the same. Of an exchange that
    /// failed nobody knows which password it was, so each is a failure of its own.
    pub(super) fn traces(&self, attempt: &Attempt<'_>, seals: &Seals) -> (Trace, Trace) {
        let chance;
        let proof: &[u8] = match attempt.proof {
            Proof::Password(secret) | Proof::Token(secret) => secret.expose(),
            Proof::Proven => &[],
            Proof::Failed(_) => {
                chance = random();
                &chance
            }
        };
        let proof = mark(seals, Purpose::Proof, &[&self.user_mark, proof]);
        (trace(self.address_mark, proof), trace(self.user_mark, proof))
    }
}

/// The user's name; a token that tells it only to who verifies it stands for itself.
fn whose(attempt: &Attempt<'_>, seals: &Seals) -> String {
    match attempt.proof {
        Proof::Token(token) if attempt.user.is_empty() => {
            let mark = mark(seals, Purpose::User, &[b"token", token.expose()]);
            format!("*{:016x}", u64::from_be_bytes(mark))
        }
        _ => attempt.user.to_ascii_lowercase(),
    }
}

fn known_at(seals: &Seals, user: &str, client: &str) -> Vec<(Name, Trace)> {
    let [of_user, here] = [b"known", client.as_bytes()].map(|part: &[u8]| [user.as_bytes(), part]);
    let traces = seals.names(Purpose::User, &here).map(|Name(here)| Trace(here));
    seals.names(Purpose::User, &of_user).zip(traces).collect()
}

fn mark(seals: &Seals, purpose: Purpose, about: &[&[u8]]) -> [u8; 8] {
    let mut mark = [0; 8];
    mark.copy_from_slice(&seals.mark(purpose, about)[..8]);
    mark
}

/// Without randomness such failures count once, for the time being.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

fn trace(first: [u8; 8], second: [u8; 8]) -> Trace {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first);
    bytes[8..].copy_from_slice(&second);
    Trace(bytes)
}

/// What one client has: an IPv4 address, or that much of an IPv6 address.
pub(super) fn network(address: IpAddr, ipv6_prefix: u8) -> String {
    let length = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => ipv6_prefix.min(128),
    };
    // The length fits the family.
    ipnet::IpNet::new(address, length).map_or_else(|_| address.to_string(), |network| network.trunc().to_string())
}

/// The traces that answer number `at` has.
pub(super) fn traces(answers: &[Noted], at: usize) -> &[Trace] {
    match answers.get(at) {
        Some(Noted::Traces(traces)) => traces,
        _ => &[],
    }
}

/// What was counted.
pub(super) fn count(answer: &Noted) -> Option<u32> {
    match answer {
        Noted::Counted(count) => Some(*count),
        _ => None,
    }
}
