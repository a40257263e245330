//! Why a client is turned away.

/// A refusal. Each has its own response code in every protocol's `reply.rs` and its own word in log and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Wrong password or unknown user: clients must not learn which.
    BadCredentials,
    /// The account may not log in here (disabled, service not allowed).
    Forbidden,
    /// The passdb could not be asked.
    PassdbUnavailable,
    /// The store did not answer and the user has no live session here.
    StoreUnavailable,
    /// No backend can take the user.
    NoBackend,
    /// The user's backend did not take the connection within the budget.
    BackendUnavailable,
    /// The user's backend has as many sessions as it may.
    BackendFull,
    /// The user's home is being settled (recovery, conflict) and this took longer than `login_wait`.
    HomeUnsettled,
    /// The key has as many sessions as it may.
    TooManySessions,
    /// The user has as many sessions from that address as may be.
    TooManyFromAddress,
    /// There were as many logins from that address within a minute as may be.
    TooManyLogins,
    /// This proxy is going down.
    ShuttingDown,
}

impl Refusal {
    /// The fixed word of logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadCredentials => "bad_credentials",
            Self::Forbidden => "forbidden",
            Self::PassdbUnavailable => "passdb_unavailable",
            Self::StoreUnavailable => "store_unavailable",
            Self::NoBackend => "no_backend",
            Self::BackendUnavailable => "backend_unavailable",
            Self::BackendFull => "backend_full",
            Self::HomeUnsettled => "home_unsettled",
            Self::TooManySessions => "too_many_sessions",
            Self::TooManyFromAddress => "too_many_from_address",
            Self::TooManyLogins => "too_many_logins",
            Self::ShuttingDown => "shutting_down",
        }
    }
}
