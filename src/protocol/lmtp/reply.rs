//! Replies: those of mail servers, which are passed on, and every word that we say ourselves. Codes are those of RFC 5321,
//! RFC 2033 and RFC 3463; the texts name nothing inside.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::command::Fault;
use super::frontend::Settings;
use crate::model::Refusal;
use crate::protocol::{Farewell, Output};

/// A code and its text, whose lines `\n` separates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    text: Cow<'static, str>,
}

impl Reply {
    /// In our own words: one line.
    pub const fn new(code: u16, text: &'static str) -> Self {
        Self { code, text: Cow::Borrowed(text) }
    }

    /// Another server's.
    pub(super) fn of(code: u16, text: String) -> Self {
        Self { code, text: Cow::Owned(text) }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// 2yz: done.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// 4yz or 5yz: not done, and the conversation goes on.
    pub fn is_refusal(&self) -> bool {
        self.code != 421 && (400..600).contains(&self.code)
    }

    /// Its lines, without the code.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// The first line, for the log.
    pub fn first_line(&self) -> &str {
        self.lines().next().unwrap_or_default()
    }

    /// As it is sent.
    pub fn put(&self, out: &mut Output) {
        let mut lines = self.lines().peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            out.put(format!("{:03}{mark}{line}\r\n", self.code));
        }
    }

    /// What a server's word on a recipient, or on all of an envelope, is to the client. What would end the client's
    /// connection (421) or is no answer to what the client asked ends as a temporary failure: nothing that went wrong
    /// between us and a server may bounce mail.
    pub fn for_recipient(self) -> Self {
        match self.code {
            250 | 251 | 422..=499 | 501 | 504 | 521..=559 => self,
            200..=299 => Self { code: 250, ..self },
            420 | 421 => Self { code: 451, ..self },
            _ => BACKEND_LOST,
        }
    }

    /// A server's word that it has a whole message for a recipient, or has not.
    pub fn for_message(self) -> Self {
        match self.code {
            500..=503 => BACKEND_LOST,
            _ => self.for_recipient(),
        }
    }
}

/// Nobody knows the recipient.
pub const UNKNOWN_USER: Reply = Reply::new(550, "5.1.1 There is no such user here");
/// The user's backend cannot be used.
pub const BACKEND_UNAVAILABLE: Reply = Reply::new(451, "4.4.1 The mailbox cannot be reached, try again later");
/// The user's backend broke off, or was too slow.
pub const BACKEND_LOST: Reply = Reply::new(451, "4.4.2 The mailbox's server broke off, try again later");
/// The user is being moved or kicked.
pub const STOPPED: Reply = Reply::new(451, "4.3.2 The mailbox is being moved, try again later");
/// As many deliveries as one user may have.
pub const TOO_MANY_DELIVERIES: Reply = Reply::new(451, "4.3.0 Too many deliveries to this user, try again later");
/// Whoever brought the message has given it up.
pub const GIVEN_UP: Reply = Reply::new(451, "4.4.2 The client gave the message up");
/// The message is above our limit.
pub const TOO_LARGE: Reply = Reply::new(552, "5.3.4 The message is too large");
/// The backend cannot take the addresses.
pub const NO_SMTPUTF8: Reply = Reply::new(553, "5.6.7 The mailbox's server does not take SMTPUTF8");

const TLS_BEGINS: Reply = Reply::new(220, "2.0.0 Begin TLS negotiation now");
const GO_ON: Reply = Reply::new(354, "Send the message, and end it with <CR><LF>.<CR><LF>");
const CHUNK_TAKEN: Reply = Reply::new(250, "2.0.0 Chunk taken");
const OK: Reply = Reply::new(250, "2.0.0 OK");
const SENDER_OK: Reply = Reply::new(250, "2.1.0 Sender OK");
const MAYBE: Reply = Reply::new(252, "2.5.2 Send the message, and see");

impl From<Refusal> for Reply {
    /// The one table of that. All but the two that cannot happen without a password are temporary: the mail stays where it is.
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::BadCredentials | Refusal::Forbidden => UNKNOWN_USER,
            Refusal::PassdbUnavailable => Self::new(451, "4.3.0 Users cannot be looked up, try again later"),
            Refusal::StoreUnavailable => Self::new(451, "4.4.3 The mailbox cannot be located, try again later"),
            Refusal::HomeUnsettled => STOPPED,
            Refusal::NoBackend | Refusal::BackendUnavailable | Refusal::BackendFull => BACKEND_UNAVAILABLE,
            Refusal::TooManySessions | Refusal::TooManyFromAddress | Refusal::TooManyLogins => TOO_MANY_DELIVERIES,
            Refusal::ShuttingDown => Self::new(451, "4.3.2 Going down, try again"),
        }
    }
}

