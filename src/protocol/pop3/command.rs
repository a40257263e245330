//! What a client may say before login, from a line to a type that cannot be wrong.

use crate::model::Secret;
use crate::protocol::buffer::find;
use crate::protocol::line::without_end;
use crate::protocol::{fault, sasl, xclient};

pub(super) type Fault = fault::Fault<Own>;

/// What only POP3 commands may have wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Own {
    /// One that we know and do not offer.
    NotOffered,
    /// PASS without USER before it.
    NoUser,
}

#[derive(Clone, Copy)]
enum Verb {
    Capa,
    Noop,
    Quit,
    Stls,
    Xclient,
    User,
    Pass,
    Auth,
    Utf8,
}

impl Verb {
    const ALL: [(&'static str, Self); 9] = [
        ("CAPA", Self::Capa),
        ("NOOP", Self::Noop),
        ("QUIT", Self::Quit),
        ("STLS", Self::Stls),
        ("XCLIENT", Self::Xclient),
        ("USER", Self::User),
        ("PASS", Self::Pass),
        ("AUTH", Self::Auth),
        ("UTF8", Self::Utf8),
    ];
    /// Of RFC 1939, but for NOOP, which other servers answer at any time.
    const AFTER_LOGIN: [&'static str; 8] = ["STAT", "LIST", "RETR", "DELE", "RSET", "TOP", "UIDL", "LAST"];
    /// APOP needs the password in clear on our side; the languages of LANG (RFC 6856) are known to the backend alone.
    const NOT_OFFERED: [&'static str; 2] = ["APOP", "LANG"];

    fn parse(word: &[u8]) -> Result<Self, Fault> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        match Self::ALL.iter().find(|(name, _)| is(name)) {
            Some((_, verb)) => Ok(*verb),
            None if Self::AFTER_LOGIN.into_iter().any(is) => Err(Fault::LogInFirst),
            None if Self::NOT_OFFERED.into_iter().any(is) => Err(Fault::Own(Own::NotOffered)),
            None => Err(Fault::UnknownCommand),
        }
    }
}

/// A command whose arguments have been understood.
#[derive(Debug)]
pub(super) enum Command {
    Capa,
    Noop,
    Quit,
    Stls,
    Utf8,
    /// The TTL in it, if there is one.
    Xclient(Option<u32>),
    User(String),
    Pass(Secret),
    /// AUTH alone: which mechanisms are there?
    Mechanisms,
    Auth(sasl::Opening),
}

/// Understands a line, its end included. RFC 8314 section 4.1: while nothing is `private`, a password is not even looked
/// at.
pub(super) fn parse(line: &[u8], private: bool) -> Result<Command, Fault> {
    let line = without_end(line);
    let (word, arguments) = line.split_at(find(b' ', line).unwrap_or(line.len()));
    // What is behind the one blank; PASS counts all others.
    let arguments = arguments.get(1..).unwrap_or_default();
    let verb = Verb::parse(word)?;
    let login = matches!(verb, Verb::User | Verb::Pass) || (matches!(verb, Verb::Auth) && !is_blank(arguments));
    if login && !private {
        return Err(Fault::TlsRequired);
    }
    match verb {
        Verb::Capa => none(arguments, Command::Capa),
        Verb::Noop => none(arguments, Command::Noop),
        Verb::Quit => none(arguments, Command::Quit),
        Verb::Stls => none(arguments, Command::Stls),
        Verb::Utf8 => none(arguments, Command::Utf8),
        Verb::Xclient => Ok(Command::Xclient(xclient::ttl(words(arguments)))),
        Verb::User if is_blank(arguments) => Err(Fault::Usage("USER name")),
        Verb::User => Ok(Command::User(sasl::user_name(arguments)?)),
        Verb::Pass => pass(arguments),
        Verb::Auth => auth(arguments),
    }
}

fn none(arguments: &[u8], command: Command) -> Result<Command, Fault> {
    is_blank(arguments).then_some(command).ok_or(Fault::Usage("no arguments"))
}

/// RFC 1939 section 7: blanks are part of the password. A NUL could not be passed on to a backend.
fn pass(password: &[u8]) -> Result<Command, Fault> {
    if password.is_empty() || find(0, password).is_some() {
        return Err(Fault::Usage("PASS password"));
    }
    Ok(Command::Pass(Secret::new(password.to_vec())))
}

fn auth(arguments: &[u8]) -> Result<Command, Fault> {
    let mut words = words(arguments);
    let Some(mechanism) = words.next() else { return Ok(Command::Mechanisms) };
    let initial = words.next().map(sasl::initial);
    if words.next().is_some() {
        return Err(Fault::Usage("AUTH mechanism response"));
    }
    Ok(Command::Auth(sasl::open(mechanism, initial)?))
}

fn words(arguments: &[u8]) -> impl Iterator<Item = &[u8]> {
    arguments.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

fn is_blank(arguments: &[u8]) -> bool {
    arguments.iter().all(|byte| *byte == b' ')
}
