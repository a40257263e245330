//! Parses a command into tag, verb and arguments. What the arguments mean is for whoever obeys.

/// How deep lists may nest.
const DEPTH: usize = 4;
/// How many arguments a command may have, those in lists included.
const ARGUMENTS: usize = 1000;

/// A command as it was said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) tag: String,
    /// Upper case; "UID FETCH" and its like are one verb.
    pub(super) verb: String,
    pub(super) arguments: Vec<Argument>,
}

/// One argument.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// An atom, as it stands. A section (`BODY[TEXT]<0.10>`) belongs to it, blanks and all.
    Atom(String),
    /// A quoted string or literal.
    Text(Vec<u8>),
    /// What stands in parentheses.
    List(Vec<Argument>),
}

/// Why a command cannot be understood: its tag, if it had one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) Option<String>);

impl Command {
    /// Parses `bytes`, in which each literal stands as `{size}CRLF` and its bytes.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor { rest: bytes, left: ARGUMENTS };
        let tag = cursor.atom().filter(|tag| tag.len() <= 64 && tag != "+").ok_or(Malformed(None))?;
        Self::after_tag(&tag, &mut cursor).ok_or(Malformed(Some(tag)))
    }

    fn after_tag(tag: &str, cursor: &mut Cursor<'_>) -> Option<Self> {
        cursor.expect(b' ')?;
        let mut verb = cursor.atom()?.to_ascii_uppercase();
        if verb == "UID" {
            cursor.expect(b' ')?;
            verb = format!("UID {}", cursor.atom()?.to_ascii_uppercase());
        }
        let mut arguments = Vec::new();
        while cursor.expect(b' ').is_some() {
            arguments.push(cursor.argument(0)?);
        }
        cursor.rest.is_empty().then(|| Self { tag: tag.to_owned(), verb, arguments })
    }
}

impl Argument {
    /// Atom or string, if it is UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Atom(atom) => Some(atom),
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::List(_) => None,
        }
    }
}

/// A decimal number of at most nine digits.
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

struct Cursor<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Cursor<'a> {
    fn expect(&mut self, byte: u8) -> Option<()> {
        let (&first, rest) = self.rest.split_first()?;
        (first == byte).then(|| self.rest = rest)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn argument(&mut self, depth: usize) -> Option<Argument> {
        self.left = self.left.checked_sub(1)?;
        match self.rest.first()? {
            b'"' => self.quoted().map(Argument::Text),
            b'{' => self.literal().map(Argument::Text),
            b'(' if depth < DEPTH => self.list(depth).map(Argument::List),
            _ => self.atom().map(Argument::Atom),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Argument>> {
        self.expect(b'(')?;
        let mut items = Vec::new();
        while self.expect(b')').is_none() {
            if !items.is_empty() {
                self.expect(b' ')?;
            }
            items.push(self.argument(depth + 1)?);
        }
        Some(items)
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            match self.take(1)?[0] {
                b'"' => return Some(text),
                b'\\' => text.push(self.take(1)?[0]),
                byte => text.push(byte),
            }
        }
    }

    fn literal(&mut self) -> Option<Vec<u8>> {
        self.expect(b'{')?;
        let close = memchr::memchr(b'}', self.rest)?;
        let digits = self.take(close)?;
        let size = number(digits.strip_suffix(b"+").unwrap_or(digits))?;
        self.expect(b'}')?;
        self.expect(b'\r')?;
        self.expect(b'\n')?;
        self.take(usize::try_from(size).ok()?).map(<[u8]>::to_vec)
    }

    fn atom(&mut self) -> Option<String> {
        let mut end = 0;
        while let Some(&byte) = self.rest.get(end) {
            match byte {
                b'[' => end += memchr::memchr(b']', &self.rest[end..])?,
                b' ' | b'(' | b')' | b'{' | b'"' | 0..=31 | 127 => break,
                _ => {}
            }
            end += 1;
        }
        let atom = self.take(end).filter(|atom| !atom.is_empty())?;
        String::from_utf8(atom.to_vec()).ok()
    }
}
