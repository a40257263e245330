//! What a client sends along with a command: lines up to one with nothing but a dot.

/// Finds the end of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text(At);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// At the beginning of a line.
    #[default]
    LineBegin,
    /// Behind a dot that begins a line.
    Dot,
    /// Behind such a dot and a CR.
    DotCr,
    /// Elsewhere in a line.
    Line,
}

impl Text {
    /// How many of the first bytes belong to it, and whether that is all.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            self.0 = match (self.0, byte) {
                (At::Dot | At::DotCr, b'\n') => return (at + 1, true),
                (At::LineBegin, b'.') => At::Dot,
                (At::Dot, b'\r') => At::DotCr,
                (_, b'\n') => At::LineBegin,
                _ => At::Line,
            };
        }
        (bytes.len(), false)
    }
}
