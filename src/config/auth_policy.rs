//! `[auth_policy]`: a server that is asked whether a login is welcome, such as weakforced. Names as in Dovecot, without its
//! `auth_policy_`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::WebUrl;
use super::key::section;
use super::reader::Reader;
use super::value::{Shown, Value, Wrong, quoted};
use super::words::words;
use crate::model::Secret;

section! {
    /// A policy server, such as weakforced, by Dovecot's protocol: it is asked before and after the password is checked whether the
    /// login is welcome, and told how it ended. The keys are Dovecot's auth_policy_... A reload applies them.
    #[derive(Clone, Debug, PartialEq)]
    pub struct AuthPolicyConfig {
        /// Where it is. Without, nobody is asked. "?command=allow" or "?command=report" is added.
        pub server_url: Option<WebUrl> = None, example("\"http://127.0.0.1:8084/\"");
        /// A header line by which it knows its clients, like "Authorization: Basic ..."; without a colon, the value of X-API-Key.
        pub server_api_header: Option<Arc<Secret>> = None, example("\"X-API-Key: secret\""), secret;
        /// How long an answer may take; then the login goes on as `reject_on_fail` says.
        pub server_timeout: Duration = Duration::from_secs(2), min("10ms"), max("1min");
        /// PEM file of authorities to trust instead of the system's.
        pub tls_ca: Option<PathBuf> = None, example("\"ca.pem\"");
        /// Without, any certificate is taken.
        pub tls_verify: bool = true;
        /// How passwords are hashed for it, so that it can tell one wrong password from many: over nonce, name and password.
        pub hash_mech: PolicyHash = PolicyHash::Sha256;
        /// A text of your own that goes into each hash, the same in every proxy and Dovecot. Needed with server_url.
        pub hash_nonce: Option<Arc<Secret>> = None, example("\"some random text\""), secret;
        /// How many bits of a hash are told; 0 for all. Few of them say little about the password.
        pub hash_truncate: u32 = 12, max("512");
        /// What is told, as name=value pairs; a name with / lies inside another. Values are made of %{user} (also
        /// %{requested_username}), %{original_username}, %{hashed_password}, %{rip}, %{lip}, %{rport}, %{lport}, %{protocol} (also %s), %{session},
        /// %{client_id} (the parameters of IMAP's ID), %{fail_type} (alone; in reports "credentials", "disabled" or "policy") and plain
        /// text.
        pub request_attributes: PolicyAttributes = PolicyAttributes::default();
        /// Ask before the password is checked.
        pub check_before_auth: bool = true;
        /// Ask again when the password was right.
        pub check_after_auth: bool = true;
        /// Tell how the login ended.
        pub report_after_auth: bool = true;
        /// Turn logins away while the server does not answer. By default they go on.
        pub reject_on_fail: bool = false;
        /// Ask and write what it says, but obey none of it.
        pub log_only: bool = false;
        /// The longest delay of a login that the server may order.
        pub max_delay: Duration = Duration::from_secs(30), max("10min");
    }
}

/// How a password is hashed for the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyHash {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

words!(PolicyHash { Sha1 = "sha1", Sha256 = "sha256", Sha384 = "sha384", Sha512 = "sha512" });

/// Something about a login that the server can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyVariable {
    /// The name in lower case, as Dovecot has it by default.
    User,
    /// The name as given.
    OriginalUser,
    /// The hash of the password.
    HashedPassword,
    /// The client's address.
    RemoteIp,
    /// The address that it connected to.
    LocalIp,
    /// The client's port.
    RemotePort,
    /// The port that it connected to.
    LocalPort,
    /// By which protocol.
    Protocol,
    /// The session's name in the log.
    Session,
    /// What the client calls itself (IMAP ID).
    ClientId,
    /// In a report, why the login failed.
    FailType,
}

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPiece {
    /// As it stands.
    Text(String),
    /// What takes its place.
    Variable(PolicyVariable),
}

/// One attribute: where it stands in the request, from the outside to the inside, and what it says.
pub type PolicyAttribute = (Vec<String>, Vec<PolicyPiece>);

/// What is told about a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyAttributes {
    text: String,
    attributes: Vec<PolicyAttribute>,
}

