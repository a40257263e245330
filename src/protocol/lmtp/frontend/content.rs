//! The bytes of a message, as they come by DATA or BDAT.

use super::super::command::Fault;
use super::super::reply;
use super::{Frontend, State};
use crate::protocol::{Input, Output, Violation};

/// How far the content of a message has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// More must come.
    More,
    /// A chunk is complete, and was answered; the next one is a command.
    ChunkTaken,
    /// The message is complete: settle every recipient.
    End,
}

impl Frontend {
    /// Takes from `input` what it has of the message and appends it to `content`: with CRLF for every line end if it comes
    /// by DATA, byte for byte if by BDAT.
    pub fn content(&mut self, input: &mut Input, content: &mut Vec<u8>, out: &mut Output) -> Content {
        let before = content.len();
        let progress = match &mut self.state {
            State::Data(undotted) => {
                let (used, end) = undotted.take(input.filled(), content);
                input.consume(used);
                if end { Content::End } else { Content::More }
            }
            State::Chunk { left, last } => {
                let taken = input.filled().len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                content.extend_from_slice(&input.filled()[..taken]);
                input.consume(taken);
                *left -= taken as u64; // no more than that
                match (*left, *last) {
                    (0, true) => Content::End,
                    (0, false) => Content::ChunkTaken,
                    _ => Content::More,
                }
            }
            _ => return Content::More,
        };
        self.received = self.received.saturating_add((content.len() - before) as u64);
        match progress {
            Content::More => {}
            Content::End => self.state = State::Verdict,
            Content::ChunkTaken => {
                reply::chunk_taken(out);
                self.state = State::Line;
            }
        }
        progress
    }

    /// Swallows what it has of a chunk that nobody has asked for; true once that was answered.
    pub(super) fn unwanted(
        &mut self,
        left: u64,
        fault: Fault,
        input: &mut Input,
        out: &mut Output,
    ) -> Result<bool, Violation> {
        let taken = input.filled().len().min(usize::try_from(left).unwrap_or(usize::MAX));
        input.consume(taken);
        let left = left - taken as u64; // no more than that
        if left > 0 {
            self.state = State::Unwanted { left, fault };
            return Ok(false);
        }
        self.state = State::Line;
        self.fault(fault, out)?;
        Ok(true)
    }
}
