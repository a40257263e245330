//! What a mail server says: one line, taken apart.

use crate::protocol::line::without_end;
use crate::protocol::referral::bracketed;
use crate::protocol::sasl::outgoing::Offered;
use crate::protocol::{Referral, Violation};

/// An answer, its text behind the blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Ok(&'a [u8]),
    Err(&'a [u8]),
    /// `+`: it waits for more of the command.
    Continue(&'a [u8]),
}

/// Takes a line apart, its end included or not.
pub(super) fn parse(line: &[u8]) -> Result<Answer<'_>, Violation> {
    let line = without_end(line);
    let (word, text) = match memchr::memchr(b' ', line) {
        Some(blank) => (&line[..blank], &line[blank + 1..]),
        None => (line, &b""[..]),
    };
    match word {
        b"+" => Ok(Answer::Continue(text)),
        word if word.eq_ignore_ascii_case(b"+OK") => Ok(Answer::Ok(text)),
        word if word.eq_ignore_ascii_case(b"-ERR") => Ok(Answer::Err(text)),
        _ => Err(Violation::Nonsense("a line that is no POP3 response")),
    }
}

/// The greeting of a server that lets this client announce another one. Dovecot 2.3 says so first, others at the end.
pub(super) fn takes_xclient(greeting: &[u8]) -> bool {
    const MARK: &[u8] = b"[XCLIENT]";
    let mut words = greeting.split(|byte| *byte == b' ');
    words.next() == Some(MARK) || words.next_back() == Some(MARK)
}

/// RFC 2449 section 8, 3206: it is not the password's fault, and may be over in a while. Each level of a code that has
/// several may be followed by more.
pub(super) fn is_temporary(text: &[u8]) -> bool {
    const TEMPORARY: [&[u8]; 3] = [b"SYS", b"IN-USE", b"LOGIN-DELAY"];
    let level = bracketed(text).and_then(|code| code.split(|byte| matches!(byte, b'/' | b' ')).next());
    level.is_some_and(|level| TEMPORARY.iter().any(|word| level.eq_ignore_ascii_case(word)))
}

/// Dovecot's `[REFERRAL/user@host:port]`.
pub(super) fn referral(text: &[u8]) -> Option<Referral> {
    const NAME: &[u8] = b"REFERRAL/";
    let (name, destination) = bracketed(text)?.split_at_checked(NAME.len())?;
    if name.eq_ignore_ascii_case(NAME) { Referral::to(destination) } else { None }
}

/// The capability of a server that shows mails in UTF-8 as they are, and the command that asks for it (RFC 6856).
pub(super) const UTF8: &str = "UTF8";

/// What a server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// SASL PLAIN.
    pub(super) plain: bool,
    /// Other mechanisms of SASL.
    pub(super) sasl: Offered,
    /// USER and PASS.
    pub(super) user: bool,
    /// Lines that are true of a session after login, whoever answers before.
    pub(super) shown: Vec<String>,
}

impl Capabilities {
    /// Of a server that does not know CAPA: then there is USER, which is older.
    pub(super) fn unknown() -> Self {
        Self { user: true, ..Self::default() }
    }

    /// Takes a line of the list. LANG is not shown, for it may be said before login, when nobody is here who knows the
    /// languages; nor what is ours to offer, or names the server's software.
    pub(super) fn add(&mut self, line: &[u8]) {
        const SHOWN: [&str; 6] = ["TOP", "UIDL", "PIPELINING", "EXPIRE", "LOGIN-DELAY", UTF8];
        let Ok(line) = std::str::from_utf8(without_end(line)) else { return };
        let line = line.to_ascii_uppercase();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("USER") => self.user = true,
            Some("SASL") => words.for_each(|word| {
                self.plain |= word == "PLAIN";
                self.sasl.add(word);
            }),
            Some(word) if SHOWN.contains(&word) && !line.contains(|c: char| c.is_control()) => self.shown.push(line),
            _ => {}
        }
    }
}