impl PolicyAttributes {
    /// All of them.
    pub fn all(&self) -> &[PolicyAttribute] {
        &self.attributes
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut attributes: Vec<PolicyAttribute> = Vec::new();
        for pair in text.split_ascii_whitespace() {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("has {pair} without a value"))?;
            let path: Vec<String> = name.split('/').map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                return Err(format!("has a name that is none in {pair}"));
            }
            // A value and an object cannot both be there.
            let clashes = |(other, _): &PolicyAttribute| other.iter().zip(&path).all(|(one, two)| one == two);
            if attributes.iter().any(clashes) {
                return Err(format!("says twice what {name} is"));
            }
            attributes.push((path, pieces(value)?));
        }
        Ok(Self { text: text.to_owned(), attributes })
    }
}

impl Default for PolicyAttributes {
    /// As Dovecot's.
    fn default() -> Self {
        let text = "login=%{requested_username} pwhash=%{hashed_password} remote=%{rip} device_id=%{client_id} \
                    protocol=%s session_id=%{session} fail_type=%{fail_type}";
        Self::parse(text).unwrap_or_else(|_| Self { text: String::new(), attributes: Vec::new() })
    }
}

fn pieces(value: &str) -> Result<Vec<PolicyPiece>, String> {
    let (mut pieces, mut rest) = (Vec::new(), value);
    while let Some((before, behind)) = rest.split_once('%') {
        if !before.is_empty() {
            pieces.push(PolicyPiece::Text(before.to_owned()));
        }
        let (name, behind) = match behind.strip_prefix('{').and_then(|behind| behind.split_once('}')) {
            Some(named) => named,
            None => behind.split_at_checked(1).ok_or_else(|| format!("has a % without a name in {value}"))?,
        };
        pieces.push(match name {
            "%" => PolicyPiece::Text("%".to_owned()),
            name => PolicyPiece::Variable(variable(name).ok_or_else(|| format!("has an unknown variable {name}"))?),
        });
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(PolicyPiece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn variable(name: &str) -> Option<PolicyVariable> {
    Some(match name {
        "user" | "u" | "requested_username" | "requested_user" => PolicyVariable::User,
        "original_username" | "original_user" | "orig_username" | "orig_user" => PolicyVariable::OriginalUser,
        "hashed_password" => PolicyVariable::HashedPassword,
        "rip" | "r" | "real_rip" => PolicyVariable::RemoteIp,
        "lip" | "l" | "real_lip" => PolicyVariable::LocalIp,
        "rport" | "b" | "real_rport" => PolicyVariable::RemotePort,
        "lport" | "a" | "real_lport" => PolicyVariable::LocalPort,
        "protocol" | "service" | "s" => PolicyVariable::Protocol,
        "session" => PolicyVariable::Session,
        "client_id" => PolicyVariable::ClientId,
        "fail_type" => PolicyVariable::FailType,
        _ => return None,
    })
}

impl Value for PolicyAttributes {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let mut text = String::new();
        text.read(given, base)?;
        let remedy = "write it like \"login=%{user} pwhash=%{hashed_password} remote=%{rip}\"";
        *self = Self::parse(&text).map_err(|what| Wrong::new(what, remedy))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.text), secret: None })
    }
}

/// What a policy server needs besides its address.
pub(super) fn check(policy: &AuthPolicyConfig, reader: &mut Reader<'_>) {
    let [url, nonce, ca] = ["server_url", "hash_nonce", "tls_ca"].map(|key| format!("auth_policy.{key}"));
    if let Some(path) = &policy.tls_ca {
        super::check::readable(&ca, path, reader);
    }
    let needed = policy.server_url.is_some() && policy.hash_nonce.is_none();
    if needed && reader.is_sound(&nonce) {
        let consequence = "who reads along could tell passwords from their hashes";
        reader.fault(&url, "needs hash_nonce", consequence, "add hash_nonce with a random text");
    }
    let plain = policy.server_url.as_ref().is_some_and(|url| !url.is_tls());
    if plain && policy.tls_ca.is_some() && reader.is_sound(&ca) {
        let remedy = "write https:// instead, or remove it";
        reader.fault(&ca, "has no use with an http:// server", super::fault::REFUSED, remedy);
    }
}
