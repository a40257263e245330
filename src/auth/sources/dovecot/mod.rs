//! The auth service of a Dovecot: passwords by the auth-client protocol, users who do not log in by the master protocol.
//!
//! `text.rs` is what both protocols say, as bytes; `road.rs` a connection up to the end of its greeting; `talk.rs` many
//! questions on one; `list.rs` the names of all users. Here questions become requests, and answers verdicts.

mod list;
mod road;
mod talk;
#[cfg(test)]
mod tests;
mod text;

use std::os::unix::fs::FileTypeExt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub use text::{Answer, Field, Garbled, Line, MAX_LINE, Word, read_auth_line};

use super::canonical;
use crate::auth::extra::Extra;
use crate::auth::{Denial, Grant, Lookup, Question, Refused, Source, Verdict};
use crate::config::{AuthSocket, DovecotPassdb};
use crate::model::{Credentials, Mechanism, Proof, Refusal, User};
use road::Role;
use talk::{Fault, Talk};
use text::{Request, flag, put};

/// What is wrong with the sockets that the configuration names. One that is not there may come later.
pub fn check_dovecot(keys: &DovecotPassdb) -> Vec<String> {
    let sockets = [Some(&keys.auth_socket), keys.lookup_socket.as_ref()];
    sockets.into_iter().flatten().filter_map(check_socket).collect()
}

fn check_socket(socket: &AuthSocket) -> Option<String> {
    let AuthSocket::Unix(path) = socket else { return None };
    match std::fs::metadata(path) {
        Ok(about) if about.file_type().is_socket() => None,
        Ok(_) => Some(format!("{} is no socket", path.display())),
        Err(error) => Some(format!("{} cannot be used: {error}", path.display())),
    }
}

/// Longest user name in bytes; see the chain's.
const MAX_USER: usize = 255;

/// One Dovecot.
pub struct DovecotSource {
    place: String,
    logins: Talk,
    lookups: Option<Talk>,
    lookup_socket: Option<AuthSocket>,
    penalty: bool,
}

impl DovecotSource {
    /// Needs a runtime. Nothing is dialled before the first question.
    pub fn new(keys: &DovecotPassdb) -> Self {
        let lookup_socket = keys.lookup_socket.clone();
        Self {
            place: road::place(&keys.auth_socket),
            logins: Talk::new(keys.auth_socket.clone(), Role::Client),
            lookups: lookup_socket.clone().map(|socket| Talk::new(socket, Role::Master)),
            lookup_socket,
            penalty: keys.penalty,
        }
    }

    /// What a failed login means. Dovecot does not say whether it knows the user; its other socket does.
    async fn failure(&self, answer: &Answer, question: &Question<'_>) -> Verdict {
        let refusal = match failure_code(answer) {
            Code::Temporary => {
                let why = answer.text("reason").unwrap_or_else(|| "it has a temporary failure".to_owned());
                return Verdict::Unavailable(why);
            }
            Code::Forbidden => Refusal::Forbidden,
            Code::Password => Refusal::BadCredentials,
        };
        if refusal == Refusal::BadCredentials && self.lookups.is_some() {
            let Question { credentials, service, client, local, session, .. } = *question;
            let lookup = Lookup { user: &credentials.user, service, client, local, session };
            if matches!(self.find(&lookup).await, Verdict::Unknown) {
                return Verdict::Unknown;
            }
        }
        let words = answer.text("reason");
        Verdict::Denied(Denial::Told(Refused { words, ..refusal.into() }))
    }
}

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Temporary,
    Forbidden,
    Password,
}

/// Codes came with 2.3; before, each had a flag of its own.
fn failure_code(answer: &Answer) -> Code {
    let has = |name: &str| answer.value(name).is_some();
    match answer.value("code") {
        Some(b"temp_fail") => Code::Temporary,
        Some(b"authz_fail" | b"user_disabled" | b"pass_expired") => Code::Forbidden,
        _ if has("temp") => Code::Temporary,
        _ if has("authz") || has("user_disabled") || has("pass_expired") => Code::Forbidden,
        _ => Code::Password,
    }
}

