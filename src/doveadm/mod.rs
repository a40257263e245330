//! Asks a mail server, by Dovecot's doveadm: over its TCP protocol or its HTTP API.
//!
//! Who is there is asked for two purposes: after a kick it tells when the last process of a user has gone, which our own
//! end of the connection cannot know for sure; and the audit holds it against the proxies' ledgers. `wire.rs` has the
//! words, without I/O.
//!
//! `running.rs` and `calling.rs` have a server carry out what somebody asked of us, over TCP and over HTTP; what is said then
//! is in `protocol/doveadm`.

mod calling;
mod running;
mod tcp;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use crate::config::{DoveadmConfig, DoveadmCredential, Endpoint};
use crate::model::Secret;
use crate::net::{Proof, Target, TargetFault, TlsFault};
use crate::protocol::doveadm::split_answer;
pub use crate::protocol::doveadm::{escape, unescape};
pub use calling::{Calling, Portion};
pub use running::{Piece, Running};
pub use wire::{Garbled, Presence, rows, rows_of_json};

/// The longest answer that is read: some hundred thousand connections.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
/// Between two questions whether somebody has gone: at first, and at most. A session usually ends within milliseconds, but
/// each answer lists everybody who is there.
const LOOKS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// One mail server's doveadm.
pub struct Doveadm {
    target: Target,
    http: bool,
    credential: DoveadmCredential,
    timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DoveadmFault {
    /// Nobody can be asked there.
    #[error("{place} {fault}")]
    Unreachable {
        /// Where.
        place: String,
        /// What happened.
        fault: TargetFault,
    },
    /// The connection broke, or the server closed it.
    #[error("{place} broke off: {source}")]
    Lost {
        /// Where.
        place: String,
        /// How.
        source: std::io::Error,
    },
    /// No whole answer came in time.
    #[error("{place} does not answer within {limit:?}")]
    Silent {
        /// Where.
        place: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The password or key is wrong.
    #[error("{place} does not take our {what}; it must be the server's own {setting}")]
    Denied {
        /// Where.
        place: String,
        /// "password" or "key".
        what: &'static str,
        /// Dovecot's name for it.
        setting: &'static str,
    },
    /// It understood, and will not or cannot say.
    #[error("{place} refuses to answer: {why}")]
    Refused {
        /// Where.
        place: String,
        /// Its code.
        why: String,
    },
    /// What came is no answer to the question.
    #[error("{place} does not answer as doveadm does: {why}")]
    Garbled {
        /// Where.
        place: String,
        /// What is wrong.
        why: Garbled,
    },
}

impl DoveadmFault {
    /// Asking again may help.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { fault: TargetFault::Unreachable(_) | TargetFault::Broken(_), .. }
                | Self::Lost { .. }
                | Self::Silent { .. }
        )
    }
}

impl Doveadm {
    /// Fails if the authorities for TLS cannot be read.
    pub fn new(config: &DoveadmConfig) -> Result<Self, TlsFault> {
        let (ca, name) = (config.tls_ca.as_deref(), config.tls_name.as_deref());
        let proof = config.url.is_tls().then_some(Proof { ca, name, verify: config.tls_verify });
        let endpoint = Endpoint { path: wire::HTTP_PATH.to_owned(), ..config.url.endpoint().clone() };
        Ok(Self {
            target: Target::new(endpoint, proof)?,
            http: config.url.is_http(),
            credential: config.credential.clone(),
            timeout: config.timeout,
        })
    }

    /// All sessions: a line for each user and service. The names are the server's, which need not be the fleet's: so
    /// there is no question for one user.
    pub async fn who(&self) -> Result<Vec<Presence>, DoveadmFault> {
        self.who_within(self.timeout).await
    }

