//! By which mechanisms users may log in, and what SCRAM needs for that.

use super::{Chain, Roles, is_acceptable};
use crate::auth::Question;
use crate::auth::links::Links;
use crate::auth::sources::canonical;
use crate::model::{Credentials, Mechanism, Proof, Refusal, ScramHash, ScramKeys};

impl Chain {
    /// What a SCRAM exchange with that user needs. Somebody who has no such keys, or is not there at all, gets some that no
    /// password fits, always with the same salt; also while a source cannot answer, for then some have theirs from what is
    /// remembered.
    ///
    /// # Errors
    /// There is nobody to ask.
    pub async fn scram_keys(&self, question: &Question<'_>, hash: ScramHash) -> Result<ScramKeys, Refusal> {
        match self.keys_of(question, hash, false).await {
            Err(Refusal::PassdbUnavailable) => self.nobodys_keys(question.credentials, hash),
            other => other,
        }
    }

    /// The client's proof did not fit these keys, which were shown to it. Every such proof has the sources asked once more,
    /// whoever's it is: what is remembered may be out of date, and the client has made its proof of the salt that goes with
    /// it. If they are other keys now, the next try will be held against those: the client is told to try again, rather than
    /// that its password is wrong. That tells no more than the other salt does which it will see.
    pub(super) async fn recheck(&self, question: &Question<'_>, shown: &ScramKeys) -> Refusal {
        match self.keys_of(question, shown.hash, true).await {
            Ok(now) if now.are(shown) => Refusal::BadCredentials,
            Ok(_) => Refusal::PassdbUnavailable,
            Err(refusal) => refusal,
        }
    }

    async fn keys_of(&self, question: &Question<'_>, hash: ScramHash, anew: bool) -> Result<ScramKeys, Refusal> {
        let (links, name) = self.whose_password(question.credentials);
        let cache = self.cache.as_ref().ok_or(Refusal::PassdbUnavailable)?;
        let made_up = cache.made_up(self.scram_rounds);
        if !is_acceptable(&name) {
            return Ok(links.nobodys_keys(&name, hash, &made_up));
        }
        let mechanism = question.credentials.mechanism;
        let credentials = Credentials { user: name, authzid: None, proof: Proof::Proven, mechanism };
        links.scram_keys(&Question { credentials: &credentials, ..*question }, hash, &made_up, anew).await
    }

    fn nobodys_keys(&self, credentials: &Credentials, hash: ScramHash) -> Result<ScramKeys, Refusal> {
        let (links, name) = self.whose_password(credentials);
        let cache = self.cache.as_ref().ok_or(Refusal::PassdbUnavailable)?;
        Ok(links.nobodys_keys(&name, hash, &cache.made_up(self.scram_rounds)))
    }

    /// The master's, if one logs in on a user's behalf.
    fn whose_password(&self, credentials: &Credentials) -> (&Links, String) {
        let Roles { user, master } = self.roles(credentials);
        master.map_or((&self.users, canonical(user)), |master| (&self.masters, canonical(master)))
    }

    /// By which mechanisms users may log in: those that the operator names, as far as a source knows what to do with them;
    /// else those that work with all sources and servers. `without_password`: every mail server takes users whose password
    /// is not passed on.
    pub fn mechanisms(&self, without_password: bool) -> Vec<Mechanism> {
        let named = |mechanism: &Mechanism| self.named.is_empty() || self.named.contains(mechanism);
        let works = |mechanism: &Mechanism| self.works(*mechanism, without_password);
        Mechanism::SASL.into_iter().filter(|mechanism| named(mechanism) && works(mechanism)).collect()
    }

    fn works(&self, mechanism: Mechanism, without_password: bool) -> bool {
        let mut sources = self.users.iter().map(|link| link.source());
        if let Some(hash) = mechanism.scram() {
            return match self.named.is_empty() {
                // Else somebody would choose it by itself and fail.
                true => without_password && !self.users.is_empty() && sources.all(|source| source.has_scram_keys(hash)),
                // The operator knows what is stored; and what mail servers take, or that all users have the field `pass`.
                false => sources.any(|source| source.stores_passwords()),
            };
        }
        match mechanism {
            Mechanism::Plain | Mechanism::Login => sources.any(|source| source.takes_passwords()),
            // Of a named one, the operator knows that mail servers take it.
            Mechanism::OAuthBearer | Mechanism::XOAuth2 if !self.named.is_empty() => {
                sources.any(|source| source.takes_tokens(mechanism))
            }
            Mechanism::OAuthBearer | Mechanism::XOAuth2 => {
                without_password
                    && sources.any(|source| source.takes_tokens(mechanism) && !source.leaves_it_to_the_backend())
            }
            _ => {
                let reaches_servers = without_password || !self.named.is_empty();
                reaches_servers && sources.any(|source| source.knows_users())
            }
        }
    }
}