/// The first word.
pub(super) fn greeting(host: &str, out: &mut Output) {
    out.put(format!("220 {host} LMTP homing ready\r\n"));
}

/// What we offer: what we handle ourselves, and what all backends do.
pub(super) fn hello(settings: &Settings, secured: bool, out: &mut Output) {
    let mut list = format!("{}\nPIPELINING\nENHANCEDSTATUSCODES\n8BITMIME\nCHUNKING\nSIZE", settings.host);
    if settings.limits.size > 0 {
        let _ = write!(list, " {}", settings.limits.size); // a String takes everything
    }
    if settings.smtputf8 {
        list.push_str("\nSMTPUTF8");
    }
    if settings.dsn {
        list.push_str("\nDSN");
    }
    if settings.starttls && !secured {
        list.push_str("\nSTARTTLS");
    }
    // Of all that XCLIENT can say only the loop guard is believed: the client's true address comes by the PROXY header.
    list.push_str("\nXCLIENT TTL");
    Reply::of(250, list).put(out);
}

pub(super) fn begin_tls(out: &mut Output) {
    TLS_BEGINS.put(out);
}

pub(super) fn sender_ok(out: &mut Output) {
    SENDER_OK.put(out);
}

pub(super) fn ok(out: &mut Output) {
    OK.put(out);
}

pub(super) fn maybe(out: &mut Output) {
    MAYBE.put(out);
}

pub(super) fn go_on(out: &mut Output) {
    GO_ON.put(out);
}

pub(super) fn chunk_taken(out: &mut Output) {
    CHUNK_TAKEN.put(out);
}

pub(super) fn bye(host: &str, out: &mut Output) {
    out.put(format!("221 2.0.0 {host} Bye\r\n"));
}

/// What is wrong with a command.
pub(super) fn fault(fault: Fault, out: &mut Output) {
    let (code, text) = match fault {
        Fault::LineEnd => (500, "5.5.2 Lines end with CRLF"),
        Fault::Unknown => (500, "5.5.1 Unknown command"),
        Fault::NotLmtp => (500, "5.5.1 This is LMTP: say LHLO"),
        Fault::Syntax => (501, "5.5.4 Faulty argument"),
        Fault::Sender => (501, "5.1.7 This is not an address"),
        Fault::Recipient => (501, "5.1.3 This is not an address"),
        Fault::Parameter => (555, "5.5.4 This parameter is not offered"),
        Fault::NotAscii => (553, "5.6.7 The address needs SMTPUTF8"),
        Fault::NoHello => (503, "5.5.1 Say LHLO first"),
        Fault::Nested => (503, "5.5.1 There is a sender already"),
        Fault::NoSender => (503, "5.5.1 Say MAIL first"),
        Fault::NoRecipient => (503, "5.5.1 There is no valid recipient"),
        Fault::MidMessage => (503, "5.5.1 The message is being sent by BDAT"),
        Fault::NoTls => (502, "5.5.1 TLS is not offered"),
        Fault::TooLarge => return TOO_LARGE.put(out),
        Fault::TooManyRecipients => (452, "4.5.3 Too many recipients"),
    };
    Reply::new(code, text).put(out);
}

/// Last words to whoever breaks a bound.
pub(super) fn too_much(host: &str, why: &str, out: &mut Output) {
    out.put(format!("421 4.7.0 {host} {why}\r\n"));
}

/// Last words for a reason of our own.
pub(super) fn farewell(host: &str, why: Farewell, out: &mut Output) {
    let text = match why {
        Farewell::TimedOut => "4.4.2 Silent for too long",
        Farewell::Overloaded => "4.3.2 Too many connections, try again later",
        Farewell::ShuttingDown => "4.3.2 Going down, try again",
    };
    let (code, words) = text.split_once(' ').unwrap_or(("", text));
    let gap = if host.is_empty() { "" } else { " " };
    out.put(format!("421 {code} {host}{gap}{words}\r\n"));
}
