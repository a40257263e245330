//! What a mail server says: one line, taken apart. Literals are not expected before login is complete.

use crate::protocol::line::{announced, without_end};
use crate::protocol::referral::bracketed;
use crate::protocol::sasl::outgoing::Offered;
use crate::protocol::{Referral, Violation};

/// A line of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response<'a> {
    Untagged(Untagged<'a>),
    /// The end of the command of that tag.
    Tagged {
        tag: &'a [u8],
        status: Status,
        text: &'a [u8],
    },
    /// `+`: it waits for more of the command.
    Continue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untagged<'a> {
    Ok(&'a [u8]),
    Preauth,
    Bye(&'a [u8]),
    /// The list behind the word.
    Capability(&'a [u8]),
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    No,
    Bad,
}

/// Takes a line apart, its end included or not.
pub(super) fn parse(line: &[u8]) -> Result<Response<'_>, Violation> {
    if announced(line).is_some() {
        return Err(Violation::Nonsense("a literal before login is complete"));
    }
    let line = without_end(line);
    let (first, rest) = split_word(line);
    match first {
        b"*" => Ok(Response::Untagged(untagged(rest))),
        b"+" => Ok(Response::Continue),
        tag => {
            let (word, text) = split_word(rest);
            let status = status(word).ok_or(Violation::Nonsense("a line that is no IMAP response"))?;
            Ok(Response::Tagged { tag, status, text })
        }
    }
}

fn untagged(rest: &[u8]) -> Untagged<'_> {
    let (word, text) = split_word(rest);
    match word.to_ascii_uppercase().as_slice() {
        b"OK" => Untagged::Ok(text),
        b"PREAUTH" => Untagged::Preauth,
        b"BYE" => Untagged::Bye(text),
        b"CAPABILITY" => Untagged::Capability(text),
        _ => Untagged::Other,
    }
}

fn status(word: &[u8]) -> Option<Status> {
    match word.to_ascii_uppercase().as_slice() {
        b"OK" => Some(Status::Ok),
        b"NO" => Some(Status::No),
        b"BAD" => Some(Status::Bad),
        _ => None,
    }
}

/// The first word, and what is behind the blank.
fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', bytes) {
        Some(blank) => (&bytes[..blank], &bytes[blank + 1..]),
        None => (bytes, b""),
    }
}

/// The response code at the beginning of a text: its name and arguments.
pub(super) fn code(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let code = text.strip_prefix(b"[")?;
    let end = memchr::memchr(b']', code)?;
    Some(split_word(&code[..end]))
}

/// The capabilities in a `[CAPABILITY ...]` code.
pub(super) fn capability_code(text: &[u8]) -> Option<Capabilities> {
    let (name, list) = code(text)?;
    name.eq_ignore_ascii_case(b"CAPABILITY").then(|| Capabilities::parse(list))
}

/// RFC 5530: it is not the password's fault, and may be over in a while.
pub(super) fn is_temporary(text: &[u8]) -> bool {
    const TEMPORARY: [&[u8]; 4] = [b"UNAVAILABLE", b"INUSE", b"LIMIT", b"SERVERBUG"];
    code(text).is_some_and(|(name, _)| TEMPORARY.iter().any(|word| name.eq_ignore_ascii_case(word)))
}

/// RFC 2221: `[REFERRAL imap://user;AUTH=*@host:port/]`.
pub(super) fn referral(text: &[u8]) -> Option<Referral> {
    let (name, url) = split_word(bracketed(text)?);
    if name.eq_ignore_ascii_case(b"REFERRAL") { Referral::url("imap", url) } else { None }
}

/// What a server offers, as far as it matters for logging in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) id: bool,
    pub(super) sasl_ir: bool,
    pub(super) starttls: bool,
    pub(super) plain: bool,
    /// Other mechanisms of SASL.
    pub(super) sasl: Offered,
    pub(super) login_disabled: bool,
}

impl Capabilities {
    pub(super) fn parse(list: &[u8]) -> Self {
        let mut found = Self::default();
        for word in list.split(|byte| *byte == b' ') {
            match word.to_ascii_uppercase().as_slice() {
                b"ID" => found.id = true,
                b"SASL-IR" => found.sasl_ir = true,
                b"STARTTLS" => found.starttls = true,
                b"AUTH=PLAIN" => found.plain = true,
                b"LOGINDISABLED" => found.login_disabled = true,
                word => {
                    let name = word.strip_prefix(b"AUTH=").and_then(|name| std::str::from_utf8(name).ok());
                    found.sasl.add(name.unwrap_or_default());
                }
            }
        }
        found
    }
}
