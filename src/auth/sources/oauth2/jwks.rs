//! A set of public keys (RFC 7517), and which of them can have made a signature.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// More keys than any issuer has at a time.
const MAX_KEYS: usize = 100;

/// Keys that are tried on a token that does not name its own: each costs the time of a verification.
const MAX_TRIED: usize = 4;

/// The keys of an issuer.
#[derive(Default)]
pub(super) struct KeySet(Vec<PublicKey>);

struct PublicKey {
    id: Option<String>,
    /// What it signs with, if it says so.
    algorithm: Option<KeyAlgorithm>,
    shape: Shape,
    key: DecodingKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeySet {
    /// Keys that cannot be used are left out: issuers publish some for other purposes, too. A shared secret has no place in a
    /// public document and is never taken from one.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(text).map_err(|_| "its keys are not JSON".to_owned())?;
        let list = document.get("keys").and_then(Value::as_array).ok_or("it has no list of keys")?;
        let keys: Vec<PublicKey> = list.iter().take(MAX_KEYS).filter_map(PublicKey::read).collect();
        if keys.is_empty() {
            return Err("it has no key that signatures could be verified with".to_owned());
        }
        Ok(Self(keys))
    }

    /// Those that a token can be signed with that names the key `id`, or none.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
        let named = |key: &&PublicKey| id.is_none_or(|id| key.id.as_deref() == Some(id));
        let fitting = self.0.iter().filter(named).filter(|key| key.makes(algorithm));
        fitting.take(MAX_TRIED).map(|key| key.key.clone()).collect()
    }
}

impl PublicKey {
    fn read(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let shape = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Shape::Rsa,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Shape::P256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P384 => Shape::P384,
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Shape::Ed25519,
            _ => return None,
        };
        let common = &jwk.common;
        let signs = !matches!(&common.public_key_use, Some(other) if *other != PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|list| list.contains(&KeyOperations::Verify));
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let (id, algorithm) = (common.key_id.clone(), common.key_algorithm);
        (signs && verifies).then_some(Self { id, algorithm, shape, key })
    }

    fn makes(&self, algorithm: Algorithm) -> bool {
        let by_shape = match algorithm {
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => Shape::Rsa,
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => Shape::Rsa,
            Algorithm::ES256 => Shape::P256,
            Algorithm::ES384 => Shape::P384,
            Algorithm::EdDSA => Shape::Ed25519,
            _ => return false,
        };
        self.shape == by_shape && self.algorithm.is_none_or(|own| own == KeyAlgorithm::from(algorithm))
    }
}
