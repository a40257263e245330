//! Questions and answers in JSON: those of Nauthilus' `/api/v1/auth/json`, and a few words more.
//!
//! A login is a POST of an object with username, password, protocol, method, client_ip, ... A lookup is the same without a
//! password, at `?mode=no-auth`; the names of all users come from `?mode=list-accounts`, as an array. Answers:
//!
//! - 2xx with `"ok": true` (or the header `Auth-Status: OK`): granted. The name is `user`, else the attribute that
//!   `account_field` names, else the header `Auth-User`. `fields` is an object of Dovecot's fields; of `attributes` only
//!   those count that the configuration maps to fields.
//! - 401, 403 or `"ok": false`: refused. `code` may be "unknown" (ask the next source), "forbidden" (may not log in;
//!   `reason` is told to the client) or "temporary"; otherwise the password is wrong. 404: unknown.
//! - All else is no answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::auth::extra::Extra;
use crate::auth::sources::canonical;
use crate::auth::web::Reply;
use crate::auth::{Denial, Grant, Lookup, Question, Refused, Verdict};
use crate::config::AttributeField;
use crate::model::{Mechanism, Refusal, User};

/// How answers are read.
pub(super) struct Form {
    /// Attributes that bear on proxying.
    pub(super) attributes: Vec<AttributeField>,
}

/// A question. Numbers are written as text, and what is not known is left out, as Nauthilus wants it.
#[derive(Default, Serialize)]
struct Asked<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    protocol: &'static str,
    method: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_port: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    local_ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    local_port: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    external_session_id: String,
    user_agent: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_client_verify: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_client_cn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_login_attempt: Option<u32>,
}

/// An answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    ok: Option<bool>,
    code: Option<String>,
    reason: Option<String>,
    user: Option<String>,
    account_field: Option<String>,
    attributes: Option<BTreeMap<String, Value>>,
    fields: Option<BTreeMap<String, String>>,
}

/// A login. `Err` if it has no password that can stand in JSON.
pub(super) fn login(question: &Question<'_>) -> Result<Body, Verdict> {
    let credentials = question.credentials;
    let password = credentials.password().ok_or(Verdict::Unknown)?;
    let password = std::str::from_utf8(password.expose());
    let tls = question.around.tls;
    let asked = Asked {
        username: &credentials.user,
        password: Some(password.map_err(|_| Verdict::Denied(Denial::Password))?),
        protocol: question.service.word(),
        method: match credentials.mechanism {
            Mechanism::Login => "login",
            _ => "plain",
        },
        client_ip: question.client.ip().to_string(),
        client_port: question.client.port().to_string(),
        local_ip: question.local.ip().to_string(),
        local_port: question.local.port().to_string(),
        external_session_id: question.session.to_string(),
        user_agent: "homing",
        ssl: question.secured.then_some("on"),
        ssl_protocol: tls.and_then(|tls| tls.version.as_deref()),
        ssl_cipher: tls.and_then(|tls| tls.cipher.as_deref()),
        ssl_client_verify: tls.map(|tls| if tls.verified { "SUCCESS" } else { "NONE" }),
        ssl_client_cn: tls.and_then(|tls| tls.common_name.as_deref()),
        auth_login_attempt: Some(question.around.attempt.max(1)),
    };
    Ok(Body::of(&asked))
}

/// A lookup of somebody who does not log in.
pub(super) fn lookup(lookup: &Lookup<'_>) -> Body {
    Body::of(&Asked {
        username: lookup.user,
        protocol: lookup.service.word(),
        method: "none",
        client_ip: lookup.client.ip().to_string(),
        client_port: lookup.client.port().to_string(),
        external_session_id: lookup.session.to_string(),
        user_agent: "homing",
        ..Asked::default()
    })
}

/// The question for the names of all users.
pub(super) fn listing() -> Body {
    Body::of(&Asked { username: "*", protocol: "doveadm", method: "none", user_agent: "homing", ..Asked::default() })
}

/// A question as it is sent. Wiped when dropped.
pub(super) struct Body(Zeroizing<Vec<u8>>);

impl Body {
    fn of(asked: &Asked<'_>) -> Self {
        // Room for the worst case of escaping, so that no copy of a password stays behind.
        let room = 2048 + 6 * (asked.username.len() + asked.password.map_or(0, str::len));
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        // Writing strings into memory cannot fail; without a body the service refuses.
        let _ = serde_json::to_writer(&mut *body, asked);
        Self(body)
    }

