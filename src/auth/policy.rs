//! A policy server is asked whether a login is welcome and told how it ended, by the protocol of Dovecot's auth-policy, which
//! weakforced speaks. All that is known is there: a fleet needs nothing of its own for it.
//!
//! While it does not answer, logins go on (or not, as the operator says) after a bounded wait; soon they no longer wait.

mod login;
mod stats;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::link::{Breaker, Change, Complaints};
use super::links::Told;
use super::web::{Web, header_line, secret_header};
use super::{Grant, Question, Refused};
use crate::config::{AuthPolicyConfig, WebUrl};
use crate::model::{Refusal, Secret, SessionId};
use login::Login;
use stats::Counters;

pub use stats::PolicyStats;

/// Longest answer.
const MAX_ANSWER: usize = 64 * 1024;

/// Longest text for a client, in letters.
const MAX_WORDS: usize = 200;

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
    counters: Counters,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Welcome,
    /// After so many seconds.
    Later(u64),
    /// With what the client is told instead of our own words.
    Unwelcome(Option<String>),
}

/// When it is asked. A delay is for guesses: whose password was right waits no more (as in Dovecot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// How a login ended, for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    /// The password was wrong, or nobody has that name.
    Credentials,
    /// The user may not log in.
    Disabled,
    /// The server itself did not want it.
    Unwelcome,
}

impl Outcome {
    /// `None` if it is not known, or not yet.
    fn of(outcome: &Result<Grant, Refused>) -> Option<Self> {
        match outcome.as_ref().map_err(|refused| refused.refusal) {
            // Who is unproven will be known when the backend has answered.
            Ok(grant) => (!grant.unproven).then_some(Self::Success),
            Err(Refusal::BadCredentials) => Some(Self::Credentials),
            Err(Refusal::Forbidden) => Some(Self::Disabled),
            // That nobody could answer says nothing about the client.
            Err(_) => None,
        }
    }

    /// As Dovecot's %{fail_type}.
    fn fail_type(self) -> &'static str {
        match self {
            Self::Success => "",
            Self::Credentials => "credentials",
            Self::Disabled => "disabled",
            Self::Unwelcome => "policy",
        }
    }
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
            counters: Counters::default(),
            config: config.clone(),
        })))
    }

    /// Asks before and after `decide`, and reports. `name` is whose password it is.
    pub(super) async fn surround(
        self: &Arc<Self>,
        name: &str,
        question: &Question<'_>,
        decide: impl Future<Output = Told>,
    ) -> Told {
        let login = Login::new(&self.config, name, question);
        if self.config.check_before_auth
            && let Err(refused) = self.admits(&login, Moment::Before, question.session).await
        {
            self.tell(&login, Outcome::Unwelcome, question.session);
            return Told { outcome: Err(refused), by: None };
        }
        let told = decide.await;
        let login = match &told.outcome {
            // Now the token has said whose it is.
            Ok(grant) if name.is_empty() => Login::new(&self.config, grant.user.as_str(), question),
            _ => login,
        };
        if told.outcome.is_ok()
            && self.config.check_after_auth
            && let Err(refused) = self.admits(&login, Moment::After, question.session).await
        {
            self.tell(&login, Outcome::Unwelcome, question.session);
            return Told { outcome: Err(refused), by: told.by };
        }
        if let Some(outcome) = Outcome::of(&told.outcome) {
            self.tell(&login, outcome, question.session);
        }
        told
    }

    /// Reports what a backend has decided.
    pub(super) fn settle(self: &Arc<Self>, name: &str, question: &Question<'_>, success: bool) {
        let login = Login::new(&self.config, name, question);
        let outcome = if success { Outcome::Success } else { Outcome::Credentials };
        self.tell(&login, outcome, question.session);
    }

    /// What it was asked since it was configured, and what it said.
    pub(super) fn stats(&self) -> PolicyStats {
        let Self { place, breaker, counters, .. } = self;
        counters.read(place.clone(), !breaker.is_closed())
    }

    /// Waits as long as the server says, before the password is checked.
    async fn admits(&self, login: &Login, moment: Moment, session: &SessionId) -> Result<(), Refused> {
        let word = match self.ask(login).await {
            Ok(word) => word,
            Err(why) => {
                self.complaints.add(&self.place, &why, session);
                if self.config.reject_on_fail && !self.config.log_only {
                    return Err(Refusal::PassdbUnavailable.into()); // nobody has guessed anything
                }
                Word::Welcome
            }
        };
        if self.config.log_only {
            if word != Word::Welcome {
                tracing::info!(%session, "the {} says {word:?}, which is not obeyed: log_only", self.place);
            }
            return Ok(());
        }
        match word {
            Word::Later(seconds) if moment == Moment::Before => {
                tokio::time::sleep(Duration::from_secs(seconds).min(self.config.max_delay)).await;
                Ok(())
            }
            Word::Welcome | Word::Later(_) => Ok(()),
            Word::Unwelcome(words) => {
                let why = words.as_deref().unwrap_or("without a word");
                tracing::info!(%session, "the {} turns the login away: {why:?}", self.place);
                Err(Refused { words, ..Refusal::BadCredentials.into() })
            }
        }
    }

    async fn ask(&self, login: &Login) -> Result<Word, String> {
        let Some(pass) = self.breaker.admit() else {
            self.counters.note(None);
            return Err("it is not asked, because it failed several times in a row".to_owned());
        };
        let answer = self.post(&self.allow, login.json(None)).await.and_then(|body| word(&body));
        self.counters.note(answer.as_ref().ok());
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
            self.counters.note_report(false);
            self.complaints.add(&self.place, "it is slow: reports of logins are lost", session);
            return;
        };
        let (policy, session, body) = (Arc::clone(self), session.clone(), login.json(Some(outcome)));
        tokio::spawn(async move {
            let told = policy.post(&policy.report, body).await;
            policy.counters.note_report(told.is_ok());
            if let Err(why) = told {
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
    if line.expose().contains(&b':') { header_line(line) } else { secret_header("X-API-Key", line.expose()) }
}

fn word(body: &[u8]) -> Result<Word, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "its answer is not JSON".to_owned())?;
    let status = answer.get("status").and_then(Value::as_i64).ok_or("its answer has no status")?;
    Ok(match status {
        0 => Word::Welcome,
        seconds @ 1.. => Word::Later(seconds.unsigned_abs()),
        _ => Word::Unwelcome(answer.get("msg").and_then(Value::as_str).and_then(told)),
    })
}

/// What can be told to a client, if there is anything.
fn told(msg: &str) -> Option<String> {
    let words: String = msg.chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect();
    Some(words).filter(|words| !words.trim().is_empty())
}
