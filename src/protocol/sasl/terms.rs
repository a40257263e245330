//! What an exchange may rely on besides the client's words: what is offered, and what the client's TLS shows.

use std::fmt;

use crate::model::Mechanism;

/// The terms of one connection. They change when TLS comes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What clients may choose, as capabilities list them: strongest first.
    pub mechanisms: Vec<Mechanism>,
    /// What ties an exchange to this connection.
    pub bindings: Bindings,
    /// The name in the client's own certificate, which an authority of ours vouches for.
    pub certificate: Option<String>,
}

/// Channel bindings of a connection inside TLS; none where TLS ends in front of us.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    /// `tls-exporter` (RFC 9266).
    pub exporter: Option<Vec<u8>>,
    /// `tls-server-end-point` (RFC 5929): the hash of our certificate.
    pub end_point: Option<Vec<u8>>,
}

impl Bindings {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.end_point.is_none()
    }

    /// The one that the client names.
    pub(super) fn named(&self, name: &[u8]) -> Option<&[u8]> {
        match name {
            b"tls-exporter" => self.exporter.as_deref(),
            b"tls-server-end-point" => self.end_point.as_deref(),
            _ => None,
        }
    }
}

/// They are no secret, but whoever has one of the exporter's could lie to the other side.
impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bindings(exporter: {}, end point: {})", self.exporter.is_some(), self.end_point.is_some())
    }
}

/// Passwords in clear, which any source and any backend can check.
impl Default for Terms {
    fn default() -> Self {
        Self { mechanisms: vec![Mechanism::Plain, Mechanism::Login], bindings: Bindings::default(), certificate: None }
    }
}

impl Terms {
    /// A client may choose it.
    pub fn offers(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.contains(&mechanism)
    }

    /// The names of all mechanisms.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.mechanisms.iter().map(|mechanism| mechanism.name())
    }

    /// The names in one line, with blanks between.
    pub fn list(&self) -> String {
        self.names().collect::<Vec<_>>().join(" ")
    }
}
