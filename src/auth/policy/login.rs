//! What the server is told about one login.

use aws_lc_rs::digest::{self, Context};
use serde_json::{Map, Value, json};

use super::Outcome;
use crate::auth::Question;
use crate::config::{AuthPolicyConfig, PolicyHash, PolicyPiece, PolicyVariable};
use crate::model::Secret;

/// The request, without the password itself.
pub(super) struct Login {
    attributes: Map<String, Value>,
    /// Those that a report fills with why the login failed; empty as long as that is not known.
    fail_types: Vec<Vec<String>>,
}

impl Login {
    /// `name` is whose password it is.
    pub(super) fn new(config: &AuthPolicyConfig, name: &str, question: &Question<'_>) -> Self {
        let nonce = config.hash_nonce.as_ref().map_or(&[][..], |nonce| nonce.expose());
        let user = name.to_ascii_lowercase(); // as Dovecot's default auth_username_format
        let secret = question.credentials.secret().map_or(&[][..], Secret::expose);
        let hash = hashed(config.hash_mech, [nonce, user.as_bytes(), b"\0", secret]);
        let hashed = hex(&shortened(hash, config.hash_truncate));
        let mut attributes = Map::new();
        for (path, pieces) in config.request_attributes.all() {
            let text = pieces.iter().map(|piece| match piece {
                PolicyPiece::Text(text) => text.clone(),
                PolicyPiece::Variable(PolicyVariable::HashedPassword) => hashed.clone(),
                PolicyPiece::Variable(PolicyVariable::User) => user.clone(),
                PolicyPiece::Variable(variable) => said(*variable, name, question),
            });
            put(&mut attributes, path, text.collect());
        }
        attributes.insert("tls".to_owned(), Value::Bool(question.secured));
        let is_fail_type = |pieces: &[PolicyPiece]| pieces == [PolicyPiece::Variable(PolicyVariable::FailType)];
        let named = config.request_attributes.all().iter().filter(|(_, pieces)| is_fail_type(pieces));
        Self { attributes, fail_types: named.map(|(path, _)| path.clone()).collect() }
    }

    /// For a report with how it ended.
    pub(super) fn json(&self, outcome: Option<Outcome>) -> String {
        let mut attributes = self.attributes.clone();
        if let Some(outcome) = outcome {
            for path in &self.fail_types {
                put(&mut attributes, path, outcome.fail_type().to_owned());
            }
            attributes.insert("success".to_owned(), Value::Bool(outcome == Outcome::Success));
            attributes.insert("policy_reject".to_owned(), Value::Bool(outcome == Outcome::Unwelcome));
        }
        json!(attributes).to_string()
    }
}

fn said(variable: PolicyVariable, name: &str, question: &Question<'_>) -> String {
    match variable {
        PolicyVariable::OriginalUser => name.to_owned(),
        PolicyVariable::RemoteIp => question.client.ip().to_canonical().to_string(),
        PolicyVariable::LocalIp => question.local.ip().to_canonical().to_string(),
        PolicyVariable::RemotePort => question.client.port().to_string(),
        PolicyVariable::LocalPort => question.local.port().to_string(),
        PolicyVariable::Protocol => question.service.word().to_owned(),
        PolicyVariable::Session => question.session.to_string(),
        PolicyVariable::ClientId => parameters(question.around.client_id),
        PolicyVariable::User | PolicyVariable::HashedPassword | PolicyVariable::FailType => String::new(),
    }
}

/// As Dovecot writes the parameters of IMAP's ID.
fn parameters(pairs: &[(String, Option<String>)]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let pair = |(name, value): &(String, Option<String>)| {
        format!("{} {}", quoted(name), value.as_deref().map_or_else(|| "NIL".to_owned(), quoted))
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// Where the names lead, from the outside to the inside.
fn put(attributes: &mut Map<String, Value>, path: &[String], text: String) {
    match path {
        [] => {}
        [name] => {
            attributes.insert(name.clone(), Value::String(text));
        }
        [outer, inner @ ..] => {
            let within = attributes.entry(outer.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(within) = within {
                put(within, inner, text);
            }
        }
    }
}

fn hashed(mechanism: PolicyHash, parts: [&[u8]; 4]) -> Vec<u8> {
    let algorithm = match mechanism {
        PolicyHash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        PolicyHash::Sha256 => &digest::SHA256,
        PolicyHash::Sha384 => &digest::SHA384,
        PolicyHash::Sha512 => &digest::SHA512,
    };
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

/// The first `bits`, moved to the right end of their bytes, as Dovecot does it; 0 for all.
pub(super) fn shortened(mut hash: Vec<u8>, bits: u32) -> Vec<u8> {
    let bits = bits as usize;
    if bits == 0 || bits >= hash.len() * 8 {
        return hash;
    }
    hash.truncate(bits.div_ceil(8));
    let spare = (8 - bits % 8) % 8;
    if spare > 0 {
        for at in (0..hash.len()).rev() {
            let from_left = if at == 0 { 0 } else { hash[at - 1] << (8 - spare) };
            hash[at] = hash[at] >> spare | from_left;
        }
    }
    hash
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
