//! The one line about a connection, written when it is over.

use std::net::SocketAddr;
use std::time::Instant;

use tracing::{debug, info};

use crate::model::{BackendId, Ending, Key, Mechanism, Phase, Refusal, SessionId};
use crate::relay::Outcome;

/// What is known about a connection, and why it ended. Writes its line when it is dropped, so that none is forgotten.
pub(super) struct Record {
    pub(super) session: SessionId,
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    /// Version of TLS, if any.
    pub(super) tls: Option<String>,
    pub(super) login: Option<Login>,
    /// The last refusal of a login.
    pub(super) refusal: Option<Refusal>,
    began: Instant,
    end: Option<(Ending, Phase)>,
    detail: Option<String>,
    in_bytes: u64,
    out_bytes: u64,
}

/// Who logged in, and where to.
pub(super) struct Login {
    pub(super) user: Box<str>,
    pub(super) key: Key,
    pub(super) mechanism: Mechanism,
    pub(super) backend: BackendId,
    pub(super) address: SocketAddr,
}

impl Record {
    pub(super) fn new(client: SocketAddr, local: SocketAddr) -> Self {
        Self {
            session: SessionId::random(),
            client,
            local,
            tls: None,
            login: None,
            refusal: None,
            began: Instant::now(),
            end: None,
            detail: None,
            in_bytes: 0,
            out_bytes: 0,
        }
    }

    /// The connection has ended. The first end counts.
    pub(super) fn end(&mut self, ending: Ending, phase: Phase, detail: Option<String>) {
        if self.end.is_none() {
            self.end = Some((ending, phase));
            self.detail = detail;
        }
    }

    /// The relay has ended.
    pub(super) fn relayed(&mut self, outcome: Outcome) {
        (self.in_bytes, self.out_bytes) = (outcome.in_bytes, outcome.out_bytes);
        self.end(outcome.ending, Phase::Relay, None);
    }

    /// The line of a session, for operators to count.
    fn tell_session(&self, login: &Login, ending: Ending, phase: Phase) {
        info!(
            session = %self.session,
            protocol = "imap",
            user = %login.user,
            key = %login.key,
            mechanism = login.mechanism.name(),
            client = %self.client,
            local = %self.local,
            tls = self.tls.as_deref().unwrap_or("none"),
            backend = %login.backend,
            backend_address = %login.address,
            in_bytes = self.in_bytes,
            out_bytes = self.out_bytes,
            duration_ms = self.duration_ms(),
            ending = ending.word(),
            who = ending.who().word(),
            phase = phase.word(),
            "session"
        );
    }

    /// The line of a connection that never logged in: of interest only if the client tried, or something was amiss.
    fn tell_visit(&self, ending: Ending, phase: Phase) {
        let refusal = self.refusal.map_or("none", Refusal::word);
        let tls = self.tls.as_deref().unwrap_or("none");
        let detail = self.detail.as_deref().unwrap_or("");
        macro_rules! tell {
            ($level:ident) => {
                $level!(
                    session = %self.session,
                    protocol = "imap",
                    client = %self.client,
                    local = %self.local,
                    tls,
                    refusal,
                    duration_ms = self.duration_ms(),
                    ending = ending.word(),
                    who = ending.who().word(),
                    phase = phase.word(),
                    detail,
                    "no login"
                )
            };
        }
        let harmless = matches!(ending, Ending::ClientClosed | Ending::ClientLost) && self.refusal.is_none();
        if harmless { tell!(debug) } else { tell!(info) }
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Without an end the task was cut off, because the process goes down.
        let phase = if self.login.is_some() { Phase::Relay } else { Phase::Preauth };
        let (ending, phase) = self.end.unwrap_or((Ending::Shutdown, phase));
        match &self.login {
            Some(login) => self.tell_session(login, ending, phase),
            None => self.tell_visit(ending, phase),
        }
    }
}
