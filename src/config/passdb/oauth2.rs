//! Keys of `kind = "oauth2"`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Attributes;
use super::remote::RemoteKeys;
use crate::config::WebUrl;
use crate::config::key::{Section, Visit, section};
use crate::config::words::words;
use crate::model::Secret;

/// Who knows which tokens are good.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Oauth2Passdb {
    /// What is asked of a token.
    pub keys: Oauth2Keys,
    /// How long, how often.
    pub remote: RemoteKeys,
    /// What `hmac_key_file` holds.
    pub hmac_key: Option<Arc<Secret>>,
    /// What `client_secret_file` holds.
    pub client_secret: Option<Arc<Secret>>,
}

section! {
    /// An issuer of OAuth 2.0 tokens.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Oauth2Keys {
        /// "local": the token is a signed JWT, which is verified here with the issuer's keys. "introspection": the issuer is asked
        /// about each token (RFC 7662), which then may have any form and may have been revoked.
        pub method: Oauth2Method = Oauth2Method::Local;
        /// Who must have issued a token (claim `iss`), exactly as it writes itself. Where a URL that is needed is not named
        /// here, it is what the issuer says at ISSUER/.well-known/openid-configuration.
        pub issuer: Option<String> = None, example("\"https://login.example.org\"");
        /// For "local": where the issuer publishes its keys (JWKS).
        pub jwks_url: Option<WebUrl> = None, example("\"https://login.example.org/jwks\"");
        /// For "local": a file with them instead.
        pub jwks_file: Option<PathBuf> = None, example("\"jwks.json\"");
        /// How often the keys are read again.
        pub refresh: Duration = Duration::from_secs(3600), min("1s"), max("7d");
        /// A token signed with a key that is not known yet makes homing read the keys again, but not more often than this.
        pub unknown_key_interval: Duration = Duration::from_secs(10), min("10ms"), max("1h");
        /// How long keys are used that could not be read again; then no token is taken until they can be.
        pub keys_expire: Duration = Duration::from_secs(86_400), min("1s"), max("30d");
        /// For "local": file whose first line is the key of tokens that are signed with a shared secret. Without it such tokens are
        /// refused, whatever `algorithms` says. At least 32 bytes.
        pub hmac_key_file: Option<PathBuf> = None, example("\"token.key\"");
        /// For "local": the signatures that are taken. Others are RS384, RS512, PS256, PS384, PS512, ES384, and HS256, HS384,
        /// HS512 with hmac_key_file.
        pub algorithms: Vec<TokenAlgorithm> = vec![TokenAlgorithm::Rs256, TokenAlgorithm::Es256, TokenAlgorithm::EdDsa];
        /// For whom a token must have been issued (claim `aud`): one of these. By default for anybody, which also takes tokens that
        /// were meant for another service of the same issuer.
        pub audience: Vec<String> = Vec::new(), example("[\"mail\"]");
        /// What a token must be good for: all of these.
        pub scope: Vec<String> = Vec::new(), example("[\"imap\"]");
        /// How far the issuer's clock may be off.
        pub leeway: Duration = Duration::from_secs(60), max("10min");
        /// The claim with the user's name (as Dovecot's `username_attribute`). The name that the client gives must be the same.
        pub user_claim: String = "email".to_owned();
        /// Claims that are fields of the passdb, under the names that Dovecot knows: { host = "mail_host" } and so on. A
        /// claim inside others is named with dots between.
        pub fields: Attributes = Attributes::default();
        /// For "introspection": where to ask.
        pub introspection_url: Option<WebUrl> = None, example("\"https://login.example.org/introspect\"");
        /// For "introspection": as whom homing asks.
        pub client_id: Option<String> = None, example("\"homing\"");
        /// File whose first line is the password of `client_id`.
        pub client_secret_file: Option<PathBuf> = None, example("\"client.secret\"");
        /// PEM file of authorities to trust instead of the system's.
        pub tls_ca: Option<PathBuf> = None, example("\"ca.pem\"");
        /// Without, any certificate is taken: whoever is on the way can make tokens.
        pub tls_verify: bool = true;
    }
}

/// Who checks a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oauth2Method {
    /// homing.
    #[default]
    Local,
    /// The issuer.
    Introspection,
}

words!(Oauth2Method { Local = "local", Introspection = "introspection" });

/// How a token is signed (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// RSA PKCS#1 with SHA-256.
    #[default]
    Rs256,
    /// RSA PKCS#1 with SHA-384.
    Rs384,
    /// RSA PKCS#1 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA over P-256.
    Es256,
    /// ECDSA over P-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// A shared secret, with SHA-256.
    Hs256,
    /// A shared secret, with SHA-384.
    Hs384,
    /// A shared secret, with SHA-512.
    Hs512,
}

words!(TokenAlgorithm {
    Rs256 = "RS256",
    Rs384 = "RS384",
    Rs512 = "RS512",
    Ps256 = "PS256",
    Ps384 = "PS384",
    Ps512 = "PS512",
    Es256 = "ES256",
    Es384 = "ES384",
    EdDsa = "EdDSA",
    Hs256 = "HS256",
    Hs384 = "HS384",
    Hs512 = "HS512"
});

impl TokenAlgorithm {
    /// Whoever can verify can also sign.
    pub fn is_shared_secret(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

impl Oauth2Passdb {
    pub(super) fn fields(&mut self, visit: &mut dyn Visit) {
        self.keys.fields(visit);
        self.remote.fields(visit);
    }
}
