//! No passdb: whoever has a name is let through, and the backend decides.

use async_trait::async_trait;

use super::canonical;
use crate::auth::{Denial, Fields, Grant, Lookup, Question, Source, Verdict};
use crate::model::{Mechanism, Proof, User};

/// Grants everybody, unproven.
#[derive(Debug, Default)]
pub struct BackendSource;

#[async_trait]
impl Source for BackendSource {
    fn name(&self) -> String {
        "backend".to_owned()
    }

    fn leaves_it_to_the_backend(&self) -> bool {
        true
    }

    fn takes_tokens(&self, _: Mechanism) -> bool {
        true
    }

    /// What a backend could not check, because it never sees it, is left to sources that know the user.
    async fn ask(&self, question: &Question<'_>) -> Verdict {
        match &question.credentials.proof {
            Proof::Password(_) | Proof::Token(_) => {
                grant(&question.credentials.user).unwrap_or(Verdict::Denied(Denial::Password))
            }
            Proof::Proven | Proof::Failed(_) => Verdict::Unknown,
        }
    }

    async fn find(&self, lookup: &Lookup<'_>) -> Verdict {
        grant(lookup.user).unwrap_or(Verdict::Unknown)
    }
}

/// `None` if nobody can have that name.
fn grant(name: &str) -> Option<Verdict> {
    // A backend that cuts blanks would take " ann" and "ann" for the same user, whom we would give two homes.
    if name.is_empty() || name.trim() != name {
        return None;
    }
    let user = User::new(canonical(name));
    Some(Verdict::Granted(Box::new(Grant { user, unproven: true, master: None, fields: Fields::default() })))
}
