//! A policy server is asked whether a login is welcome and told how it ended, by the protocol of Dovecot's auth-policy, which
//! weakforced speaks. All that is known is there: a fleet needs nothing of its own for it.
//!
//! While it does not answer, logins go on (or not, as the operator says) after a bounded wait; soon they no longer wait.

mod login;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::link::{Breaker, Change, Complaints};
use super::web::{Web, secret_header};
use super::{Grant, Question};
use crate::config::{AuthPolicyConfig, WebUrl};
use crate::model::{Refusal, Secret, SessionId};
use login::Login;

/// Longest answer.
const MAX_ANSWER: usize = 64 * 1024;

/// Reports under way; more are lost, which is written about.
const MAX_REPORTS: usize = 512;

/// After so many failures in a row the server is asked only once per pause until it answers.
const FAILURES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// One policy server.
pub(super) struct Policy {
    config: AuthPolicyConfig,
    place: String,
    allow: WebUrl,
    report: WebUrl,
    header: Option<(HeaderName, HeaderValue)>,
    web: Web,
    breaker: Breaker,
    reports: Arc<Semaphore>,
    complaints: Complaints,
}

/// What the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Welcome,
    /// After so many seconds.
    Later(u64),
    Unwelcome,
}

/// How a login ended, for the server.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    success: bool,
    rejected: bool,
}

impl Policy {
    /// `None` if there is no server.
    ///
    /// # Errors
    /// Its authorities cannot be read, or its header is none.
    pub(super) fn new(config: &AuthPolicyConfig) -> Result<Option<Arc<Self>>, String> {
        let Some(url) = &config.server_url else { return Ok(None) };
        let header = config.server_api_header.as_ref().map(|line| header(line)).transpose()?;
        let web = Web::new(config.tls_ca.as_deref(), config.tls_verify, url.is_tls(), config.server_timeout)?;
        Ok(Some(Arc::new(Self {
            place: format!("policy server {}", url.place()),
            allow: url.with("command=allow"),
            report: url.with("command=report"),
            header,
            web,
            breaker: Breaker::new(FAILURES, PAUSE),
            reports: Arc::new(Semaphore::new(MAX_REPORTS)),
            complaints: Complaints::default(),
            config: config.clone(),
        })))
    }

    /// Asks before and after `decide`, and reports. `name` is whose password it is.
    pub(super) async fn surround(
        self: &Arc<Self>,
        name: &str,
        question: &Question<'_>,
        decide: impl Future<Output = Result<Grant, Refusal>>,
    ) -> Result<Grant, Refusal> {
        let login = Login::new(&self.config, name, question);
        if self.config.check_before_auth && !self.admits(&login, question.session).await {
            self.tell(&login, Outcome { success: false, rejected: true }, question.session);
            return Err(Refusal::BadCredentials);
        }
        let decided = decide.await;
        if decided.is_ok() && self.config.check_after_auth && !self.admits(&login, question.session).await {
            self.tell(&login, Outcome { success: false, rejected: true }, question.session);
            return Err(Refusal::BadCredentials);
        }
        match &decided {
            // Who is unproven will be known when the backend has answered.
            Ok(grant) if grant.unproven => {}
            Ok(_) => self.tell(&login, Outcome { success: true, rejected: false }, question.session),
            Err(Refusal::BadCredentials | Refusal::Forbidden) => {
                self.tell(&login, Outcome { success: false, rejected: false }, question.session);
            }
            // That nobody could answer says nothing about the client.
            Err(_) => {}
        }
        decided
    }

    /// Reports what a backend has decided.
    pub(super) fn settle(self: &Arc<Self>, name: &str, question: &Question<'_>, success: bool) {
        let login = Login::new(&self.config, name, question);
        self.tell(&login, Outcome { success, rejected: false }, question.session);
    }

    /// Waits as long as the server says.
    async fn admits(&self, login: &Login, session: &SessionId) -> bool {
        let word = match self.ask(login).await {
            Ok(word) => word,
            Err(why) => {
                self.complaints.add(&self.place, &why, session);
                if self.config.reject_on_fail { Word::Unwelcome } else { Word::Welcome }
            }
        };
        if self.config.log_only {
            if word != Word::Welcome {
                tracing::info!(%session, "{} says {word:?}, which is not obeyed: log_only", self.place);
            }
            return true;
        }
        match word {
            Word::Welcome => true,
            Word::Later(seconds) => {
                tokio::time::sleep(Duration::from_secs(seconds).min(self.config.max_delay)).await;
                true
            }
            Word::Unwelcome => {
                tracing::info!(%session, "the {} turns the login away", self.place);
                false
            }
        }
    }

    async fn ask(&self, login: &Login) -> Result<Word, String> {
        let pass = self.breaker.admit().ok_or("it is not asked, because it failed several times in a row")?;
        let answer = self.post(&self.allow, login.json(None)).await.and_then(|body| word(&body));
        let change = if answer.is_ok() { pass.succeeded() } else { pass.failed() };
        match change {
            Change::None => {}
            Change::Opened => tracing::error!("{} failed several times in a row: it is asked seldom", self.place),
            Change::Closed => tracing::info!("{} answers again", self.place),
        }
        answer
    }

    /// In the background, and not forever.
    fn tell(self: &Arc<Self>, login: &Login, outcome: Outcome, session: &SessionId) {
        if !self.config.report_after_auth {
            return;
        }
        let Ok(turn) = Arc::clone(&self.reports).try_acquire_owned() else {
            self.complaints.add(&self.place, "it is slow: reports of logins are lost", session);
            return;
        };
        let (policy, session, body) = (Arc::clone(self), session.clone(), login.json(Some(outcome)));
        tokio::spawn(async move {
            if let Err(why) = policy.post(&policy.report, body).await {
                policy.complaints.add(&policy.place, &why, &session);
            }
            drop(turn);
        });
    }

    async fn post(&self, url: &WebUrl, body: String) -> Result<Vec<u8>, String> {
        let mut request = self.web.post(url).await?.header("Content-Type", "application/json").body(body);
        if let Some((name, value)) = &self.header {
            request = request.header(name, value);
        }
        let reply = self.web.send(request, MAX_ANSWER).await?;
        if !reply.status.is_success() {
            return Err(format!("it answers {}", reply.status));
        }
        Ok(reply.body.to_vec())
    }
}

/// As Dovecot reads it: without a colon it is the value of X-API-Key.
fn header(line: &Secret) -> Result<(HeaderName, HeaderValue), String> {
    let line = line.expose();
    match line.iter().position(|byte| *byte == b':') {
        Some(at) => {
            let name = std::str::from_utf8(&line[..at]).map_err(|_| "the header's name is not ASCII".to_owned())?;
            secret_header(name, &line[at + 1..])
        }
        None => secret_header("X-API-Key", line),
    }
}

fn word(body: &[u8]) -> Result<Word, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "its answer is not JSON".to_owned())?;
    let status = answer.get("status").and_then(Value::as_i64).ok_or("its answer has no status")?;
    Ok(match status {
        0 => Word::Welcome,
        seconds @ 1.. => Word::Later(seconds.unsigned_abs()),
        _ => Word::Unwelcome,
    })
}
