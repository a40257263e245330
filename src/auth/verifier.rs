//! Compares the password that was given with the one that is stored, and takes as long for users who are not there.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::extra::Extra;
use super::hasher::Hasher;
use super::keys::MadeUp;
use super::scheme::{Cost, NotComputed, Stored};
use super::{Denial, Grant, Question, Verdict};
use crate::model::{Proof, ScramHash, ScramKeys, Secret, User};

/// A user as a source has stored it.
pub struct StoredUser {
    /// Canonical name.
    pub(super) name: String,
    pub(super) stored: Stored,
    pub(super) cost: Cost,
    pub(super) extra: Extra,
}

/// A stored password that nobody's is compared with but for the time.
pub struct Decoy(pub(super) Stored, pub(super) Cost);

/// The verifier of one source.
pub(super) struct Verifier {
    hasher: Hasher,
    seen: Mutex<Seen>,
}

/// The most common cost among those seen (the majority vote of Boyer and Moore): of a source whose users are not all known
/// beforehand.
#[derive(Default)]
struct Seen {
    decoy: Option<Decoy>,
    votes: u32,
}

impl StoredUser {
    /// No password can be right.
    fn is_locked(&self) -> bool {
        matches!(self.stored, Stored::Locked | Stored::Empty) && !self.extra.nopassword
    }
}

impl fmt::Debug for StoredUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Who has shown otherwise who it is need not be compared with anything, but must be one who may log in: a user without a
/// password may, for there are those who have a certificate instead; a locked one may not.
fn admit(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Stored(user) if matches!(user.stored, Stored::Locked) => Verdict::Denied(Denial::Password),
        Verdict::Stored(user) => let_in(user.name, user.extra, false),
        other => other,
    }
}

/// Only who knows the password learns that it would not help.
fn let_in(name: String, extra: Extra, unproven: bool) -> Verdict {
    if let Some(denial) = extra.forbids() {
        return Verdict::Denied(denial);
    }
    Verdict::Granted(Box::new(Grant { user: User::new(name), unproven, master: None, fields: extra.fields }))
}

impl Verifier {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self { hasher, seen: Mutex::default() }
    }

    /// Turns a stored password into a verdict; others stay as they are, but unknown users take as long. `decoy` is asked
    /// if one is needed.
    pub(super) async fn judge(
        &self,
        verdict: Verdict,
        question: &Question<'_>,
        decoy: impl Fn() -> Option<Decoy>,
    ) -> Verdict {
        let password = match &question.credentials.proof {
            Proof::Password(password) => password,
            Proof::Proven => return admit(verdict),
            // No token is a stored password; another source may know better.
            Proof::Token(_) if matches!(verdict, Verdict::Stored(_)) => return Verdict::Unknown,
            Proof::Token(_) => return verdict,
            Proof::Failed(_) => return Verdict::Denied(Denial::Password),
        };
        match verdict {
            Verdict::Stored(user) if user.is_locked() => {
                self.pretend(decoy(), password).await;
                Verdict::Denied(Denial::Password)
            }
            Verdict::Stored(user) => self.compare(*user, password).await,
            Verdict::Unknown => {
                self.pretend(decoy(), password).await;
                Verdict::Unknown
            }
            other => other,
        }
    }

    /// What a SCRAM exchange with this user needs; `None` if the password is stored in another way.
    pub(super) async fn scram_keys(
        &self,
        user: StoredUser,
        hash: ScramHash,
        made_up: &MadeUp,
    ) -> Result<Option<ScramKeys>, NotComputed> {
        Ok(match user.stored {
            _ if user.extra.nopassword => None,
            Stored::Scram(keys) => Some(keys).filter(|keys| keys.hash == hash),
            Stored::Clear(password) => {
                let salt = (made_up.salt(&user.name, hash), made_up.rounds);
                Some(self.hasher.derive(hash, salt, password).await?)
            }
            _ => None,
        })
    }

    async fn compare(&self, user: StoredUser, password: &Secret) -> Verdict {
        let StoredUser { name, stored, cost, extra } = user;
        let unproven = extra.nopassword;
        self.note(&stored, cost);
        match self.hasher.verify((stored, cost), password).await {
            Ok(right) if right || unproven => {}
            Ok(_) => return Verdict::Denied(Denial::Password),
            Err(error) => return Verdict::Faulty(error.to_string()),
        }
        let_in(name, extra, unproven)
    }

    /// A user without a password takes as long as one with a wrong password.
    async fn pretend(&self, decoy: Option<Decoy>, password: &Secret) {
        if let Some(Decoy(stored, cost)) = decoy.or_else(|| self.seen()) {
            let _ = self.hasher.verify((stored, cost), password).await;
        }
    }

    fn note(&self, stored: &Stored, cost: Cost) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let same = seen.decoy.as_ref().is_some_and(|Decoy(_, usual)| *usual == cost);
        if same {
            seen.votes = seen.votes.saturating_add(1);
        } else if seen.votes > 0 {
            seen.votes -= 1;
        } else {
            *seen = Seen { decoy: stored.slow_copy().map(|copy| Decoy(copy, cost)), votes: 1 };
        }
    }

    fn seen(&self) -> Option<Decoy> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Decoy(stored, cost) = seen.decoy.as_ref()?;
        stored.slow_copy().map(|copy| Decoy(copy, *cost))
    }
}
