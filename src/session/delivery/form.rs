//! How a message is sent on to a backend: as it comes, by BDAT, or with its dots doubled, by DATA.

use crate::protocol::lmtp::{Dotted, Lines};

/// A message on its way out.
pub(super) struct Form {
    kind: Kind,
    /// What goes out next.
    wire: Vec<u8>,
    /// The end of the last chunk. It goes out when all is settled: as soon as the backend has it, it may store the message,
    /// and answer.
    held: Vec<u8>,
    /// The last chunk has been announced.
    is_last: bool,
    /// Chunks that the backend has not answered.
    pub(super) owed: usize,
}

enum Kind {
    /// By DATA. The lines of a message that comes by BDAT are made whole first.
    Dotted(Option<Lines>, Dotted),
    Chunks,
}

impl Form {
    /// By BDAT, chunk by chunk as it comes.
    pub(super) fn chunks() -> Self {
        Self::of(Kind::Chunks)
    }

    /// By DATA. `from_chunks`: it comes by BDAT.
    pub(super) fn dotted(from_chunks: bool) -> Self {
        Self::of(Kind::Dotted(from_chunks.then(Lines::default), Dotted::default()))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, wire: Vec::new(), held: Vec::new(), is_last: false, owed: 0 }
    }

    pub(super) fn is_chunks(&self) -> bool {
        matches!(self.kind, Kind::Chunks)
    }

    /// A chunk of so many bytes comes.
    pub(super) fn announce(&mut self, size: u64, last: bool) {
        if !self.is_chunks() {
            return;
        }
        let last_word = if last { " LAST" } else { "" };
        let command = format!("BDAT {size}{last_word}\r\n");
        let queue = if last && size == 0 { &mut self.held } else { &mut self.wire };
        queue.extend_from_slice(command.as_bytes());
        self.owed += usize::from(!last);
        self.is_last = last;
    }

    /// A part of the message comes.
    pub(super) fn put(&mut self, content: &[u8]) {
        match &mut self.kind {
            Kind::Chunks => {
                let Some((end, before)) = content.split_last() else { return };
                self.wire.append(&mut self.held);
                self.wire.extend_from_slice(before);
                let queue = if self.is_last { &mut self.held } else { &mut self.wire };
                queue.push(*end);
            }
            Kind::Dotted(None, dotted) => dotted.take(content, &mut self.wire),
            Kind::Dotted(Some(lines), dotted) => {
                let mut whole = Vec::with_capacity(content.len() + 2);
                lines.take(content, &mut whole);
                dotted.take(&whole, &mut self.wire);
            }
        }
    }

    /// The message is complete.
    pub(super) fn end(&mut self) {
        match &mut self.kind {
            Kind::Chunks => self.wire.append(&mut self.held),
            Kind::Dotted(lines, dotted) => {
                let mut whole = Vec::new();
                if let Some(lines) = lines {
                    lines.finish(&mut whole);
                }
                dotted.take(&whole, &mut self.wire);
                dotted.finish(&mut self.wire);
            }
        }
    }

    /// What goes out now; to be given back by [`Form::sent`], so that one buffer serves for all.
    pub(super) fn take_wire(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.wire)
    }

    pub(super) fn sent(&mut self, mut wire: Vec<u8>) {
        wire.clear();
        self.wire = wire;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(form: &mut Form) -> String {
        String::from_utf8(form.take_wire()).unwrap()
    }

    #[test]
    fn a_message_by_chunks_is_not_whole_before_its_end_is_asked_for() {
        let mut form = Form::chunks();
        form.announce(2, false);
        form.put(b"ab");
        assert_eq!(sent(&mut form), "BDAT 2\r\nab");
        form.announce(3, true);
        form.put(b"c");
        assert_eq!(sent(&mut form), "BDAT 3 LAST\r\n");
        form.put(b"de");
        form.put(b"");
        assert_eq!(sent(&mut form), "cd");
        form.end();
        assert_eq!((sent(&mut form).as_str(), form.owed), ("e", 1));

        form.announce(0, true);
        form.put(b"");
        assert_eq!(sent(&mut form), "");
        form.end();
        assert_eq!(sent(&mut form), "BDAT 0 LAST\r\n");
    }
}
