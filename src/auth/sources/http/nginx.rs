//! nginx' auth_http: questions and answers in headers, as ngx_mail_auth_http_module says and reads them.
//!
//! What nginx has not: `Auth-Method: none` comes for lookups by LMTP and doveadm, too, with the user in `Auth-User` and
//! the recipient in `Auth-SMTP-To`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::Reply;
use crate::auth::sources::canonical;
use crate::auth::{Circumstances, Denial, Fields, Grant, Lookup, Question, Refused, Verdict};
use crate::model::{Mechanism, Proof, Protocol, Refusal, Secret, User};

/// How answers are read.
pub(super) struct Form {
    /// `Auth-Server` is obeyed.
    pub(super) obey_server: bool,
}

/// The headers of a login. `Err` if it has no password that can stand in a header.
pub(super) fn login(question: &Question<'_>) -> Result<HeaderMap, Verdict> {
    let credentials = question.credentials;
    let (method, password) = match (&credentials.proof, credentials.mechanism) {
        // nginx has no other word for LOGIN and for the commands.
        (Proof::Password(password), _) => ("plain", password.expose()),
        (Proof::Proven, Mechanism::External) => ("external", [].as_slice()),
        _ => return Err(Verdict::Unknown),
    };
    let mut headers = HeaderMap::new();
    put(&mut headers, "auth-method", method);
    secret(&mut headers, "auth-user", credentials.user.as_bytes())?;
    secret(&mut headers, "auth-pass", password)?;
    put(&mut headers, "auth-protocol", protocol(question.service));
    put(&mut headers, "auth-login-attempt", &question.around.attempt.max(1).to_string());
    put(&mut headers, "client-ip", &question.client.ip().to_string());
    if question.service == Protocol::Submission {
        put(&mut headers, "client-host", "[UNAVAILABLE]"); // as nginx says where it resolves no names
    }
    around(&mut headers, question.around, question.client, question.local);
    Ok(headers)
}

/// The headers of a lookup.
pub(super) fn lookup(lookup: &Lookup<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, "auth-method", "none");
    put(&mut headers, "auth-pass", "");
    put(&mut headers, "auth-protocol", protocol(lookup.service));
    put(&mut headers, "auth-login-attempt", "1");
    put(&mut headers, "client-ip", &lookup.client.ip().to_string());
    let name = String::from_utf8_lossy(&escaped(lookup.user.as_bytes())).into_owned();
    put(&mut headers, "auth-user", &name);
    put(&mut headers, "auth-smtp-helo", "");
    put(&mut headers, "auth-smtp-from", "");
    put(&mut headers, "auth-smtp-to", &format!("RCPT TO:<{name}>"));
    headers
}

/// A load balancer's part, and TLS.
fn around(headers: &mut HeaderMap, around: Circumstances<'_>, client: SocketAddr, local: SocketAddr) {
    if around.via.is_some() {
        put(headers, "proxy-protocol-addr", &client.ip().to_string());
        put(headers, "proxy-protocol-port", &client.port().to_string());
        put(headers, "proxy-protocol-server-addr", &local.ip().to_string());
        put(headers, "proxy-protocol-server-port", &local.port().to_string());
    }
    let Some(tls) = around.tls else { return };
    put(headers, "auth-ssl", "on");
    let facts = [("auth-ssl-protocol", &tls.version), ("auth-ssl-cipher", &tls.cipher)];
    for (name, value) in facts {
        if let Some(value) = value {
            put(headers, name, value);
        }
    }
    put(headers, "auth-ssl-verify", if tls.verified { "SUCCESS" } else { "NONE" });
    if let Some(name) = &tls.common_name {
        put(headers, "auth-ssl-subject", &format!("CN={name}"));
    }
}

/// nginx knows submission as smtp.
fn protocol(service: Protocol) -> &'static str {
    match service {
        Protocol::Submission => "smtp",
        other => other.word(),
    }
}

