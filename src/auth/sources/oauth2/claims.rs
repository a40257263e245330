//! What a token says, and whether that is enough. The same for a JWT and for an answer to an introspection.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::auth::sources::canonical;
use crate::auth::sources::found::Found;
use crate::config::Oauth2Keys;

/// Claims, or members of an introspection's answer, which have the same names (RFC 7662 section 2.2).
pub(super) type Claims = Map<String, Value>;

/// What is wrong with a token. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("it is no JWT")]
    NotJwt,
    #[error("it is longer than any token")]
    TooLong,
    #[error("its kind (typ, crit) is not that of an access token")]
    Kind,
    #[error("its algorithm is not one that is taken")]
    Algorithm,
    #[error("its key is not known")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("another issuer made it")]
    Issuer,
    #[error("it has no time at which it expires")]
    NoExpiry,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("it is for another audience")]
    Audience,
    #[error("it lacks a scope")]
    Scope,
    #[error("the issuer says that it is not active")]
    Inactive,
    #[error("the address in it was never verified by the issuer")]
    Unverified,
    #[error("it has no claim with the user's name; see user_claim")]
    Nameless,
    #[error("it was issued to another user")]
    OtherUser,
}

/// Whether a token must say something, or only must not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The token is all that there is.
    Refused,
    /// The issuer itself has said that the token is good.
    Taken,
}

/// What a token must say.
#[derive(Debug)]
pub(super) struct Demands {
    issuer: Option<String>,
    audience: Vec<String>,
    scope: Vec<String>,
    leeway: f64,
    user_claim: String,
    /// Field and claim.
    fields: Vec<(String, String)>,
}

impl Demands {
    pub(super) fn new(keys: &Oauth2Keys) -> Self {
        Self {
            issuer: keys.issuer.clone(),
            audience: keys.audience.clone(),
            scope: keys.scope.clone(),
            leeway: keys.leeway.as_secs_f64(),
            user_claim: keys.user_claim.clone(),
            fields: keys.fields.0.clone(),
        }
    }

    /// Another issuer's tokens are another source's business.
    pub(super) fn is_foreign(&self, claims: &Claims) -> bool {
        let given = claims.get("iss").and_then(Value::as_str);
        self.issuer.as_deref().is_some_and(|issuer| given.is_some_and(|given| given != issuer))
    }

    /// `now` in seconds since 1970.
    pub(super) fn check(&self, claims: &Claims, now: f64, silence: Silence) -> Result<(), Flaw> {
        if let Some(issuer) = &self.issuer {
            match claims.get("iss") {
                Some(Value::String(given)) if given == issuer => {}
                None if silence == Silence::Taken => {}
                _ => return Err(Flaw::Issuer),
            }
        }
        self.in_time(claims, now, silence)?;
        if !self.audience.is_empty()
            && !words(claims.get("aud"), false).any(|aud| self.audience.iter().any(|a| a == aud))
        {
            return Err(Flaw::Audience);
        }
        // RFC 8693 section 4.2 has one text with spaces; some issuers write `scp` or a list.
        let scopes: Vec<&str> = words(claims.get("scope").or(claims.get("scp")), true).collect();
        if !self.scope.iter().all(|wanted| scopes.contains(&wanted.as_str())) {
            return Err(Flaw::Scope);
        }
        // An introspection says yes to those, too (Keycloak, Hydra); they are for the issuer alone, and last for months.
        let is = |name: &str, value: &str| claims.get(name).and_then(Value::as_str) == Some(value);
        if is("typ", "Refresh") || is("typ", "Offline") || is("token_use", "refresh_token") {
            return Err(Flaw::Kind);
        }
        // Whoever may write any address into an account of the issuer's could otherwise be anybody here.
        let is_unverified = match claims.get("email_verified") {
            Some(Value::Bool(verified)) => !verified,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("false"),
            _ => false,
        };
        if self.user_claim == "email" && is_unverified {
            return Err(Flaw::Unverified);
        }
        Ok(())
    }

    fn in_time(&self, claims: &Claims, now: f64, silence: Silence) -> Result<(), Flaw> {
        match claims.get("exp") {
            Some(exp) if time(exp).is_some_and(|exp| now < exp + self.leeway) => {}
            Some(exp) if time(exp).is_some() => return Err(Flaw::Expired),
            None if silence == Silence::Taken => {}
            _ => return Err(Flaw::NoExpiry),
        }
        match claims.get("nbf") {
            Some(nbf) if !time(nbf).is_some_and(|nbf| nbf <= now + self.leeway) => Err(Flaw::NotYet),
            _ => Ok(()),
        }
    }

    /// When the token ends. What it was good for is not remembered any longer.
    pub(super) fn until(&self, claims: &Claims) -> Option<SystemTime> {
        let seconds = time(claims.get("exp")?)?.max(0.0);
        UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }

    /// The canonical name of whom the token was issued to, who must be `named` if somebody is.
    pub(super) fn user(&self, claims: &Claims, named: &str) -> Result<String, Flaw> {
        let user = claim(claims, &self.user_claim).and_then(Value::as_str).filter(|user| !user.is_empty());
        let user = canonical(user.ok_or(Flaw::Nameless)?);
        if named.is_empty() || canonical(named) == user { Ok(user) } else { Err(Flaw::OtherUser) }
    }

    /// The fields of the passdb that it has. A flag that is false is none.
    pub(super) fn found(&self, claims: &Claims) -> Found {
        let mut found = Found::default();
        for (field, name) in &self.fields {
            match claim(claims, name) {
                Some(Value::String(text)) => found.add(field, text.clone()),
                Some(Value::Number(number)) => found.add(field, number.to_string()),
                Some(Value::Bool(true)) => found.add(field, "yes".to_owned()),
                Some(Value::Bool(false)) => found.add(field, "no".to_owned()),
                Some(Value::Array(list)) => {
                    let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                    found.add(field, texts.join(","));
                }
                Some(Value::Null | Value::Object(_)) | None => {}
            }
        }
        found
    }
}

/// By its own name, or with dots between the names of those around it.
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        claim(claims.get(outer)?.as_object()?, inner)
    })
}

/// A text, or its words, or a list of texts.
fn words(value: Option<&Value>, split: bool) -> impl Iterator<Item = &str> {
    let (text, list) = match value {
        Some(Value::String(text)) => (Some(text.as_str()), [].as_slice()),
        Some(Value::Array(list)) => (None, list.as_slice()),
        _ => (None, [].as_slice()),
    };
    let whole = text.filter(|_| !split);
    let pieces = text.filter(|_| split).unwrap_or_default().split_ascii_whitespace();
    whole.into_iter().chain(pieces).chain(list.iter().filter_map(Value::as_str))
}

/// RFC 7519 section 2: a number, not always a whole one.
fn time(value: &Value) -> Option<f64> {
    value.as_f64().filter(|time| time.is_finite())
}
