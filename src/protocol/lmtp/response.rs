//! What mail servers answer.

use super::reply::Reply;
use crate::protocol::smtp::{Partial, Response};
use crate::protocol::{Input, Violation};

/// A reply that is coming in.
#[derive(Debug, Default)]
pub struct Replies(Partial);

impl Replies {
    /// The next reply, once all its lines have come.
    pub fn next(&mut self, input: &mut Input) -> Result<Option<Reply>, Violation> {
        loop {
            let Some(length) = input.line(usize::MAX)? else { return Ok(None) };
            let whole = self.0.add(&input.filled()[..length]);
            input.consume(length);
            if let Some(Response { code, lines }) = whole? {
                return Ok(Some(Reply::of(code, shown(&lines))));
            }
        }
    }

    /// No reply has begun.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The client gets it, so nothing in it may be more than text.
fn shown(lines: &[Vec<u8>]) -> String {
    let text = |line| String::from_utf8_lossy(line).replace(|c: char| c.is_control(), " ");
    lines.iter().map(|line| text(line)).collect::<Vec<_>>().join("\n")
}
