//! Buffers of the dialogue before login. Both carry passwords, so both wipe what they gave away and never leave a copy
//! behind when they grow.

use zeroize::{Zeroize, Zeroizing};

use super::Violation;

/// Received bytes, at most `capacity` of them at a time.
pub struct Input {
    bytes: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Input {
    /// An empty one that holds up to `capacity` bytes and never more.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Zeroizing::new(vec![0; capacity]), start: 0, end: 0 }
    }

    /// What has come and was not consumed.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether no byte more can be taken.
    pub fn is_full(&self) -> bool {
        self.filled().len() == self.bytes.len()
    }

    /// Length of the line at the beginning, its LF included; `None` while it is not complete. Looks at `limit` bytes and
    /// no further, so that the answer does not depend on how the bytes came.
    pub fn line(&self, limit: usize) -> Result<Option<usize>, Violation> {
        let limit = limit.min(self.bytes.len());
        let filled = self.filled();
        match find(b'\n', &filled[..limit.min(filled.len())]) {
            Some(end) => Ok(Some(end + 1)),
            None if filled.len() >= limit => Err(Violation::LineTooLong),
            None => Ok(None),
        }
    }

    /// Wipes the first `count` bytes; the next ones move up.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.bytes[self.start..self.start + count].zeroize();
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room for the next read, then [`Input::advance`]. Empty if full.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            let rest = self.end - self.start;
            self.bytes[rest..self.end].zeroize();
            (self.start, self.end) = (0, rest);
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes were written to [`Input::spare`].
    pub fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Takes as much of `bytes` as fits; returns how much.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = spare.len().min(bytes.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.advance(count);
        count
    }
}

/// Bytes to send.
#[derive(Default)]
pub struct Output(Zeroizing<Vec<u8>>);

impl Output {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends.
    pub fn put(&mut self, bytes: impl AsRef<[u8]>) {
        append(&mut self.0, bytes.as_ref());
    }

    /// What is to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first `count` bytes were sent: wipe them, the next ones move up.
    pub fn consume(&mut self, count: usize) {
        let sent = count.min(self.0.len());
        let rest = self.0.len() - sent;
        self.0.copy_within(sent.., 0);
        self.0[rest..].zeroize();
        self.0.truncate(rest);
    }

    /// It was sent: wipe it.
    pub fn clear(&mut self) {
        self.0.zeroize();
    }
}

/// Where `wanted` is in bytes that may be secret. Byte by byte: a search by vectors may leave them on the stack, and in
/// them a password.
pub(super) fn find(wanted: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

/// Appends to a buffer that may hold secrets: when it must grow, the old one is wiped.
pub(super) fn append(buffer: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    if buffer.capacity() - buffer.len() < bytes.len() {
        let mut grown = Vec::with_capacity((buffer.len() + bytes.len()).next_power_of_two().max(256));
        grown.extend_from_slice(buffer);
        *buffer = Zeroizing::new(grown); // the old one is wiped as it drops
    }
    buffer.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_takes_what_fits_and_no_more() {
        let mut input = Input::with_capacity(4);
        assert_eq!(input.push(b"abcdef"), 4);
        assert!(input.is_full());
        assert_eq!(input.push(b"g"), 0);
        input.consume(2);
        assert!(!input.is_full());
        assert_eq!(input.push(b"ghi"), 2);
        assert_eq!(input.filled(), b"cdgh");
        input.consume(99);
        assert!(input.is_empty());
    }

    #[test]
    fn input_that_has_no_room_is_empty_and_full() {
        let mut input = Input::with_capacity(0);
        assert!(input.is_empty() && input.is_full() && input.spare().is_empty());
        assert_eq!(input.line(10), Err(Violation::LineTooLong));
    }

    #[test]
    fn what_was_consumed_is_wiped_and_leaves_no_copy_when_the_rest_moves_up() {
        let mut input = Input::with_capacity(8);
        input.push(b"secretXY");
        input.consume(6);
        assert_eq!(&input.bytes[..], b"\0\0\0\0\0\0XY");
        assert_eq!(input.spare(), b"\0\0\0\0\0\0");
        assert_eq!(&input.bytes[..], b"XY\0\0\0\0\0\0");
    }

    #[test]
    fn more_than_was_read_is_not_believed() {
        let mut input = Input::with_capacity(2);
        input.advance(usize::MAX);
        assert_eq!(input.filled(), b"\0\0");
    }

    #[test]
    fn a_line_ends_at_its_lf_and_within_the_limit() {
        let mut input = Input::with_capacity(8);
        assert_eq!(input.line(8), Ok(None));
        input.push(b"ab\r\ncd");
        assert_eq!(input.line(8), Ok(Some(4)));
        assert_eq!(input.line(4), Ok(Some(4)));
        assert_eq!(input.line(3), Err(Violation::LineTooLong));
        input.consume(4);
        assert_eq!(input.line(8), Ok(None));
        assert_eq!(input.line(2), Err(Violation::LineTooLong));
    }

    #[test]
    fn a_full_input_without_a_line_end_is_a_line_too_long_whatever_the_limit() {
        let mut input = Input::with_capacity(3);
        input.push(b"abc");
        assert_eq!(input.line(usize::MAX), Err(Violation::LineTooLong));
    }

    #[test]
    fn output_keeps_what_it_was_given_until_it_is_cleared() {
        let mut out = Output::new();
        assert!(out.is_empty());
        let long = vec![b'x'; 1000];
        out.put("a");
        out.put(&long);
        assert_eq!(out.bytes(), [b"a".as_slice(), &long].concat());
        out.clear();
        assert!(out.is_empty());
    }
}
