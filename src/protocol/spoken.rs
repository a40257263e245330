//! The machines of each protocol, by its name.

use super::{Backend, BackendLogin, Errand, Farewell, Frontend, FrontendSettings, Output};
use super::{imap, lmtp, pop3, sieve, submission};
use crate::model::{Ending, Protocol};

/// Who speaks to a client until it is logged in; `None` where nobody logs in (LMTP, doveadm).
pub fn frontend(protocol: Protocol, settings: FrontendSettings) -> Option<Box<dyn Frontend>> {
    match protocol {
        Protocol::Imap => Some(Box::new(imap::Frontend::new(settings))),
        Protocol::Pop3 => Some(Box::new(pop3::Frontend::new(settings))),
        Protocol::Sieve => Some(Box::new(sieve::Frontend::new(settings))),
        Protocol::Submission => Some(Box::new(submission::Frontend::new(settings))),
        Protocol::Lmtp | Protocol::Doveadm => None,
    }
}

/// Who speaks to a mail server until a user is logged in, or until all is seen. LMTP is only looked at; `None` for
/// doveadm, which is asked in other ways.
pub fn backend(protocol: Protocol, errand: Errand, login: BackendLogin) -> Option<Box<dyn Backend>> {
    match protocol {
        Protocol::Imap => Some(Box::new(imap::Backend::on(errand, login))),
        Protocol::Pop3 => Some(Box::new(pop3::Backend::on(errand, login))),
        Protocol::Sieve => Some(Box::new(sieve::Backend::on(errand, login))),
        Protocol::Submission => Some(Box::new(submission::Backend::on(errand, login))),
        Protocol::Lmtp => Some(Box::new(lmtp::Backend::on(errand, login))),
        Protocol::Doveadm => None,
    }
}

/// The only words to a client that is turned away before it was greeted.
pub fn turn_away(protocol: Protocol, why: Farewell, out: &mut Output) {
    match protocol {
        Protocol::Imap => imap::turn_away(why, out),
        Protocol::Pop3 => pop3::turn_away(why, out),
        Protocol::Sieve => sieve::turn_away(why, out),
        Protocol::Submission => submission::turn_away(why, out),
        Protocol::Lmtp => lmtp::turn_away(why, out),
        Protocol::Doveadm => {} // it has no words for that
    }
}

/// What a logged-in client is told when this proxy ends its session; empty if nothing can or need be said.
pub fn last_words(protocol: Protocol) -> fn(Ending) -> &'static [u8] {
    match protocol {
        Protocol::Imap => imap::last_words,
        Protocol::Sieve => sieve::last_words,
        Protocol::Submission => submission::last_words,
        // POP3 has no word that a server may say unasked.
        Protocol::Pop3 | Protocol::Lmtp | Protocol::Doveadm => |_| b"",
    }
}
