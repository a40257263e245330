//! What a client may say before login: one line, from bytes to a type that cannot be wrong.

use crate::protocol::buffer::find;
use crate::protocol::{fault, sasl, xclient};

/// Bytes of the name that a client gives itself (RFC 5321 4.5.3.1.2).
const LONGEST_NAME: usize = 255;

pub(super) type Fault = fault::Fault<Own>;

/// What only submission commands may have wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Own {
    /// Known, and not for clients of ours.
    NotOffered,
    /// A command that needs a login, where a login needs TLS.
    TlsFirst,
    /// RFC 4954 section 4: AUTH only behind EHLO.
    EhloFirst,
}

/// The commands that mean something before login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Rset,
    Noop,
    Help,
    Quit,
    Bdat,
    Xclient,
}

impl Verb {
    const ALL: [(&'static str, Self); 10] = [
        ("EHLO", Self::Ehlo),
        ("HELO", Self::Helo),
        ("STARTTLS", Self::StartTls),
        ("AUTH", Self::Auth),
        ("RSET", Self::Rset),
        ("NOOP", Self::Noop),
        ("HELP", Self::Help),
        ("QUIT", Self::Quit),
        ("BDAT", Self::Bdat),
        ("XCLIENT", Self::Xclient),
    ];

    fn parse(word: &[u8]) -> Result<Self, Fault> {
        let is = |name: &&str| word.eq_ignore_ascii_case(name.as_bytes());
        match Self::ALL.iter().find(|(name, _)| is(name)) {
            Some((_, verb)) => Ok(*verb),
            None if AFTER_LOGIN.iter().any(&is) => Err(Fault::LogInFirst),
            None if is(&"XFORWARD") => Err(Fault::Own(Own::NotOffered)),
            None => Err(Fault::UnknownCommand),
        }
    }
}

/// RFC 4954 section 6: all these are answered with 530 while nobody is logged in.
const AFTER_LOGIN: [&str; 7] = ["MAIL", "RCPT", "DATA", "BURL", "VRFY", "EXPN", "ETRN"];

/// A command whose arguments have been understood.
#[derive(Debug)]
pub(super) enum Command {
    /// With the name that the client gives itself.
    Ehlo(String),
    /// The same, without extensions.
    Helo(String),
    StartTls,
    Auth(sasl::Opening),
    Rset,
    Noop,
    Help,
    Quit,
    /// The TTL in it, if there is one.
    Xclient(Option<u32>),
    /// A piece of a mail: so many bytes follow, whatever the answer (RFC 3030 section 2).
    Bdat(usize),
}

/// The verb of a line, and what is behind it: enough to decide whether the rest is wanted.
pub(super) fn head(line: &[u8]) -> Result<(Verb, &[u8]), Fault> {
    let (word, rest) = split_word(without_end(line));
    Ok((Verb::parse(word)?, rest))
}

/// The arguments of a verb.
pub(super) fn body(verb: Verb, rest: &[u8]) -> Result<Command, Fault> {
    match verb {
        Verb::Ehlo => name(rest).map(Command::Ehlo).ok_or(Fault::Usage("EHLO name")),
        Verb::Helo => name(rest).map(Command::Helo).ok_or(Fault::Usage("HELO name")),
        Verb::StartTls => none(rest, Command::StartTls),
        Verb::Auth => auth(rest),
        Verb::Rset => none(rest, Command::Rset),
        Verb::Noop => Ok(Command::Noop),
        Verb::Help => Ok(Command::Help),
        Verb::Quit => none(rest, Command::Quit),
        Verb::Xclient if rest.is_empty() => Err(Fault::Usage("XCLIENT name=value")),
        Verb::Xclient => Ok(Command::Xclient(xclient::ttl(rest.split(|byte| *byte == b' ')))),
        Verb::Bdat => bdat(rest).map(Command::Bdat).ok_or(Fault::Usage("BDAT size, or BDAT size LAST")),
    }
}

/// A line without its CRLF. A bare LF ends a line, too: before login no mail can come in, so none can be smuggled by it.
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Whether a name is such that a mail server takes it in EHLO: a domain (with the underscores of many machines), or an
/// address in brackets.
pub(super) fn is_proper_name(name: &str) -> bool {
    let (inner, plain): (&str, fn(u8) -> bool) = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => (address, |byte| byte.is_ascii_alphanumeric() || b".:".contains(&byte)),
        None => (name, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
    };
    !inner.is_empty() && name.len() <= LONGEST_NAME && inner.bytes().all(plain)
}

fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (word, rest) = bytes.split_at(find(b' ', bytes).unwrap_or(bytes.len()));
    (word, rest.trim_ascii())
}

fn none(rest: &[u8], command: Command) -> Result<Command, Fault> {
    if rest.is_empty() { Ok(command) } else { Err(Fault::Usage("no arguments")) }
}

/// Clients give themselves all kinds of names; what is passed on is looked at more closely.
fn name(rest: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(rest).ok()?;
    let fits = (1..=LONGEST_NAME).contains(&name.len());
    (fits && !name.contains(|c: char| c.is_control() || c.is_whitespace())).then(|| name.to_owned())
}

fn auth(rest: &[u8]) -> Result<Command, Fault> {
    let (mechanism, initial) = split_word(rest);
    if mechanism.is_empty() || find(b' ', initial).is_some() {
        return Err(Fault::Usage("AUTH mechanism"));
    }
    let initial = (!initial.is_empty()).then(|| sasl::initial(initial));
    Ok(Command::Auth(sasl::open(mechanism, initial)?))
}

/// A number too large to hold is as good as any other that is too large.
fn bdat(rest: &[u8]) -> Option<usize> {
    let (size, last) = split_word(rest);
    let sound = !size.is_empty() && size.iter().all(u8::is_ascii_digit);
    if !sound || !(last.is_empty() || last.eq_ignore_ascii_case(b"LAST")) {
        return None;
    }
    Some(size.iter().fold(0, |sum: usize, digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'))))
}