    /// Asks until no user who is `meant` has a session left, or until the deadline. Returns those that were left when last
    /// heard of: none, if all went well. Fails if nothing was heard at all, or asking again cannot help.
    pub async fn until_gone(
        &self,
        meant: impl Fn(&str) -> bool,
        deadline: Instant,
    ) -> Result<Vec<Presence>, DoveadmFault> {
        let [mut pause, longest] = LOOKS;
        let mut left = None;
        loop {
            let limit = deadline.saturating_duration_since(Instant::now()).min(self.timeout);
            let mut answer = self.who_within(limit).await;
            if let Ok(present) = &mut answer {
                present.retain(|row| meant(&row.user));
            }
            let last = Instant::now() + pause >= deadline;
            match answer {
                Ok(present) if present.is_empty() || last => return Ok(present),
                Ok(present) => left = Some(present),
                Err(fault) if last || !fault.is_temporary() => return left.ok_or(fault),
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn who_within(&self, limit: Duration) -> Result<Vec<Presence>, DoveadmFault> {
        let asking = async { if self.http { self.ask_http().await } else { self.ask_tcp().await } };
        let rows =
            timeout(limit, asking).await.map_err(|_| DoveadmFault::Silent { place: self.target.place(), limit })??;
        Ok(wire::present(rows))
    }

    async fn ask_tcp(&self) -> Result<Vec<wire::Row>, DoveadmFault> {
        let line = self.line(wire::TCP_QUESTION).await?;
        rows(&line).map_err(|why| self.garbled(why))
    }

    /// One question over TCP that is answered with one line.
    async fn line(&self, question: &[u8]) -> Result<Vec<u8>, DoveadmFault> {
        let mut stream = self.target.connect().await.map_err(|fault| self.unreachable(fault))?;
        tcp::ask(&mut stream, self.password()?, question, ANSWER_MAX).await.map_err(|fault| self.told(fault))
    }

    fn password(&self) -> Result<&Secret, DoveadmFault> {
        match &self.credential {
            DoveadmCredential::Password(password) => Ok(password),
            DoveadmCredential::ApiKey(_) => Err(self.denied()), // the configuration demands a password for TCP
        }
    }

    async fn ask_http(&self) -> Result<Vec<wire::Row>, DoveadmFault> {
        let body = self.post(wire::HTTP_QUESTION.to_vec(), ANSWER_MAX).await?;
        match rows_of_json(&body) {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(why)) => Err(DoveadmFault::Refused { place: self.target.place(), why }),
            Err(why) => Err(self.garbled(why)),
        }
    }

    /// The names of all users that fit a mask, as far as the server can list them.
    pub async fn users(&self, mask: &str) -> Result<Vec<String>, DoveadmFault> {
        let limit = self.timeout;
        let asking = async {
            if !self.http {
                let line = self.line(&wire::users_question(mask)).await?;
                return wire::users(&line).map_err(|why| self.garbled(why));
            }
            let body = self.post(wire::users_http_question(mask).into(), ANSWER_MAX).await?;
            match split_answer(&body) {
                Ok(Ok(list)) => wire::users(list.to_string().as_bytes()).map_err(|why| self.garbled(why)),
                Ok(Err((why, _))) => Err(DoveadmFault::Refused { place: self.target.place(), why }),
                Err(_) => Err(self.garbled(Garbled("the JSON is none, or of another form"))),
            }
        };
        timeout(limit, asking).await.map_err(|_| DoveadmFault::Silent { place: self.target.place(), limit })?
    }

    /// Posts to the HTTP API, and reads the whole answer.
    async fn post(&self, body: Vec<u8>, most: usize) -> Result<Bytes, DoveadmFault> {
        let answer = self.target.post(self.request(body), most).await;
        let (status, body) = answer.map_err(|fault| self.unreachable(fault))?;
        self.must_be_ok(status)?;
        if body.len() == most { Err(self.garbled(Garbled("the answer is too long"))) } else { Ok(body) }
    }

    fn request(&self, body: Vec<u8>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    fn must_be_ok(&self, status: StatusCode) -> Result<(), DoveadmFault> {
        match status {
            StatusCode::OK => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied()),
            status => Err(DoveadmFault::Refused { place: self.target.place(), why: status.to_string() }),
        }
    }

    fn authorization(&self) -> HeaderValue {
        let text = match &self.credential {
            DoveadmCredential::Password(password) => {
                let login = Zeroizing::new([b"doveadm:", password.expose()].concat());
                Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*login))))
            }
            DoveadmCredential::ApiKey(key) => {
                Zeroizing::new(format!("X-Dovecot-API {}", *Zeroizing::new(STANDARD.encode(key.expose()))))
            }
        };
        // Base64 is always fit for a header. hyper copies it once more when it writes.
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(Wiped(text)));
        let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    fn told(&self, fault: tcp::Fault) -> DoveadmFault {
        let place = self.target.place();
        match fault {
            tcp::Fault::Denied => self.denied(),
            tcp::Fault::Refused(why) => DoveadmFault::Refused { place, why },
            tcp::Fault::Garbled(why) => DoveadmFault::Garbled { place, why },
            tcp::Fault::Lost(source) => DoveadmFault::Lost { place, source },
        }
    }

    fn unreachable(&self, fault: TargetFault) -> DoveadmFault {
        DoveadmFault::Unreachable { place: self.target.place(), fault }
    }

    fn denied(&self) -> DoveadmFault {
        let (what, setting) = match self.credential {
            DoveadmCredential::Password(_) => ("password", "doveadm_password"),
            DoveadmCredential::ApiKey(_) => ("key", "doveadm_api_key"),
        };
        DoveadmFault::Denied { place: self.target.place(), what, setting }
    }

    fn garbled(&self, why: Garbled) -> DoveadmFault {
        DoveadmFault::Garbled { place: self.target.place(), why }
    }
}

/// A header's bytes that are wiped when the last who holds them drops them.
struct Wiped(Zeroizing<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
