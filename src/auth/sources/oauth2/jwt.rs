//! Signed tokens (RFC 7519), verified here with the issuer's keys and as RFC 8725 advises: the operator says which algorithms
//! there are, a key is only used for its own, and nothing in a token's header leads to a key but the name of one.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;

use super::claims::{Claims, Flaw};
use super::ring::{NoKey, Ring};
use crate::config::TokenAlgorithm;

/// Verifies signatures.
pub(super) struct Signatures {
    algorithms: Vec<Algorithm>,
    /// Of those that sign with a shared secret.
    hmac: Option<DecodingKey>,
    ring: Option<Arc<Ring>>,
}

/// A token taken apart. Nobody has looked at its signature.
pub(super) struct Unverified<'a> {
    header: Header,
    /// What it says.
    pub(super) claims: Claims,
    /// What is signed.
    message: &'a str,
    signature: &'a str,
}

/// The members that matter (RFC 7515 section 4.1). `jku`, `jwk`, `x5u` and `x5c` would let a token bring its own key.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

/// Why a token is not taken.
#[derive(Debug)]
pub(super) enum NotVerified {
    Flawed(Flaw),
    NoKey(NoKey),
}

impl Signatures {
    pub(super) fn new(algorithms: &[TokenAlgorithm], hmac: Option<&[u8]>, ring: Option<Arc<Ring>>) -> Self {
        // The library takes its own provider by itself as long as there is only one; if there already is one, it is the same.
        let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let algorithms = algorithms.iter().copied().map(algorithm).collect();
        Self { algorithms, hmac: hmac.map(DecodingKey::from_secret), ring }
    }

    /// The token's signature is that of a key that it may be.
    pub(super) async fn verify(&self, token: &Unverified<'_>) -> Result<(), NotVerified> {
        let flawed = |flaw| Err(NotVerified::Flawed(flaw));
        if token.header.crit.is_some() || !token.header.is_of_access() {
            return flawed(Flaw::Kind);
        }
        let Some(algorithm) = token.header.alg.parse().ok().filter(|given| self.algorithms.contains(given)) else {
            return flawed(Flaw::Algorithm);
        };
        let keys = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => self.hmac.iter().cloned().collect(),
            _ => self.public_keys(token, algorithm).await?,
        };
        let right = |key: &DecodingKey| {
            crypto::verify(token.signature, token.message.as_bytes(), key, algorithm).unwrap_or(false)
        };
        if keys.iter().any(right) { Ok(()) } else { flawed(Flaw::Signature) }
    }

    async fn public_keys(&self, token: &Unverified<'_>, algorithm: Algorithm) -> Result<Vec<DecodingKey>, NotVerified> {
        let Some(ring) = &self.ring else { return Err(NotVerified::Flawed(Flaw::UnknownKey)) };
        ring.find(token.header.kid.as_deref(), algorithm).await.map_err(NotVerified::NoKey)
    }
}

impl Header {
    /// RFC 8725 section 3.11: a token that the issuer has signed for something else, such as the end of a session.
    fn is_of_access(&self) -> bool {
        let Some(typ) = &self.typ else { return true };
        let typ = typ
            .get(.."application/".len())
            .filter(|start| start.eq_ignore_ascii_case("application/"))
            .map_or(typ.as_str(), |start| &typ[start.len()..]);
        ["jwt", "at+jwt", "bearer"].iter().any(|known| typ.eq_ignore_ascii_case(known))
    }
}

impl<'a> Unverified<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Flaw> {
        let (message, signature) = token.rsplit_once('.').ok_or(Flaw::NotJwt)?;
        let (header, claims) =
            message.split_once('.').filter(|(_, claims)| !claims.contains('.')).ok_or(Flaw::NotJwt)?;
        Ok(Self { header: part(header)?, claims: part(claims)?, message, signature })
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Flaw> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| Flaw::NotJwt)?;
    serde_json::from_slice(&json).map_err(|_| Flaw::NotJwt)
}

fn algorithm(word: TokenAlgorithm) -> Algorithm {
    match word {
        TokenAlgorithm::Rs256 => Algorithm::RS256,
        TokenAlgorithm::Rs384 => Algorithm::RS384,
        TokenAlgorithm::Rs512 => Algorithm::RS512,
        TokenAlgorithm::Ps256 => Algorithm::PS256,
        TokenAlgorithm::Ps384 => Algorithm::PS384,
        TokenAlgorithm::Ps512 => Algorithm::PS512,
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Es384 => Algorithm::ES384,
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        TokenAlgorithm::Hs256 => Algorithm::HS256,
        TokenAlgorithm::Hs384 => Algorithm::HS384,
        TokenAlgorithm::Hs512 => Algorithm::HS512,
    }
}