#[async_trait]
impl Source for DovecotSource {
    fn name(&self) -> String {
        format!("dovecot {}", self.place)
    }

    fn takes_tokens(&self, mechanism: Mechanism) -> bool {
        self.logins.may_offer(mechanism)
    }

    fn knows_users(&self) -> bool {
        self.logins.may_offer(Mechanism::External)
    }

    async fn ask(&self, question: &Question<'_>) -> Verdict {
        let Some(message) = message(question.credentials) else { return Verdict::Unknown };
        let mechanism = mechanism(question.credentials);
        if !self.logins.may_offer(mechanism) {
            return Verdict::Unknown;
        }
        let answer = match self.logins.ask(login(question, mechanism, &message, self.penalty)).await {
            Ok(answer) => answer,
            Err(fault) => return without(fault, Verdict::Denied(Denial::Password)),
        };
        match answer.word {
            Word::Ok => allowed(&answer, question),
            Word::Fail => self.failure(&answer, question).await,
            // What is wrong with the token, in JSON; with an answer to that would come the refusal.
            Word::Cont if mechanism.is_by_token() => Verdict::Denied(Denial::Password),
            Word::Cont => Verdict::Unavailable(format!("it asks for more than {} has to say", mechanism.name())),
            _ => Verdict::Unavailable("its answer is none to a login".to_owned()),
        }
    }

    async fn find(&self, lookup: &Lookup<'_>) -> Verdict {
        let Some(lookups) = &self.lookups else {
            return Verdict::Faulty("users who do not log in cannot be looked up without lookup_socket".to_owned());
        };
        let answer = match lookups.ask(pass(lookup)).await {
            Ok(answer) => answer,
            Err(fault) => return without(fault, Verdict::Unknown),
        };
        match answer.word {
            Word::Pass => known(&answer, lookup.user, false).map_or_else(Verdict::Faulty, |(grant, _)| granted(grant)),
            Word::NotFound => Verdict::Unknown,
            Word::Fail => {
                let why = answer.text("reason").unwrap_or_else(|| "it could not look the user up".to_owned());
                Verdict::Unavailable(why)
            }
            _ => Verdict::Unavailable("its answer is none to a lookup".to_owned()),
        }
    }

    async fn list(&self) -> Option<Result<Vec<String>, String>> {
        Some(list::names(self.lookup_socket.as_ref()?).await)
    }
}

fn granted(grant: Grant) -> Verdict {
    Verdict::Granted(Box::new(grant))
}

/// What it means that there is no answer.
fn without(fault: Fault, too_long: Verdict) -> Verdict {
    match fault {
        Fault::Lost => Verdict::Unavailable("the connection was lost".to_owned()),
        Fault::Unreachable(why) => Verdict::Unavailable(why),
        Fault::TooLong => too_long,
    }
}

/// The password is right.
fn allowed(answer: &Answer, question: &Question<'_>) -> Verdict {
    match known(answer, &question.credentials.user, true) {
        Ok((grant, extra)) => extra.forbids().map_or_else(|| granted(grant), Verdict::Denied),
        Err(why) => Verdict::Faulty(why),
    }
}

/// What the answer says of the user. Its texts never quote a value.
fn known(answer: &Answer, given: &str, logs_in: bool) -> Result<(Grant, Extra), String> {
    let (mut extra, mut user) = (Extra::default(), canonical(given));
    for (name, value) in answer.fields.iter().map(text::Field::pair) {
        match name {
            b"user" => user = user_name(value)?,
            _ => {
                let Ok(name) = std::str::from_utf8(name) else { continue };
                extra.take(name, value).map_err(|fault| format!("{user}: {fault}"))?;
            }
        }
    }
    if logs_in {
        extra = extra.finished().map_err(|fault| format!("{user}: {fault}"))?;
    }
    let fields = std::mem::take(&mut extra.fields);
    Ok((Grant { user: User::new(user), unproven: extra.nopassword, master: None, fields }, extra))
}

