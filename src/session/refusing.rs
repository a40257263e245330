//! Why a login fails: what the client is told, and what the operator.

use tracing::{error, info, warn};

use crate::backend::ConnectError;
use crate::model::{Ending, Phase, Refusal, SessionId};
use crate::protocol::BackendRefusal;

/// Why a login failed.
pub(super) enum Failure {
    /// In our words. The dialogue goes on.
    Refused(Refusal),
    /// In the passdb's words. The dialogue goes on.
    Told(Refusal, BackendRefusal),
    /// In the backend's words. The dialogue goes on.
    Backend(BackendRefusal),
    /// The connection is over, whatever the login was doing.
    Over(Ending),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Failure {
    /// What the log counts and the client is told; `None` if the client is gone. `phase`: how far the login was.
    pub(super) fn refusal(&self, phase: Phase) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) | Self::Told(refusal, _) => Some(*refusal),
            Self::Backend(words) if words.temporary => Some(Refusal::BackendUnavailable),
            Self::Backend(_) => Some(Refusal::BadCredentials),
            Self::Over(Ending::Shutdown) => Some(Refusal::ShuttingDown),
            Self::Over(Ending::LoginTimeout) => Some(too_slow(phase)),
            Self::Over(_) => None,
        }
    }

    /// Of a backend that could not be used: the one table of that.
    pub(super) fn at_backend(error: ConnectError, session: &SessionId) -> Self {
        match error {
            ConnectError::Interrupted { why, .. } => return interrupted(why),
            ConnectError::Refused { words, backend } => {
                info!(%session, %backend, "the backend refused the login");
                return Self::Backend(words);
            }
            // These may pass, or others may see them pass.
            ConnectError::Dial { ref backend, .. }
            | ConnectError::Lost { ref backend, .. }
            | ConnectError::Delivery { ref backend, .. }
            | ConnectError::Slow { ref backend, .. } => {
                warn!(%session, %backend, error = error.in_full(), "the backend cannot be used");
            }
            // These stay until somebody changes something.
            ConnectError::Tls { ref backend, .. }
            | ConnectError::Protocol { ref backend, .. }
            | ConnectError::NoRoad { ref backend, .. }
            | ConnectError::Loop { ref backend, .. } => {
                error!(%session, %backend, error = error.in_full(), "the backend cannot be used");
            }
        }
        Self::Refused(Refusal::BackendUnavailable)
    }
}

/// The login was told to stop: because of its key, or because its connection is over.
fn interrupted(why: Ending) -> Failure {
    match why {
        Ending::Kicked => Failure::Refused(Refusal::HomeUnsettled),
        Ending::Isolated => Failure::Refused(Refusal::StoreUnavailable),
        over => Failure::Over(over),
    }
}

/// Whom a login was waiting for when its time was over.
fn too_slow(phase: Phase) -> Refusal {
    match phase {
        Phase::Auth => Refusal::PassdbUnavailable,
        Phase::Placement => Refusal::HomeUnsettled,
        _ => Refusal::BackendUnavailable,
    }
}
