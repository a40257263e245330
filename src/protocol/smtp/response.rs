//! What a mail server says: replies of one line or several (RFC 5321 4.2).

use crate::protocol::Violation;

/// Lines of one reply. What Exchange answers to EHLO has some twenty.
const LINES: usize = 128;
/// Bytes of the texts of one reply.
const BYTES: usize = 16 * 1024;

/// All that a server answers to one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct Response {
    /// Three digits, the first from 2 to 5.
    pub(in crate::protocol) code: u16,
    /// What is behind the code, line by line.
    pub(in crate::protocol) lines: Vec<Vec<u8>>,
}

impl Response {
    /// The last line: where a reply has several, the earlier ones greet and explain.
    pub(in crate::protocol) fn text(&self) -> &[u8] {
        self.lines.last().map_or(b"", Vec::as_slice)
    }
}

/// A reply that is coming in.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Partial {
    response: Response,
    bytes: usize,
}

impl Partial {
    /// Takes a line, its end included or not; gives the reply if this was its last.
    pub(in crate::protocol) fn add(&mut self, line: &[u8]) -> Result<Option<Response>, Violation> {
        let (code, more, text) = parse(line).ok_or(Violation::Nonsense("a line that is no SMTP reply"))?;
        if !self.response.lines.is_empty() && self.response.code != code {
            return Err(Violation::Nonsense("two codes in one reply"));
        }
        self.bytes += text.len();
        if self.response.lines.len() == LINES || self.bytes > BYTES {
            return Err(Violation::Nonsense("a reply too long"));
        }
        self.response.code = code;
        self.response.lines.push(text.to_vec());
        Ok(if more { None } else { Some(std::mem::take(self).response) })
    }

    /// No reply has begun.
    pub(in crate::protocol) fn is_empty(&self) -> bool {
        self.response.lines.is_empty()
    }
}

/// Code, whether more lines follow, and text.
fn parse(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
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
pub(in crate::protocol) fn code(line: &[u8]) -> Option<(u16, &[u8])> {
    parse(line).filter(|(_, more, _)| !more).map(|(code, _, text)| (code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_one_code_and_is_bounded() {
        let mut partial = Partial::default();
        assert_eq!(partial.add(b"250-one\r\n"), Ok(None));
        assert!(!partial.is_empty());
        let whole = partial.add(b"250\r\n").unwrap().unwrap();
        assert_eq!((whole.code, whole.text(), whole.lines.len()), (250, &b""[..], 2));
        assert!(partial.is_empty());
        for line in [&b"650 x\r\n"[..], b"25\r\n", b"2x0 x\r\n", b"250x\r\n", b"\r\n"] {
            assert!(Partial::default().add(line).is_err(), "{}", line.escape_ascii());
        }
        assert_eq!(partial.add(b"250-a\r\n"), Ok(None));
        assert!(partial.add(b"251 b\r\n").is_err());
        let mut endless = Partial::default();
        assert!((0..=LINES).any(|_| endless.add(b"250-\r\n").is_err()));
        assert!(Partial::default().add(&[&b"250-"[..], &[b'x'; BYTES + 1]].concat()).is_err());
    }
}
