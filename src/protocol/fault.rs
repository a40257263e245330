//! What is wrong with a client's command, in any protocol.

use super::sasl;

/// `O` is what only one protocol knows. Its `reply.rs` has the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault<O> {
    UnknownCommand,
    /// A command that needs a login.
    LogInFirst,
    /// The arguments are not as shown.
    Usage(&'static str),
    /// No password is taken without TLS.
    TlsRequired,
    TlsIsOn,
    NoTls,
    Sasl(sasl::Fault),
    Own(O),
}

impl<O> From<sasl::Fault> for Fault<O> {
    fn from(fault: sasl::Fault) -> Self {
        Self::Sasl(fault)
    }
}
