//! What a client may say before login, from bytes to a type that cannot be wrong.

use zeroize::Zeroizing;

use super::token::Tokens;
use crate::protocol::line::without_end;
use crate::protocol::{fault, sasl, xclient};

pub(super) type Fault = fault::Fault<Own>;

/// What only ManageSieve commands may have wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Own {
    /// What should answer a prompt is no string.
    NoString,
}

#[derive(Clone, Copy)]
enum Verb {
    Capability,
    Noop,
    Logout,
    StartTls,
    Xclient,
    Authenticate,
}

impl Verb {
    const ALL: [(&'static str, Self); 6] = [
        ("CAPABILITY", Self::Capability),
        ("NOOP", Self::Noop),
        ("LOGOUT", Self::Logout),
        ("STARTTLS", Self::StartTls),
        ("XCLIENT", Self::Xclient),
        ("AUTHENTICATE", Self::Authenticate),
    ];
    const AFTER_LOGIN: [&'static str; 8] = [
        "HAVESPACE",
        "PUTSCRIPT",
        "LISTSCRIPTS",
        "SETACTIVE",
        "GETSCRIPT",
        "DELETESCRIPT",
        "RENAMESCRIPT",
        "CHECKSCRIPT",
    ];

    fn parse(word: &[u8]) -> Result<Self, Fault> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        match Self::ALL.iter().find(|(name, _)| is(name)) {
            Some((_, verb)) => Ok(*verb),
            None if Self::AFTER_LOGIN.into_iter().any(is) => Err(Fault::LogInFirst),
            None => Err(Fault::UnknownCommand),
        }
    }
}

/// A command whose arguments have been understood.
#[derive(Debug)]
pub(super) enum Command {
    Capability,
    /// With what is to be repeated.
    Noop(Option<Vec<u8>>),
    Logout,
    StartTls,
    /// The TTL in it, if there is one.
    Xclient(Option<u32>),
    Authenticate(sasl::Opening),
}

/// Understands a complete command, its end included. While nothing is `private`, a password is not even looked at.
pub(super) fn parse(command: &[u8], private: bool) -> Result<Command, Fault> {
    let mut rest = Tokens(without_end(command));
    let verb = Verb::parse(rest.word().unwrap_or_default())?;
    let none = |command| rest.is_at_end().then_some(command).ok_or(Fault::Usage("no arguments"));
    match verb {
        Verb::Capability => none(Command::Capability),
        Verb::Logout => none(Command::Logout),
        Verb::StartTls => none(Command::StartTls),
        Verb::Noop if rest.is_at_end() => Ok(Command::Noop(None)),
        Verb::Noop => noop(rest).ok_or(Fault::Usage("NOOP string")),
        Verb::Xclient => Ok(Command::Xclient(xclient::ttl(rest.0.split(|byte| *byte == b' ')))),
        Verb::Authenticate if !private => Err(Fault::TlsRequired),
        Verb::Authenticate => authenticate(rest),
    }
}

fn noop(mut rest: Tokens<'_>) -> Option<Command> {
    rest.space()?;
    let tag = rest.string()?;
    rest.is_at_end().then(|| Command::Noop(Some(tag.to_vec())))
}

fn authenticate(mut rest: Tokens<'_>) -> Result<Command, Fault> {
    const USAGE: Fault = Fault::Usage("AUTHENTICATE mechanism response, each a string");
    rest.space().ok_or(USAGE)?;
    // Some clients forget the quotes.
    let mechanism = rest.word().map(|word| Zeroizing::new(word.to_vec())).or_else(|| rest.string()).ok_or(USAGE)?;
    let initial = if rest.is_at_end() {
        None
    } else {
        let text = rest.space().and_then(|()| rest.string()).filter(|_| rest.is_at_end()).ok_or(USAGE)?;
        Some(sasl::decode(&text))
    };
    Ok(Command::Authenticate(sasl::open(&mechanism, initial)?))
}

/// Understands an answer to a prompt: a string.
pub(super) fn response(line: &[u8]) -> Result<sasl::Message, Fault> {
    let mut rest = Tokens(without_end(line));
    if rest.0 == b"*" {
        return Err(sasl::Fault::Cancelled.into());
    }
    let response = rest.string().filter(|_| rest.is_at_end()).ok_or(Fault::Own(Own::NoString))?;
    Ok(sasl::response(&response)?)
}
