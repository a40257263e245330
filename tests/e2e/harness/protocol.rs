//! What mail clients and mail servers speak.

/// A mail protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 9051.
    Imap,
    /// RFC 1939.
    Pop3,
    /// ManageSieve, RFC 5804.
    Sieve,
    /// RFC 6409.
    Submission,
    /// RFC 2033.
    Lmtp,
    /// Dovecot's own, over TCP.
    Doveadm,
}

impl Protocol {
    /// All in which users have mail servers of their own beside IMAP, and LMTP.
    pub const BESIDE_IMAP: [Self; 4] = [Self::Pop3, Self::Sieve, Self::Submission, Self::Lmtp];

    /// As configuration files name it: a proxy's, and Dovecot's `protocols`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Sieve => "sieve",
            Self::Submission => "submission",
            Self::Lmtp => "lmtp",
            Self::Doveadm => "doveadm",
        }
    }

    /// How Dovecot names the process that has a session, and the first part of the name of the one that logs in.
    pub fn service(self) -> &'static str {
        match self {
            Self::Sieve => "managesieve",
            other => other.word(),
        }
    }
}
