//! The issuer is asked about a token (RFC 7662).

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use reqwest::header::HeaderValue;
use serde_json::Value;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::claims::Claims;
use super::issuer::Whereabouts;
use crate::auth::web::{Web, secret_header};
use crate::config::{Oauth2Passdb, WebUrl};

/// Longest answer about one token.
const MAX_ANSWER: usize = 64 * 1024;

/// Who answers questions about tokens.
pub(super) struct Introspection {
    whereabouts: Whereabouts,
    web: Web,
    /// How homing says who it is.
    authorization: Option<HeaderValue>,
    /// What was found out about where to ask, and when.
    found: Mutex<Option<(WebUrl, Instant)>>,
    refresh: Duration,
}

impl Introspection {
    pub(super) fn new(config: &Oauth2Passdb) -> Result<Self, String> {
        let Oauth2Passdb { keys, remote, client_secret, .. } = config;
        let whereabouts = Whereabouts::of_introspection(keys)?;
        let web = Web::new(keys.tls_ca.as_deref(), keys.tls_verify, whereabouts.is_tls(), remote.timeout)?;
        let authorization = match (&keys.client_id, client_secret) {
            (Some(id), Some(secret)) => Some(basic(id.as_bytes(), secret.expose())?),
            _ => None,
        };
        Ok(Self { whereabouts, web, authorization, found: Mutex::default(), refresh: keys.refresh })
    }

    /// What the issuer says about the token; `None` if it is not a good one.
    pub(super) async fn ask(&self, token: &str) -> Result<Option<Claims>, String> {
        let url = self.endpoint().await?;
        let form = Serializer::new(String::with_capacity(3 * token.len() + 64)) // never grows: no copies are left behind
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        let mut request = self.web.post(&url).await?;
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.clone());
        }
        let request = request.header("Accept", "application/json");
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let request = request.body(Bytes::from_owner(Zeroizing::new(form.into_bytes())));
        let reply = self.web.send(request, MAX_ANSWER).await?;
        if !reply.status.is_success() {
            return Err(format!("it answers {}", reply.status));
        }
        let answer: Claims = serde_json::from_slice(&reply.body).map_err(|_| "its answer is not JSON".to_owned())?;
        match answer.get("active") {
            Some(Value::Bool(true)) => Ok(Some(answer)),
            Some(Value::Bool(false)) => Ok(None),
            _ => Err("its answer does not say whether the token is active".to_owned()),
        }
    }

    async fn endpoint(&self) -> Result<WebUrl, String> {
        if let Whereabouts::Url(url) = &self.whereabouts {
            return Ok(url.clone());
        }
        let mut found = self.found.lock().await;
        if let Some((url, _)) = found.as_ref().filter(|(_, when)| when.elapsed() < self.refresh) {
            return Ok(url.clone());
        }
        let url = self.whereabouts.introspection(&self.web).await?;
        *found = Some((url.clone(), Instant::now()));
        Ok(url)
    }
}

/// RFC 6749 section 2.3.1: name and password are encoded as in a form, then as in RFC 7617.
fn basic(id: &[u8], secret: &[u8]) -> Result<HeaderValue, String> {
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1)); // never grows
    pair.extend(byte_serialize(id));
    pair.push(':');
    pair.extend(byte_serialize(secret));
    let line = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    secret_header("Authorization", line.as_bytes()).map(|(_, value)| value)
}
