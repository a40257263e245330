//! What commands and responses are made of (RFC 5804 section 4): strings, quoted or as literals, and words.

use zeroize::Zeroizing;

use crate::protocol::buffer::find;
use crate::protocol::line::{literal_at_end, without_end};

/// Bytes that a quoted string may hold.
const LONGEST_QUOTED: usize = 1024;

/// What is left of a complete command or response, whose literals lie in it as they came.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a>(pub(super) &'a [u8]);

impl<'a> Tokens<'a> {
    /// Blanks at the end are forgiven.
    pub(super) fn is_at_end(&self) -> bool {
        self.0.iter().all(|byte| *byte == b' ')
    }

    pub(super) fn byte(&mut self, wanted: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        (*first == wanted).then(|| self.0 = rest)
    }

    /// One blank or more.
    pub(super) fn space(&mut self) -> Option<()> {
        self.byte(b' ')?;
        while self.byte(b' ').is_some() {}
        Some(())
    }

    /// A word: anything up to what begins something else.
    pub(super) fn word(&mut self) -> Option<&'a [u8]> {
        let ends = |byte: &u8| byte.is_ascii_control() || b" \"(){".contains(byte);
        let (word, rest) = self.0.split_at(self.0.iter().position(ends).unwrap_or(self.0.len()));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Quoted or literal, into one buffer that never grows, so that no piece of a password is left behind.
    pub(super) fn string(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        match self.0.first()? {
            b'"' => self.quoted(),
            b'{' => self.literal(),
            _ => None,
        }
    }

    fn quoted(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.0.len()));
        self.byte(b'"')?;
        loop {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            match first {
                b'"' => return Some(text),
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

    fn literal(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let (announcement, rest) = self.0.split_at(find(b'\n', self.0)? + 1);
        let (literal, nothing) = literal_at_end(without_end(announcement))?;
        let (bytes, rest) = rest.split_at_checked(literal.size)?;
        if !nothing.is_empty() || find(0, bytes).is_some() {
            return None;
        }
        self.0 = rest;
        Some(Zeroizing::new(bytes.to_vec()))
    }

    /// What is in parentheses, others and strings in it included.
    pub(super) fn parenthesis(&mut self) -> Option<&'a [u8]> {
        self.byte(b'(')?;
        let inside = self.0;
        let mut depth = 1_usize;
        while depth > 0 {
            match self.0.split_first()? {
                (b'"' | b'{', _) => _ = self.string()?,
                (first, rest) => {
                    self.0 = rest;
                    match first {
                        b'(' => depth += 1,
                        b')' => depth -= 1,
                        b'\r' | b'\n' => return None,
                        _ => {}
                    }
                }
            }
        }
        Some(&inside[..inside.len() - self.0.len() - 1])
    }
}

/// A text in quotes. Control characters, which quotes cannot hold, are left out.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars().filter(|character| !character.is_control()) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// A string that needs no escapes, such as base64, as we say it to a server.
pub(super) fn string(text: &[u8]) -> Zeroizing<Vec<u8>> {
    if text.len() <= LONGEST_QUOTED {
        return Zeroizing::new([b"\"", text, b"\""].concat());
    }
    Zeroizing::new([format!("{{{}+}}\r\n", text.len()).as_bytes(), text].concat())
}