fn user_name(value: &[u8]) -> Result<String, String> {
    let name = std::str::from_utf8(value).ok();
    let fits = |name: &&str| !name.is_empty() && name.len() <= MAX_USER && !name.contains(char::is_control);
    name.filter(fits).map(str::to_owned).ok_or_else(|| "its answer has a user name that cannot be one".to_owned())
}

/// A login. Its message must be the last field.
fn login(question: &Question<'_>, mechanism: Mechanism, message: &str, penalty: bool) -> Request {
    let mut rest = Zeroizing::new(Vec::with_capacity(text::MAX_REQUEST)); // never grows: no copy of a password stays
    if question.secured {
        flag(&mut rest, "secured");
    }
    if !penalty {
        flag(&mut rest, "no-penalty");
    }
    if let Some(name) = certified(question) {
        flag(&mut rest, "valid-client-cert");
        put(&mut rest, "cert_username", name.as_bytes());
    }
    put(&mut rest, "session", question.session.to_string().as_bytes());
    addresses(&mut rest, ["lip", "lport"], question.local);
    addresses(&mut rest, ["rip", "rport"], question.client);
    if let Some((peer, local)) = question.around.via {
        addresses(&mut rest, ["real_lip", "real_lport"], local);
        addresses(&mut rest, ["real_rip", "real_rport"], peer);
    }
    if let Some(name) = question.around.server_name {
        put(&mut rest, "local_name", name.as_bytes());
    }
    rest.extend_from_slice(b"\tresp=");
    rest.extend_from_slice(message.as_bytes());
    Request { verb: "AUTH", subject: mechanism.name().to_owned(), service: question.service.word(), rest }
}

/// The name in the client's certificate: the user's, where it is what the client logs in by.
fn certified<'a>(question: &Question<'a>) -> Option<&'a str> {
    match question.credentials.mechanism {
        Mechanism::External => Some(&question.credentials.user),
        _ => question.around.tls.filter(|tls| tls.verified).map(|tls| tls.common_name.as_deref().unwrap_or_default()),
    }
}

/// How it is asked: passwords by PLAIN, however they came.
fn mechanism(credentials: &Credentials) -> Mechanism {
    match (&credentials.proof, credentials.mechanism) {
        (Proof::Password(_), _) => Mechanism::Plain,
        (_, other) => other,
    }
}

/// What proves it, in base64: RFC 4616, 7628, Google's XOAUTH2, 4422 appendix A. `None` for what it cannot check.
fn message(credentials: &Credentials) -> Option<Zeroizing<String>> {
    let Credentials { user, authzid, proof, mechanism } = credentials;
    let authzid = authzid.as_deref().unwrap_or_default();
    let (head, rest): (String, &[u8]) = match (proof, mechanism) {
        (Proof::Password(password), _) => (format!("{authzid}\0{user}\0"), password.expose()),
        (Proof::Token(token), Mechanism::OAuthBearer) => {
            (format!("n,a={},\x01auth=Bearer ", user.replace('=', "=3D").replace(',', "=2C")), token.expose())
        }
        (Proof::Token(token), Mechanism::XOAuth2) => (format!("user={user}\x01auth=Bearer "), token.expose()),
        (Proof::Proven, Mechanism::External) => (authzid.to_owned(), b""),
        _ => return None,
    };
    let end: &[u8] = if mechanism.is_by_token() { b"\x01\x01" } else { b"" };
    let message = Zeroizing::new([head.as_bytes(), rest, end].concat());
    Some(Zeroizing::new(STANDARD.encode(&*message)))
}

/// A lookup of somebody who does not log in.
fn pass(lookup: &Lookup<'_>) -> Request {
    let mut rest = Zeroizing::new(Vec::new());
    put(&mut rest, "session", lookup.session.to_string().as_bytes());
    addresses(&mut rest, ["lip", "lport"], lookup.local);
    addresses(&mut rest, ["rip", "rport"], lookup.client);
    Request { verb: "PASS", subject: lookup.user.to_owned(), service: lookup.service.word(), rest }
}

fn addresses(rest: &mut Vec<u8>, [ip, port]: [&str; 2], address: std::net::SocketAddr) {
    put(rest, ip, address.ip().to_string().as_bytes());
    put(rest, port, address.port().to_string().as_bytes());
}
