//! What a mail server says: replies of one line or several (RFC 5321 4.2), and the keywords in its answer to EHLO.

use super::command::without_end;
use crate::protocol::Violation;

/// Lines of one reply. What Exchange answers to EHLO has some twenty.
const LINES: usize = 128;
/// Bytes of the texts of one reply.
const BYTES: usize = 16 * 1024;

/// All that a server answers to one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// What is behind the code, line by line.
    pub(super) lines: Vec<Vec<u8>>,
}

impl Reply {
    /// The last line: where a reply has several, the earlier ones greet and explain.
    pub(super) fn text(&self) -> &[u8] {
        self.lines.last().map_or(b"", Vec::as_slice)
    }
}

/// A reply that is coming in.
#[derive(Debug, Default)]
pub(super) struct Partial {
    reply: Reply,
    bytes: usize,
}

impl Partial {
    /// Takes a line, its end included or not; gives the reply if this was its last.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<Option<Reply>, Violation> {
        let (code, more, text) = parse(without_end(line)).ok_or(Violation::Nonsense("a line that is no SMTP reply"))?;
        if !self.reply.lines.is_empty() && self.reply.code != code {
            return Err(Violation::Nonsense("two codes in one reply"));
        }
        self.bytes += text.len();
        if self.reply.lines.len() == LINES || self.bytes > BYTES {
            return Err(Violation::Nonsense("a reply too long"));
        }
        self.reply.code = code;
        self.reply.lines.push(text.to_vec());
        Ok(if more { None } else { Some(std::mem::take(self).reply) })
    }
}

/// Code, whether more lines follow, and text.
fn parse(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let sound = matches!(digits, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']);
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0')));
    match rest.split_first() {
        _ if !sound => None,
        None => Some((code, false, rest)),
        Some((b' ', text)) => Some((code, false, text)),
        Some((b'-', text)) => Some((code, true, text)),
        Some(_) => None,
    }
}

/// The code at the beginning of a whole line, and the text behind it.
pub(super) fn code(line: &[u8]) -> Option<(u16, &[u8])> {
    parse(line).filter(|(_, more, _)| !more).map(|(code, _, text)| (code, text))
}

/// What a server offers, as far as it matters for logging in, or for the client behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keywords {
    pub(super) starttls: bool,
    /// AUTH PLAIN.
    pub(super) plain: bool,
    pub(super) pipelining: bool,
    /// What may be told by XCLIENT, in upper case.
    pub(super) xclient: Vec<String>,
    /// Lines that are true of a session after login, whoever answers before.
    pub(super) shown: Vec<String>,
}

impl Keywords {
    /// From the answer to EHLO. Its first line is a name and a greeting.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines.iter().skip(1) {
            found.add(line);
        }
        found
    }

    fn add(&mut self, line: &[u8]) {
        let Some(line) = std::str::from_utf8(line).ok().map(str::trim).filter(|line| is_sound(line)) else { return };
        let upper = line.to_ascii_uppercase();
        // `AUTH=PLAIN LOGIN` is what servers said before the RFC, and some say both.
        let mut words = upper.split([' ', '=']).filter(|word| !word.is_empty());
        match words.next().unwrap_or_default() {
            "STARTTLS" => self.starttls = true,
            "AUTH" => self.plain |= words.any(|word| word == "PLAIN"),
            "XCLIENT" => self.xclient = words.map(str::to_owned).collect(),
            // What proxies may tell is nothing that clients may.
            "XFORWARD" | "XRCPTFORWARD" => {}
            word => {
                self.pipelining |= word == "PIPELINING";
                self.shown.push(line.to_owned());
            }
        }
    }
}

/// RFC 5321 4.1.1.1: a keyword begins with a letter or a digit; all is text.
fn is_sound(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_alphanumeric()) && line.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
