//! The one line about a connection, written when it is over.

use std::net::SocketAddr;
use std::time::Instant;

use tracing::{debug, info};

use crate::model::{BackendId, Ending, Key, Mechanism, Phase, Protocol, Refusal, SessionId};
use crate::relay::Outcome;
use crate::telemetry::names;

/// Why a connection ended, and what else the operator should know about it.
pub(super) type End = (Ending, Option<String>);

/// What is known about a connection. Writes its line at the end; when it is dropped at the latest, so that none is
/// forgotten.
pub(super) struct Record {
    pub(super) session: SessionId,
    pub(super) protocol: Protocol,
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    /// Version of TLS, if any.
    pub(super) tls: Option<String>,
    pub(super) login: Option<Login>,
    /// The mail that it brought.
    pub(super) mailed: Option<Mailed>,
    /// The last refusal of a login.
    pub(super) refusal: Option<Refusal>,
    /// How many logins were tried.
    pub(super) attempt: u32,
    /// A passdb has found the password, or what there was in its place, right in this login.
    pub(super) proven: bool,
    began: Instant,
    phase: Phase,
    told: bool,
    in_bytes: u64,
    out_bytes: u64,
}

/// The mail that a connection brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mailed {
    pub(super) messages: u64,
    /// Those that got them.
    pub(super) recipients: u64,
    pub(super) bytes: u64,
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
    pub(super) fn new(protocol: Protocol, client: SocketAddr, local: SocketAddr) -> Self {
        Self {
            session: SessionId::random(),
            protocol,
            client,
            local,
            tls: None,
            login: None,
            mailed: None,
            refusal: None,
            attempt: 0,
            proven: false,
            began: Instant::now(),
            phase: Phase::Header,
            told: false,
            in_bytes: 0,
            out_bytes: 0,
        }
    }

    /// It is that far now.
    pub(super) fn reached(&mut self, phase: Phase) {
        self.phase = phase;
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The connection has ended, in the present phase. The first end counts.
    pub(super) fn end(&mut self, (ending, detail): End) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let detail = detail.as_deref().unwrap_or_default();
        match (&self.login, &self.mailed) {
            (Some(login), _) => self.tell_session(login, ending),
            (None, Some(mailed)) => self.tell_mail(mailed, ending, detail),
            (None, None) => self.tell_visit(ending, detail),
        }
    }

    /// The relay has ended.
    pub(super) fn relayed(&mut self, outcome: Outcome) {
        (self.in_bytes, self.out_bytes) = (outcome.in_bytes, outcome.out_bytes);
        self.end((outcome.ending, None));
    }

    /// The line of a session, for operators to count.
    fn tell_session(&self, login: &Login, ending: Ending) {
        info!(
            { names::SESSION } = %self.session,
            { names::PROTOCOL } = self.protocol.word(),
            { names::USER } = %login.user,
            { names::KEY } = %login.key,
            { names::MECHANISM } = login.mechanism.name(),
            { names::CLIENT } = %self.client,
            { names::LOCAL } = %self.local,
            { names::TLS } = self.tls.as_deref().unwrap_or("none"),
            { names::BACKEND } = %login.backend,
            { names::BACKEND_ADDRESS } = %login.address,
            { names::IN_BYTES } = self.in_bytes,
            { names::OUT_BYTES } = self.out_bytes,
            { names::DURATION_MS } = self.duration_ms(),
            { names::ENDING } = ending.word(),
            { names::WHO } = ending.who().word(),
            { names::PHASE } = self.phase.word(),
            "session"
        );
    }

    /// The line of a connection that brought mail, or might have.
    fn tell_mail(&self, mailed: &Mailed, ending: Ending, detail: &str) {
        info!(
            { names::SESSION } = %self.session,
            { names::PROTOCOL } = self.protocol.word(),
            { names::CLIENT } = %self.client,
            { names::LOCAL } = %self.local,
            { names::TLS } = self.tls.as_deref().unwrap_or("none"),
            { names::MESSAGES } = mailed.messages,
            { names::RECIPIENTS } = mailed.recipients,
            { names::IN_BYTES } = mailed.bytes,
            { names::DURATION_MS } = self.duration_ms(),
            { names::ENDING } = ending.word(),
            { names::WHO } = ending.who().word(),
            { names::PHASE } = self.phase.word(),
            { names::DETAIL } = detail,
            "session"
        );
    }

    /// The line of a connection that never logged in: of interest only if the client tried, or something was amiss.
    fn tell_visit(&self, ending: Ending, detail: &str) {
        let refusal = self.refusal.map_or("none", Refusal::word);
        let tls = self.tls.as_deref().unwrap_or("none");
        macro_rules! tell {
            ($level:ident) => {
                $level!(
                    { names::SESSION } = %self.session,
                    { names::PROTOCOL } = self.protocol.word(),
                    { names::CLIENT } = %self.client,
                    { names::LOCAL } = %self.local,
                    { names::TLS } = tls,
                    { names::REFUSAL } = refusal,
                    { names::DURATION_MS } = self.duration_ms(),
                    { names::ENDING } = ending.word(),
                    { names::WHO } = ending.who().word(),
                    { names::PHASE } = self.phase.word(),
                    { names::DETAIL } = detail,
                    "no login"
                )
            };
        }
        // Of those turned away there may be very many; `Connections` tells how many.
        let usual = matches!(ending, Ending::ClientClosed | Ending::ClientLost | Ending::Overloaded);
        let harmless = usual && self.refusal.is_none();
        if harmless { tell!(debug) } else { tell!(info) }
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Without an end the task was cut off, because the process goes down.
        self.end((Ending::Shutdown, None));
    }
}
