//! What clients speak, and what a mail server is there for.

/// A protocol of mail access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 9051 and 3501.
    #[default]
    Imap,
    /// RFC 1939.
    Pop3,
    /// ManageSieve, RFC 5804.
    Sieve,
    /// RFC 6409: mail from users.
    Submission,
    /// RFC 2033: mail to users.
    Lmtp,
    /// Dovecot's administration of one user's mail, or of all.
    Doveadm,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Imap, Self::Pop3, Self::Sieve, Self::Submission, Self::Lmtp, Self::Doveadm];

    /// The fixed word of configuration, logs and metrics; also how Dovecot's passdbs know it as a service.
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

    /// Users log in by it with a name and a password, and stay on one connection to their backend.
    pub fn has_logins(self) -> bool {
        matches!(self, Self::Imap | Self::Pop3 | Self::Sieve | Self::Submission)
    }
}
