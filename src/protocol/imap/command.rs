//! What a client may say before login, from bytes to a type that cannot be wrong.
//!
//! A command is one line, or several with literals between them. Once all has come, [`head`] tells what it is and
//! [`Head::body`] the rest. Both are pure functions over complete bytes.

use zeroize::Zeroizing;

use super::id;
use crate::model::{Credentials, Mechanism, Proof, Secret};
use crate::protocol::buffer::find;
use crate::protocol::line::{literal_at_end, without_end};
use crate::protocol::{fault, sasl};

/// A tag longer than this is refused rather than repeated. Clients use four to ten characters.
const LONGEST_TAG: usize = 128;

/// Names a command; its answer repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct Tag(Box<str>);

impl Tag {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) type Fault = fault::Fault<Own>;

/// What only IMAP commands may have wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Own {
    EmptyLine,
    BadTag,
    NoCommand,
    NoLiteralHere,
    LiteralTooLong,
}

/// A faulty command, with its tag if it had one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct Faulty {
    pub(super) tag: Option<Tag>,
    pub(super) fault: Fault,
}

/// The commands that mean something before login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Capability,
    Noop,
    Logout,
    Id,
    StartTls,
    Login,
    Authenticate,
}

impl Verb {
    const ALL: [(&'static str, Self); 7] = [
        ("CAPABILITY", Self::Capability),
        ("NOOP", Self::Noop),
        ("LOGOUT", Self::Logout),
        ("ID", Self::Id),
        ("STARTTLS", Self::StartTls),
        ("LOGIN", Self::Login),
        ("AUTHENTICATE", Self::Authenticate),
    ];

    fn parse(word: &[u8]) -> Result<Self, Fault> {
        let known = Self::ALL.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        known.map(|(_, verb)| *verb).ok_or_else(|| {
            let after = AFTER_LOGIN.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
            if after { Fault::LogInFirst } else { Fault::UnknownCommand }
        })
    }

    /// It carries a password.
    pub(super) fn is_login(self) -> bool {
        matches!(self, Self::Login | Self::Authenticate)
    }

    /// A literal may be among its arguments.
    pub(super) fn takes_literals(self) -> bool {
        matches!(self, Self::Login | Self::Id)
    }
}

/// Commands that real clients send too early, usually because they hoped for PREAUTH.
const AFTER_LOGIN: [&str; 28] = [
    "APPEND",
    "CHECK",
    "CLOSE",
    "COMPRESS",
    "COPY",
    "CREATE",
    "DELETE",
    "ENABLE",
    "EXAMINE",
    "EXPUNGE",
    "FETCH",
    "GETQUOTA",
    "GETQUOTAROOT",
    "IDLE",
    "LIST",
    "LSUB",
    "MOVE",
    "NAMESPACE",
    "RENAME",
    "SEARCH",
    "SELECT",
    "SORT",
    "STATUS",
    "STORE",
    "SUBSCRIBE",
    "UID",
    "UNSELECT",
    "UNSUBSCRIBE",
];

/// A command whose arguments have been understood.
#[derive(Debug)]
pub(super) enum Body {
    Capability,
    Noop,
    Logout,
    Id(Vec<id::Pair>),
    StartTls,
    Login(Credentials),
    Authenticate(sasl::Opening),
}

/// Tag and verb: enough to decide whether the rest is wanted.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) tag: Tag,
    pub(super) verb: Verb,
    rest: &'a [u8],
}

/// The beginning of a command, from its first line, or from all of it.
pub(super) fn head(command: &[u8]) -> Result<Head<'_>, Faulty> {
    let command = without_end(command);
    if command.is_empty() {
        return Err(Faulty { tag: None, fault: Fault::Own(Own::EmptyLine) });
    }
    let (word, rest) = split_word(command);
    // Without a tag of its own, what looks like one may be a password that lost its command: it is not repeated.
    let tag = tag(word).ok_or(Faulty { tag: None, fault: Fault::Own(Own::BadTag) })?;
    let (word, rest) = match rest {
        [b' ', rest @ ..] => split_word(rest),
        _ => return Err(Faulty { tag: None, fault: Fault::Own(Own::NoCommand) }),
    };
    match Verb::parse(word) {
        Ok(verb) => Ok(Head { tag, verb, rest }),
        Err(fault) => Err(Faulty { tag: Some(tag), fault }),
    }
}

impl Head<'_> {
    /// The arguments. Only for a complete command.
    pub(super) fn body(&self) -> Result<Body, Fault> {
        let arguments = Arguments(self.rest);
        match self.verb {
            Verb::Capability => arguments.none(Body::Capability),
            Verb::Noop => arguments.none(Body::Noop),
            Verb::Logout => arguments.none(Body::Logout),
            Verb::StartTls => arguments.none(Body::StartTls),
            Verb::Id => arguments.id().ok_or(Fault::Usage("ID NIL or ID (\"field\" \"value\")")),
            Verb::Login => arguments.login(),
            Verb::Authenticate => arguments.authenticate(),
        }
    }
}

fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(find(b' ', bytes).unwrap_or(bytes.len()))
}

/// RFC 9051 section 9: any ASTRING-CHAR but `+`.
fn tag(word: &[u8]) -> Option<Tag> {
    let proper = |byte: &u8| byte.is_ascii_graphic() && !br#"(){%*"\+"#.contains(byte);
    if word.is_empty() || word.len() > LONGEST_TAG || !word.iter().all(proper) {
        return None;
    }
    std::str::from_utf8(word).ok().map(|tag| Tag(tag.into()))
}

/// What is left of the arguments.
struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    fn none(&self, body: Body) -> Result<Body, Fault> {
        self.is_at_end().then_some(body).ok_or(Fault::Usage("no arguments"))
    }

    fn login(mut self) -> Result<Body, Fault> {
        const USAGE: Fault = Fault::Usage("LOGIN user password");
        let user = self.space().and_then(|()| self.astring()).ok_or(USAGE)?;
        let password = self.space().and_then(|()| self.astring()).filter(|_| self.is_at_end()).ok_or(USAGE)?;
        Ok(Body::Login(Credentials {
            user: sasl::user_name(user.expose())?,
            authzid: None,
            proof: Proof::Password(password),
            mechanism: Mechanism::Command,
        }))
    }

    fn authenticate(mut self) -> Result<Body, Fault> {
        const USAGE: Fault = Fault::Usage("AUTHENTICATE mechanism");
        let mechanism = self.space().and_then(|()| self.atom()).ok_or(USAGE)?;
        let initial = if self.is_at_end() {
            None
        } else {
            let text = self.space().and_then(|()| self.atom()).filter(|_| self.is_at_end()).ok_or(USAGE)?;
            Some(sasl::initial(text))
        };
        Ok(Body::Authenticate(sasl::open(mechanism, initial)?))
    }

    fn id(mut self) -> Option<Body> {
        self.space()?;
        let mut pairs = Vec::new();
        if self.is_nil() {
            return self.is_at_end().then_some(Body::Id(pairs));
        }
        self.byte(b'(')?;
        while self.0.first()? != &b')' {
            let field = self.string()?;
            self.space()?;
            let value = if self.is_nil() { None } else { Some(self.string()?) };
            id::keep(&mut pairs, field.expose(), value.as_ref().map(Secret::expose));
            if self.0.first()? != &b')' {
                self.space()?;
            }
        }
        self.byte(b')')?;
        self.is_at_end().then_some(Body::Id(pairs))
    }

    /// Blanks at the end are forgiven.
    fn is_at_end(&self) -> bool {
        self.0.iter().all(|byte| *byte == b' ')
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        (*first == wanted).then(|| self.0 = rest)
    }

    fn space(&mut self) -> Option<()> {
        self.byte(b' ')
    }

    /// Goes behind `NIL`, if that is what comes.
    fn is_nil(&mut self) -> bool {
        match self.0.split_at_checked(3) {
            Some((word, rest)) if word.eq_ignore_ascii_case(b"NIL") => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn astring(&mut self) -> Option<Secret> {
        match self.0.first()? {
            b'"' | b'{' => self.string(),
            _ => self.atom().map(|atom| Secret::new(atom.to_vec())),
        }
    }

    /// More than the grammar's atom, which has neither `%*\` nor 8-bit characters: people's passwords do, and where an
    /// argument ends is clear all the same.
    fn atom(&mut self) -> Option<&'a [u8]> {
        let special = |byte: &u8| byte.is_ascii_control() || b" \"(){".contains(byte);
        let end = self.0.iter().position(special).unwrap_or(self.0.len());
        let (atom, rest) = self.0.split_at(end);
        self.0 = rest;
        (!atom.is_empty()).then_some(atom)
    }

    /// Quoted or literal, into one buffer that never grows, so that no piece of a password is left behind.
    fn string(&mut self) -> Option<Secret> {
        match self.0.first()? {
            b'"' => self.quoted(),
            b'{' => self.literal(),
            _ => None,
        }
    }

    fn quoted(&mut self) -> Option<Secret> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.0.len()));
        self.byte(b'"')?;
        loop {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            match first {
                b'"' => return Some(Secret::new(std::mem::take(&mut text))),
                b'\\' => text.push(self.escaped()?),
                0 | b'\r' | b'\n' => return None,
                other => text.push(*other),
            }
        }
    }

    /// Only a quote and a backslash may be escaped.
    fn escaped(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        matches!(first, b'"' | b'\\').then_some(*first)
    }

    fn literal(&mut self) -> Option<Secret> {
        let end = find(b'\n', self.0)?;
        let (announcement, rest) = self.0.split_at(end + 1);
        let (literal, nothing) = literal_at_end(without_end(announcement))?;
        let (bytes, rest) = rest.split_at_checked(literal.size)?;
        if !nothing.is_empty() || bytes.contains(&0) {
            return None;
        }
        self.0 = rest;
        Some(Secret::new(bytes.to_vec()))
    }
}
