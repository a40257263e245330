//! Tokens of an OAuth 2.0 issuer. They are verified here (`jwt.rs`, with the keys of `ring.rs`) or shown to the issuer
//! (`introspection.rs`); what they must say is the same (`claims.rs`). A token lets in the user that it was issued to, and nobody
//! else.

mod claims;
mod introspection;
mod issuer;
mod jwks;
mod jwt;
mod ring;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::auth::{Denial, Lookup, Question, Source, Verdict};
use crate::config::{Oauth2Method, Oauth2Passdb};
use crate::model::{Mechanism, Secret};
use claims::{Claims, Demands, Flaw, Silence};
use introspection::Introspection;
use issuer::Whereabouts;
use jwt::{NotVerified, Signatures, Unverified};
use ring::{NoKey, Ring};

/// Longest token in bytes. Those with all groups of a user in them have some thousand.
const MAX_TOKEN: usize = 32 * 1024;

/// One issuer.
pub struct Oauth2Source {
    name: String,
    method: Method,
    demands: Demands,
}

enum Method {
    Local(Signatures),
    Introspection(Box<Introspection>),
}

impl Oauth2Source {
    /// Asks for keys when the first token comes.
    ///
    /// # Errors
    /// Its authorities cannot be read, or the issuer is no URL where it has to be one.
    pub(in crate::auth) fn new(config: &Oauth2Passdb) -> Result<Self, String> {
        let keys = &config.keys;
        let method = match keys.method {
            Oauth2Method::Local => {
                let whereabouts = Whereabouts::of_keys(keys)?;
                let ring = whereabouts.map(|whereabouts| Ring::new(config, whereabouts)).transpose()?.map(Arc::new);
                let hmac = config.hmac_key.as_ref().map(|key| key.expose());
                Method::Local(Signatures::new(&keys.algorithms, hmac, ring))
            }
            Oauth2Method::Introspection => Method::Introspection(Box::new(Introspection::new(config)?)),
        };
        Ok(Self { name: Self::name_of(config), method, demands: Demands::new(keys) })
    }

    /// Kind and place.
    pub(in crate::auth) fn name_of(config: &Oauth2Passdb) -> String {
        let keys = &config.keys;
        let whereabouts = match keys.method {
            Oauth2Method::Local => Whereabouts::of_keys(keys).ok().flatten(),
            Oauth2Method::Introspection => Whereabouts::of_introspection(keys).ok(),
        };
        let place = whereabouts.map(|whereabouts| whereabouts.place()).or_else(|| keys.issuer.clone());
        format!("oauth2 {}", place.as_deref().unwrap_or("with a shared secret"))
    }

    /// Whether the token is good, and is that of the user who is named.
    async fn judge(&self, token: &Secret, question: &Question<'_>) -> Verdict {
        match self.claims(token).await {
            Ok(claims) => self.admit(&claims, question),
            Err(verdict) => {
                let verdict = verdict.into_verdict(question);
                if let Verdict::Denied(_) = verdict {
                    tracing::trace!(session = %question.session, "{} refuses a token", self.name);
                }
                verdict
            }
        }
    }

    async fn claims(&self, token: &Secret) -> Result<Claims, NoClaims> {
        if token.expose().len() > MAX_TOKEN {
            return Err(NoClaims::Flawed(Flaw::TooLong));
        }
        let text = std::str::from_utf8(token.expose()).map_err(|_| NoClaims::NotOurs)?;
        let claims = match &self.method {
            Method::Local(signatures) => self.verified(signatures, text).await?,
            Method::Introspection(introspection) => match introspection.ask(text).await {
                Ok(Some(claims)) => claims,
                Ok(None) => return Err(NoClaims::Flawed(Flaw::Inactive)),
                Err(why) => return Err(NoClaims::Unavailable(why)),
            },
        };
        let silence = match self.method {
            Method::Local(_) => Silence::Refused,
            Method::Introspection(_) => Silence::Taken,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.demands.check(&claims, now, silence).map_err(NoClaims::Flawed)?;
        Ok(claims)
    }

    async fn verified(&self, signatures: &Signatures, text: &str) -> Result<Claims, NoClaims> {
        let token = Unverified::parse(text).map_err(|_| NoClaims::NotOurs)?;
        if self.demands.is_foreign(&token.claims) {
            return Err(NoClaims::NotOurs);
        }
        match signatures.verify(&token).await {
            Ok(()) => Ok(token.claims),
            Err(NotVerified::Flawed(flaw)) => Err(NoClaims::Flawed(flaw)),
            Err(NotVerified::NoKey(NoKey::Unknown)) => Err(NoClaims::Flawed(Flaw::UnknownKey)),
            Err(NotVerified::NoKey(NoKey::Unsure(why))) => Err(NoClaims::Unsure(why)),
            Err(NotVerified::NoKey(NoKey::Nothing(why))) => Err(NoClaims::Unavailable(why)),
        }
    }

    fn admit(&self, claims: &Claims, question: &Question<'_>) -> Verdict {
        let user = match self.demands.user(claims, &question.credentials.user) {
            Ok(user) => user,
            // No client can make such a token: the issuer does not say what the operator expects.
            Err(Flaw::Nameless) => return Verdict::Faulty(format!("a token is good, but {}", Flaw::Nameless)),
            Err(flaw) => return NoClaims::Flawed(flaw).into_verdict(question),
        };
        match self.demands.found(claims).into_verdict(&user) {
            Ok(Verdict::Granted(mut grant)) => {
                grant.fields.until = self.demands.until(claims);
                Verdict::Granted(grant)
            }
            Ok(other) => other,
            Err(fault) => Verdict::Faulty(format!("the token of {user}: {fault}")),
        }
    }
}

/// Why nothing is known of a token.
enum NoClaims {
    /// It may be another's.
    NotOurs,
    Flawed(Flaw),
    /// The issuer cannot be asked about this one.
    Unsure(String),
    /// The issuer cannot be asked about any.
    Unavailable(String),
}

impl NoClaims {
    fn into_verdict(self, question: &Question<'_>) -> Verdict {
        match self {
            Self::NotOurs => Verdict::Unknown,
            Self::Flawed(flaw) => {
                tracing::debug!(session = %question.session, user = question.credentials.user, "a token is refused: {flaw}");
                Verdict::Denied(Denial::Password)
            }
            // Anybody can name a key that nobody has: that must not keep others out.
            Self::Unsure(why) => Verdict::Faulty(why),
            Self::Unavailable(why) => Verdict::Unavailable(why),
        }
    }
}

#[async_trait]
impl Source for Oauth2Source {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn ask(&self, question: &Question<'_>) -> Verdict {
        match question.credentials.token() {
            Some(token) => self.judge(token, question).await,
            None => Verdict::Unknown,
        }
    }

    fn takes_passwords(&self) -> bool {
        false
    }

    fn takes_tokens(&self, _: Mechanism) -> bool {
        true
    }

    fn dates_tokens(&self) -> bool {
        true
    }

    /// Nothing is known about anybody without a token.
    async fn find(&self, _: &Lookup<'_>) -> Verdict {
        Verdict::Unknown
    }
}