/// What can stand in no header (a certificate's name may hold anything) is left out.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// What the client gave: escaped, wiped, and never shown.
fn secret(headers: &mut HeaderMap, name: &'static str, value: &[u8]) -> Result<(), Verdict> {
    let value = HeaderValue::from_maybe_shared(Bytes::from_owner(escaped(value)));
    let mut value = value.map_err(|_| Verdict::Denied(Denial::Password))?;
    value.set_sensitive(true);
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

/// As nginx escapes (NGX_ESCAPE_MAIL_AUTH): `%`, the blank and control characters. DEL, too, which nginx sends as it is:
/// it means the same to whoever unescapes, and no HTTP library takes it otherwise.
pub(super) fn escaped(value: &[u8]) -> Zeroizing<Vec<u8>> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 3)); // never grows: no copy stays behind
    for byte in value {
        match byte {
            0..=b' ' | b'%' | 0x7f => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
            other => out.push(*other),
        }
    }
    out
}

impl Form {
    /// What the answer to a login means.
    pub(super) fn login(&self, reply: &Reply, question: &Question<'_>) -> Verdict {
        self.judge(reply, &question.credentials.user)
    }

    /// What the answer to a lookup means: who is refused is not known.
    pub(super) fn lookup(&self, reply: &Reply, lookup: &Lookup<'_>) -> Verdict {
        match self.judge(reply, lookup.user) {
            Verdict::Denied(Denial::Told(Refused { refusal: Refusal::PassdbUnavailable, .. })) => {
                Verdict::Faulty("it asks to wait".to_owned())
            }
            Verdict::Denied(_) => Verdict::Unknown,
            other => other,
        }
    }

    fn judge(&self, reply: &Reply, given: &str) -> Verdict {
        if reply.status != StatusCode::OK {
            return Verdict::Unavailable(format!("it answers with status {}", reply.status.as_u16()));
        }
        let text = |name| header(reply, name);
        let Some(status) = text("auth-status") else {
            return Verdict::Unavailable("its answer has no Auth-Status".to_owned());
        };
        let wait = text("auth-wait").and_then(|wait| wait.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
        match status.as_str() {
            "OK" => self.granted(reply, given).unwrap_or_else(Verdict::Faulty),
            "WAIT" => told(Refusal::PassdbUnavailable, None, wait),
            _ if text("auth-error-code").is_some_and(|code| code.starts_with('4')) => {
                Verdict::Unavailable(status.chars().filter(|c| !c.is_control()).take(300).collect())
            }
            _ => told(Refusal::BadCredentials, Some(status), wait),
        }
    }

    fn granted(&self, reply: &Reply, given: &str) -> Result<Verdict, String> {
        let mut fields = Fields::default();
        if self.obey_server {
            fields.host = header(reply, "auth-server");
            let port = header(reply, "auth-port").map(|port| port.parse().ok().filter(|port| *port != 0));
            fields.port = port.map(|port| port.ok_or("its answer has an Auth-Port that is none")).transpose()?;
        }
        if fields.host.as_ref().is_some_and(|host| !super::is_name(host)) {
            return Err("its answer has an Auth-Server that is no name or address".to_owned());
        }
        fields.pass = reply.headers.get("auth-pass").map(|pass| Secret::new(pass.as_bytes().to_vec()));
        let user = header(reply, "auth-user").unwrap_or_else(|| canonical(given));
        if !super::is_name(&user) {
            return Err("its answer has an Auth-User that cannot be one".to_owned());
        }
        Ok(Verdict::Granted(Box::new(Grant { user: User::new(user), unproven: false, master: None, fields })))
    }
}

fn told(refusal: Refusal, words: Option<String>, wait: Duration) -> Verdict {
    Verdict::Denied(Denial::Told(Refused { refusal, words, wait }))
}

/// A header that has something to say.
fn header(reply: &Reply, name: &str) -> Option<String> {
    let value = reply.headers.get(name)?.as_bytes();
    Some(String::from_utf8_lossy(value).trim().to_owned()).filter(|value| !value.is_empty())
}
