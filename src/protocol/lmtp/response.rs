//! What mail servers answer: replies of one line or several (RFC 5321 4.2).

use super::reply::Reply;
use crate::protocol::{Input, Violation};

/// Lines of one reply that are kept; the answer to LHLO has some twenty.
const LINES: usize = 64;
/// Lines of one reply that are read at all.
const LINES_READ: usize = 1000;

/// A reply that is coming in.
#[derive(Debug, Default)]
pub struct Replies {
    code: u16,
    text: String,
    lines: usize,
}

impl Replies {
    /// The next reply, once all its lines have come.
    pub fn next(&mut self, input: &mut Input) -> Result<Option<Reply>, Violation> {
        loop {
            let Some(length) = input.line(usize::MAX)? else { return Ok(None) };
            let more = self.line(&input.filled()[..length]);
            input.consume(length);
            if !more? {
                let whole = std::mem::take(self);
                return Ok(Some(Reply::of(whole.code, whole.text)));
            }
        }
    }

    /// Takes a line; says whether more belong to the reply.
    fn line(&mut self, line: &[u8]) -> Result<bool, Violation> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (digits, rest) = line.split_at_checked(3).ok_or(Violation::Nonsense("no reply code"))?;
        let code = code(digits)?;
        let (more, text) = match rest.split_first() {
            None | Some((b' ', _)) => (false, rest.get(1..).unwrap_or_default()),
            Some((b'-', text)) => (true, text),
            Some(_) => return Err(Violation::Nonsense("no reply code")),
        };
        if self.lines > 0 && code != self.code {
            return Err(Violation::Nonsense("two codes in one reply"));
        }
        if self.lines >= LINES_READ {
            return Err(Violation::Nonsense("an endless reply"));
        }
        if self.lines < LINES {
            if self.lines > 0 {
                self.text.push('\n');
            }
            // The client gets it, so nothing in it may be more than text.
            self.text.extend(String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        (self.code, self.lines) = (code, self.lines + 1);
        Ok(more)
    }
}

fn code(digits: &[u8]) -> Result<u16, Violation> {
    let sound = matches!(digits, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']);
    let number = |code: u16, digit: &u8| code * 10 + u16::from(digit - b'0');
    if sound { Ok(digits.iter().fold(0, number)) } else { Err(Violation::Nonsense("no reply code")) }
}