    /// What there is to send.
    pub(super) fn put_into(self, request: RequestBuilder) -> RequestBuilder {
        request.header(CONTENT_TYPE, "application/json").body(Bytes::from_owner(self.0))
    }
}

/// The names in an answer; `None` if the service has no such list.
pub(super) fn names(reply: &Reply) -> Option<Result<Vec<String>, String>> {
    match reply.status.as_u16() {
        200 => Some(serde_json::from_slice(&reply.body).map_err(|_| "its list of users is none".to_owned())),
        404 | 405 | 501 => None,
        status => Some(Err(format!("it answers with status {status} when asked for its users"))),
    }
}

impl Form {
    /// What the answer to a login means.
    pub(super) fn login(&self, reply: &Reply, question: &Question<'_>) -> Verdict {
        match self.judge(reply, &question.credentials.user) {
            Ok((grant, extra)) => match extra.forbids() {
                Some(denial) => Verdict::Denied(denial),
                None if grant.fields.master.is_some() && grant.fields.pass.is_none() => {
                    Verdict::Faulty("its answer has the field master, but not pass".to_owned())
                }
                None => Verdict::Granted(Box::new(grant)),
            },
            Err(verdict) => verdict,
        }
    }

    /// What the answer to a lookup means: who is refused is not known.
    pub(super) fn lookup(&self, reply: &Reply, lookup: &Lookup<'_>) -> Verdict {
        match self.judge(reply, lookup.user) {
            Ok((grant, _)) => Verdict::Granted(Box::new(grant)),
            Err(Verdict::Denied(_)) => Verdict::Unknown,
            Err(other) => other,
        }
    }

    fn judge(&self, reply: &Reply, given: &str) -> Result<(Grant, Extra), Verdict> {
        let told = serde_json::from_slice::<Told>(&reply.body);
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused(told.unwrap_or_default())),
            StatusCode::NOT_FOUND => Err(Verdict::Unknown),
            // Says something about the client, and nothing about the service.
            StatusCode::TOO_MANY_REQUESTS => Err(Verdict::Faulty("it has had too many questions".to_owned())),
            status if !status.is_success() => {
                Err(Verdict::Unavailable(format!("it answers with status {}", status.as_u16())))
            }
            _ => {
                let told = told.map_err(|_| Verdict::Unavailable("its answer is not of the right JSON".to_owned()))?;
                let status = reply.headers.get("auth-status").map(|status| status.as_bytes());
                match (told.ok, status) {
                    (Some(true), _) | (None, Some(b"OK")) => self.granted(reply, told, given).map_err(Verdict::Faulty),
                    (None, None) => Err(Verdict::Unavailable("its answer says neither yes nor no".to_owned())),
                    _ => Err(refused(told)),
                }
            }
        }
    }

    fn granted(&self, reply: &Reply, told: Told, given: &str) -> Result<(Grant, Extra), String> {
        let mut extra = Extra::default();
        let attributes = told.attributes.unwrap_or_default();
        for AttributeField { attribute, field } in &self.attributes {
            if let Some(value) = attributes.get(attribute).and_then(text) {
                extra.take(field, value.as_bytes()).map_err(|fault| format!("attribute {attribute}: {fault}"))?;
            }
        }
        for (name, value) in told.fields.unwrap_or_default() {
            let value = Zeroizing::new(value);
            extra.take(&name, value.as_bytes()).map_err(|fault| fault.to_string())?;
        }
        let account = told.account_field.as_ref().and_then(|field| attributes.get(field)).and_then(text);
        let header = || Some(reply.headers.get("auth-user")?.to_str().ok()?.to_owned());
        let user = told.user.or(account).or_else(header).unwrap_or_else(|| canonical(given));
        if !super::is_name(&user) {
            return Err("its answer has a user name that cannot be one".to_owned());
        }
        let fields = std::mem::take(&mut extra.fields);
        Ok((Grant { user: User::new(user), unproven: extra.nopassword, master: None, fields }, extra))
    }
}

fn refused(told: Told) -> Verdict {
    let words = told.reason.filter(|reason| !reason.is_empty());
    match told.code.as_deref() {
        Some("unknown") => Verdict::Unknown,
        Some("temporary") => Verdict::Unavailable("it has a temporary failure".to_owned()),
        Some("forbidden") => Verdict::Denied(Denial::Told(Refused { words, ..Refusal::Forbidden.into() })),
        _ => Verdict::Denied(Denial::Password),
    }
}

/// A value, or the only one of a list.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::Array(values) => match values.as_slice() {
            [one] if !one.is_array() => text(one),
            _ => None,
        },
        _ => None,
    }
}
