//! How a message is sent on to a backend: as it comes, by BDAT, or with its dots doubled, by DATA.

use crate::protocol::lmtp::{Dotted, Lines};

/// A message on its way out.
pub(super) struct Form {
    kind: Kind,
    /// What goes out next.
    wire: Vec<u8>,
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
        Self { kind: Kind::Chunks, wire: Vec::new(), owed: 0 }
    }

    /// By DATA. `from_chunks`: it comes by BDAT.
    pub(super) fn dotted(from_chunks: bool) -> Self {
        let kind = Kind::Dotted(from_chunks.then(Lines::default), Dotted::default());
        Self { kind, wire: Vec::new(), owed: 0 }
    }

    pub(super) fn is_chunks(&self) -> bool {
        matches!(self.kind, Kind::Chunks)
    }

    /// A chunk of so many bytes comes.
    pub(super) fn announce(&mut self, size: u64, last: bool) {
        if self.is_chunks() {
            let last_word = if last { " LAST" } else { "" };
            self.wire.extend_from_slice(format!("BDAT {size}{last_word}\r\n").as_bytes());
            self.owed += usize::from(!last);
        }
    }

    /// A part of the message comes.
    pub(super) fn put(&mut self, content: &[u8]) {
        match &mut self.kind {
            Kind::Chunks => self.wire.extend_from_slice(content),
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
        if let Kind::Dotted(lines, dotted) = &mut self.kind {
            let mut whole = Vec::new();
            if let Some(lines) = lines {
                lines.finish(&mut whole);
            }
            dotted.take(&whole, &mut self.wire);
            dotted.finish(&mut self.wire);
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
