//! Why a backend could not be used, and how each attempt of a real user went.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use super::dial::LookupFault;
use crate::model::{BackendId, Ending, Protocol};
use crate::net::TlsFault;
use crate::protocol::{BackendRefusal, Violation};

/// What the kernel says when it is this machine that cannot open one more connection, to whomever.
const OURS: [i32; 5] = [
    Errno::MFILE.raw_os_error(),
    Errno::NFILE.raw_os_error(),
    Errno::NOBUFS.raw_os_error(),
    Errno::NOMEM.raw_os_error(),
    Errno::ADDRNOTAVAIL.raw_os_error(), // no local port is left
];

/// Why a backend could not be used. `Lost` and `Dial` are tried again on the same backend; the rest needs the
/// operator or the user.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TCP connection.
    #[error("backend {backend} cannot be reached at {host}:{port}")]
    Dial {
        /// Which.
        backend: BackendId,
        /// Configured host.
        host: String,
        /// Configured port.
        port: u16,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the login was answered.
    #[error("backend {backend} closed before it had answered the login")]
    Lost {
        /// Which.
        backend: BackendId,
        /// Cause, unless it closed in good order.
        #[source]
        source: Option<io::Error>,
    },
    /// It did not answer in time.
    #[error("backend {backend} gave no {awaited} within {limit:?}")]
    Slow {
        /// Which.
        backend: BackendId,
        /// What was awaited: "greeting".
        awaited: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// TLS could not be had.
    #[error("backend {backend}: TLS failed; check tls, tls_ca and tls_name in [backend.{backend}]")]
    Tls {
        /// Which.
        backend: BackendId,
        /// Cause.
        #[source]
        source: TlsFault,
    },
    /// It does not speak as it should, or does not offer what the configuration demands.
    #[error("backend {backend}: {violation}")]
    Protocol {
        /// Which.
        backend: BackendId,
        /// What it did.
        violation: Violation,
    },
    /// It refused the user, in its own words.
    #[error("backend {backend} refused the login")]
    Refused {
        /// Which.
        backend: BackendId,
        /// What it said.
        words: BackendRefusal,
    },
    /// It broke off a mail that was being delivered, or fell silent.
    #[error("backend {backend} broke off a delivery: {why}")]
    Delivery {
        /// Which.
        backend: BackendId,
        /// What it did.
        why: String,
    },
    /// It is not known how to reach it by that protocol.
    #[error("backend {backend} has no {} port; it is a host of the passdb's, for another protocol", protocol.word())]
    NoRoad {
        /// Which.
        backend: BackendId,
        /// By what.
        protocol: Protocol,
    },
    /// The caller needs it no more.
    #[error("interrupted: {}", why.word())]
    Interrupted {
        /// Which.
        backend: BackendId,
        /// Why.
        why: Ending,
    },
    /// It is this proxy itself.
    #[error("backend {backend} is this proxy's own listener {address}; correct host and port in [backend.{backend}]")]
    Loop {
        /// Which.
        backend: BackendId,
        /// Where.
        address: SocketAddr,
    },
}

impl ConnectError {
    /// Trying again may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Dial { .. } | Self::Lost { .. })
    }

    /// It says nothing about the backend: this proxy lacks something (file descriptors, ports, memory), or gave up.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Dial { source, .. } => {
                let lookup = source.get_ref().is_some_and(|cause| cause.is::<LookupFault>());
                lookup || source.raw_os_error().is_some_and(|number| OURS.contains(&number))
            }
            Self::Interrupted { .. } => true,
            _ => false,
        }
    }

    /// The error and its causes in one line.
    pub fn in_full(&self) -> String {
        let first: &dyn std::error::Error = self;
        let causes = std::iter::successors(Some(first), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

/// Who is told how the connections of real users went.
pub trait Witness: Send + Sync {
    /// Called once for each attempt, several times for a login that was tried again. Must not block.
    fn saw(&self, seen: Seen<'_>);
}

/// An attempt at a backend by a real user.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Where.
    pub backend: &'a BackendId,
    /// By which protocol.
    pub service: Protocol,
    /// Name at the backend.
    pub user: &'a str,
    /// How it went.
    pub outcome: Outcome<'a>,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The user is in; or, by LMTP, it has said what became of a mail.
    LoggedIn,
    /// The backend refused the user, as it does with a wrong password.
    Refused,
    /// It refused the user for now: it is overloaded, lacks something, or the user has too many sessions.
    Postponed,
    /// The backend could not be used.
    Failed {
        /// Why.
        error: &'a ConnectError,
        /// It happened behind the login, where a probe that does not log in never gets.
        login_sent: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_no_fault_of_the_backend() {
        let dial = |number: Errno| ConnectError::Dial {
            backend: BackendId::new("b"),
            host: "b".to_owned(),
            port: 143,
            source: io::Error::from_raw_os_error(number.raw_os_error()),
        };
        assert!(dial(Errno::MFILE).is_ours() && dial(Errno::ADDRNOTAVAIL).is_ours());
        assert!(!dial(Errno::CONNREFUSED).is_ours() && !dial(Errno::HOSTUNREACH).is_ours());
        assert!(ConnectError::Interrupted { backend: BackendId::new("b"), why: Ending::ClientLost }.is_ours());
    }
}
