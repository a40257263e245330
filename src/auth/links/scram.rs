//! What SCRAM needs of users: asked of the sources, kept by the fleet, and made up for whoever has nothing of the kind.

use std::time::{Duration, Instant};

use super::{Answer, Kind, Links, Memory, Origin, Question};
use crate::auth::keys::MadeUp;
use crate::model::{Refusal, ScramHash, ScramKeys};

/// What a database of the same site takes at most.
const LONGEST_PACE: Duration = Duration::from_millis(200);

impl Links {
    /// What a SCRAM exchange with that user needs; keys that no password fits, and always the same, for somebody who has none.
    /// `anew`: what the sources say now.
    ///
    /// # Errors
    /// A source could not answer: nothing is known about anybody then.
    pub(in crate::auth) async fn scram_keys(
        &self,
        question: &Question<'_>,
        hash: ScramHash,
        made_up: &MadeUp,
        anew: bool,
    ) -> Result<ScramKeys, Refusal> {
        let mut memory = Memory::of(question, Kind::Keys(hash));
        memory.about.anew = anew;
        let (begun, mut is_asked, mut keys) = (Instant::now(), false, None);
        for link in &self.links {
            let ask = link.scram_keys(question, hash, made_up);
            let (answer, origin) = self.answer(link, &mut memory, ask).await;
            is_asked |= matches!(origin, Origin::Source | Origin::Shared);
            match answer {
                Answer::Unknown => continue,
                Answer::Keys(found) => keys = Some(found),
                Answer::Granted(_) | Answer::Denied(_) => {}
                Answer::Unavailable => return Err(Refusal::PassdbUnavailable),
            }
            break;
        }
        self.keep_pace(is_asked, begun).await;
        Ok(keys.unwrap_or_else(|| self.nobodys_keys(&question.credentials.user, hash, made_up)))
    }

    /// Keys that no password fits, with as many rounds as most users of the first source have.
    pub(in crate::auth) fn nobodys_keys(&self, name: &str, hash: ScramHash, made_up: &MadeUp) -> ScramKeys {
        let usual = self.links.first().and_then(|link| link.usual_rounds(hash));
        made_up.nobodys(name, hash, usual.unwrap_or(made_up.rounds))
    }

    /// Who is remembered is answered no sooner than who is not: else it would show who has been there lately. A source that
    /// takes very long must not slow down those who do not need it.
    async fn keep_pace(&self, is_asked: bool, begun: Instant) {
        if is_asked {
            self.pace.note(begun.elapsed());
        } else {
            let _ = tokio::time::timeout(LONGEST_PACE, self.pace.keep()).await; // or enough of it
        }
    }
}
