//! Lines of Dovecot's auth protocols (`auth-client` 1.0 to 1.4 and `auth-master` 1.0 to 1.2), as bytes. Fields stand
//! between tabs; what would be mistaken for the end of one is escaped by 0x01.

use zeroize::Zeroizing;

use crate::protocol::doveadm::{escape, unescape};

/// Longest line that is read, in bytes. Dovecot itself takes no more than 16 KiB.
pub const MAX_LINE: usize = 64 * 1024;

/// Longest line that Dovecot takes, with its end.
pub(super) const MAX_REQUEST: usize = 16 * 1024;

/// From this minor version on, what was `service=` is `protocol=`.
const MINOR_PROTOCOL: u32 = 3;

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// `VERSION`: major and minor.
    Version(u32, u32),
    /// `MECH`: a mechanism that it offers.
    Mechanism(String),
    /// `SPID`: the greeting of the master protocol has no other end.
    Process,
    /// `DONE`: the end of the other greeting.
    Done,
    /// An answer to a question.
    Answer(Answer),
    /// Nothing that matters here.
    Other,
}

/// The word that begins an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The login is right.
    Ok,
    /// It is not, or not known to be.
    Fail,
    /// The mechanism goes on.
    Cont,
    /// The user is known.
    Pass,
    /// The user is not known.
    NotFound,
    /// A name of a list.
    List,
    /// The end of a list.
    Done,
}

/// An answer to the question with this number.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub word: Word,
    /// The question's number.
    pub id: u32,
    /// What follows, not escaped. May hold passwords.
    pub fields: Vec<Field>,
}

/// A field of an answer: wiped, and not shown.
#[derive(PartialEq, Eq)]
pub struct Field(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.pair().0))
    }
}

impl Field {
    /// All of it.
    pub fn whole(&self) -> &[u8] {
        &self.0
    }

    /// Name and value; a flag has an empty one.
    pub fn pair(&self) -> (&[u8], &[u8]) {
        match self.0.iter().position(|byte| *byte == b'=') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&self.0, b""),
        }
    }
}

impl Answer {
    /// The value of the field with this name.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().map(Field::pair).find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// That value as text, fit for a log line.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = self.value(name).filter(|value| !value.is_empty())?;
        Some(String::from_utf8_lossy(value).chars().filter(|c| !c.is_control()).take(300).collect())
    }
}

/// The line is none of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Garbled(pub &'static str);

/// Understands a line, which comes without its end.
///
/// # Errors
/// The line begins like one that matters, and goes on in another way.
pub fn read_auth_line(line: &[u8]) -> Result<Line, Garbled> {
    let mut parts = line.split(|byte| *byte == b'\t');
    let word = match parts.next().unwrap_or_default() {
        b"VERSION" => return version(&mut parts),
        b"MECH" => return Ok(Line::Mechanism(String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned())),
        b"SPID" => return Ok(Line::Process),
        b"DONE" if line == b"DONE" => return Ok(Line::Done),
        b"OK" => Word::Ok,
        b"FAIL" => Word::Fail,
        b"CONT" => Word::Cont,
        b"PASS" => Word::Pass,
        b"NOTFOUND" => Word::NotFound,
        b"LIST" => Word::List,
        b"DONE" => Word::Done,
        _ => return Ok(Line::Other),
    };
    let id = number(parts.next()).ok_or(Garbled("an answer has no number"))?;
    let fields = parts.map(|part| Field(Zeroizing::new(unescape(part)))).collect();
    Ok(Line::Answer(Answer { word, id, fields }))
}

fn version<'a>(parts: &mut impl Iterator<Item = &'a [u8]>) -> Result<Line, Garbled> {
    match (number(parts.next()), number(parts.next())) {
        (Some(major), Some(minor)) => Ok(Line::Version(major, minor)),
        _ => Err(Garbled("the version is none")),
    }
}

fn number(text: Option<&[u8]>) -> Option<u32> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}

/// A question, all but its number: that and the version belong to the connection.
pub(super) struct Request {
    /// `AUTH` or `PASS`.
    pub(super) verb: &'static str,
    /// The mechanism, or the user.
    pub(super) subject: String,
    /// The protocol by which the client came.
    pub(super) service: &'static str,
    /// Fields, each escaped and with its tab before it.
    pub(super) rest: Zeroizing<Vec<u8>>,
}

impl Request {
    /// The whole line; `None` if Dovecot would not take so long a one.
    pub(super) fn line(&self, id: u32, minor: u32) -> Option<Zeroizing<Vec<u8>>> {
        let Self { verb, subject, service, rest } = self;
        let protocol = if minor >= MINOR_PROTOCOL { "protocol" } else { "service" };
        let subject = escape(subject.as_bytes());
        let head = format!("{verb}\t{id}\t");
        let service = format!("\t{protocol}={service}");
        let line = [head.as_bytes(), &subject, service.as_bytes(), rest, b"\n"].concat();
        Some(Zeroizing::new(line)).filter(|line| line.len() <= MAX_REQUEST)
    }
}

/// Appends a field.
pub(super) fn put(rest: &mut Vec<u8>, name: &str, value: &[u8]) {
    rest.push(b'\t');
    rest.extend_from_slice(name.as_bytes());
    rest.push(b'=');
    rest.extend_from_slice(&escape(value));
}

/// Appends a field without a value.
pub(super) fn flag(rest: &mut Vec<u8>, name: &str) {
    rest.push(b'\t');
    rest.extend_from_slice(name.as_bytes());
}
