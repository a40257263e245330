//! Where a message ends, and how it is sent on.
//!
//! A message that comes by DATA ends with CRLF, dot, CRLF, and with nothing else. Many servers also take a lone LF, or a lone
//! CR, for the end of a line there: whoever passes such bytes on lets a sender smuggle in messages of its own. So every lone
//! CR or LF becomes CRLF here, behind the search for the end: what goes out has line ends of one kind only, and every dot at
//! the start of a line is doubled by us. (A refusal would bounce mail that some other server has accepted already.)
//!
//! A message that comes by BDAT ends where its sizes say, and goes on byte for byte to servers that take BDAT. For others
//! it is treated as above.

/// Takes the dots of DATA away and finds its end. May be fed any pieces.
#[derive(Debug, Default)]
pub struct Undotted {
    at: At,
}

/// What came last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// CRLF, or nothing yet: here, and only here, a dot is more than a dot.
    #[default]
    LineStart,
    /// A dot there.
    Dot,
    /// A dot and CR there.
    DotCr,
    /// Anything else.
    Text,
    /// CR, of which is not known yet whether LF follows.
    Cr,
}

impl Undotted {
    /// Appends to `content` what `bytes` hold of the message, with CRLF for every line end. Gives how many bytes were
    /// used, and whether the end was among them, behind which nothing is touched.
    pub fn take(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> (usize, bool) {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            rest = behind;
            self.at = match (self.at, byte) {
                (At::DotCr, b'\n') => return (bytes.len() - rest.len(), true),
                (At::LineStart, b'.') => At::Dot,
                (At::Dot, b'\r') => At::DotCr,
                (At::Cr, b'\n') => {
                    content.extend_from_slice(b"\r\n");
                    At::LineStart
                }
                // That CR was a lone one. What follows is not at the start of a line as the end is defined.
                (At::Cr | At::DotCr, _) => {
                    content.extend_from_slice(b"\r\n");
                    rest = text(byte, rest, content);
                    if byte == b'\r' { At::Cr } else { At::Text }
                }
                (_, b'\r') => At::Cr,
                (_, b'\n') => {
                    content.extend_from_slice(b"\r\n");
                    At::Text
                }
                _ => {
                    rest = text(byte, rest, content);
                    At::Text
                }
            };
        }
        (bytes.len(), false)
    }
}

/// Appends `first`, unless it is a line end, and what follows up to the next line end; gives the rest.
fn text<'a>(first: u8, rest: &'a [u8], content: &mut Vec<u8>) -> &'a [u8] {
    if first == b'\r' {
        return rest;
    }
    content.push(first);
    let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
    content.extend_from_slice(&rest[..end]);
    &rest[end..]
}

/// Makes CRLF of every line end, whatever it was.
#[derive(Debug, Default)]
pub struct Lines {
    cr: bool,
}

impl Lines {
    /// Appends `bytes` to `content` so.
    pub fn take(&mut self, bytes: &[u8], content: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            rest = behind;
            match (std::mem::take(&mut self.cr), byte) {
                (true, b'\n') | (false, b'\n') => content.extend_from_slice(b"\r\n"),
                (before, byte) => {
                    if before {
                        content.extend_from_slice(b"\r\n");
                    }
                    self.cr = byte == b'\r';
                    rest = text(byte, rest, content);
                }
            }
        }
    }

    /// The message is over.
    pub fn finish(&mut self, content: &mut Vec<u8>) {
        if std::mem::take(&mut self.cr) {
            content.extend_from_slice(b"\r\n");
        }
    }
}

/// Doubles dots for DATA, in content whose line ends are all CRLF.
#[derive(Debug)]
pub struct Dotted {
    line_start: bool,
}

impl Default for Dotted {
    fn default() -> Self {
        Self { line_start: true }
    }
}

impl Dotted {
    /// Appends `content` to `wire`.
    pub fn take(&mut self, content: &[u8], wire: &mut Vec<u8>) {
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            if self.line_start && line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
            self.line_start = line.ends_with(b"\n");
        }
    }

    /// Appends the end of the message.
    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(if self.line_start { b".\r\n" } else { b"\r\n.\r\n" });
        self.line_start = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a piecewise reader makes of `wire`, and what it left alone.
    fn undotted(wire: &[u8], piece: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let (mut reader, mut content, mut used) = (Undotted::default(), Vec::new(), 0);
        for part in wire.chunks(piece) {
            let (count, end) = reader.take(part, &mut content);
            used += count;
            if end {
                return Some((content, wire[used..].to_vec()));
            }
            assert_eq!(count, part.len());
        }
        None
    }

    fn dotted(content: &[u8], piece: usize) -> Vec<u8> {
        let (mut writer, mut wire) = (Dotted::default(), Vec::new());
        for part in content.chunks(piece) {
            writer.take(part, &mut wire);
        }
        writer.finish(&mut wire);
        wire
    }

    #[test]
    fn a_message_ends_at_crlf_dot_crlf_and_nowhere_else() {
        for (wire, content, left) in [
            (&b".\r\nQUIT\r\n"[..], &b""[..], &b"QUIT\r\n"[..]),
            (b"a\r\n.\r\nrest", b"a\r\n", b"rest"),
            (b"a\r\n..\r\n.x\r\n.\r\n", b"a\r\n.\r\nx\r\n", b""),
            // Every way in which a sender has hidden a second message from somebody.
            (b"a\n.\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n", b""),
            (b"a\n.\r\nMAIL\r\n.\r\n", b"a\r\n.\r\nMAIL\r\n", b""),
            (b"a\r\n.\nMAIL\r\n.\r\n", b"a\r\n\r\nMAIL\r\n", b""),
            (b"a\r.\rMAIL\r\n.\r\n", b"a\r\n.\r\nMAIL\r\n", b""),
            (b"a\r\n.\rMAIL\r\n.\r\n", b"a\r\n\r\nMAIL\r\n", b""),
            (b"a\r.\r\nMAIL\r\n.\r\n", b"a\r\n.\r\nMAIL\r\n", b""),
            (b"a\n\r.\r\nMAIL\r\n.\r\n", b"a\r\n\r\n.\r\nMAIL\r\n", b""),
            (b"a\r\n.\r\r\nMAIL\r\n.\r\n", b"a\r\n\r\n\r\nMAIL\r\n", b""),
            (b"a\0\r\n.\0\r\n\r\n.\r\n", b"a\0\r\n\0\r\n\r\n", b""),
        ] {
            for piece in 1..=wire.len() {
                let found = undotted(wire, piece).unwrap_or_else(|| panic!("no end: {}", wire.escape_ascii()));
                assert_eq!(found, (content.to_vec(), left.to_vec()), "{} in {piece}", wire.escape_ascii());
            }
        }
    }

    #[test]
    fn a_lone_line_end_at_the_end_of_a_chunk_waits_for_the_next() {
        for (bytes, expected) in
            [(&b"a\rb\nc\r\n\r"[..], &b"a\r\nb\r\nc\r\n\r\n"[..]), (b"\n\r\n\r", b"\r\n\r\n\r\n"), (b"\r", b"\r\n")]
        {
            for piece in 1..=bytes.len() {
                let (mut lines, mut content) = (Lines::default(), Vec::new());
                bytes.chunks(piece).for_each(|part| lines.take(part, &mut content));
                lines.finish(&mut content);
                assert_eq!(content, expected, "{} in {piece}", bytes.escape_ascii());
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_sent_on_decodes_to_the_same_message_however_it_is_cut(
            bytes in proptest::collection::vec(proptest::sample::select(&b"\r\n.ax"[..]), 0..60),
            (one, other) in (1..8_usize, 1..8_usize),
        ) {
            // As it comes by BDAT.
            let (mut lines, mut content) = (Lines::default(), Vec::new());
            bytes.chunks(one).for_each(|part| lines.take(part, &mut content));
            lines.finish(&mut content);
            let wire = dotted(&content, other);
            let mut whole = content.clone();
            if !whole.is_empty() && !whole.ends_with(b"\n") {
                whole.extend(b"\r\n");
            }
            let read = undotted(&wire, one);
            proptest::prop_assert_eq!(&read, &Some((whole, Vec::new())));
            // As it comes by DATA: whatever end is found, what is sent on has the same one and no other.
            let mut wire = bytes;
            wire.extend(b"\r\n.\r\n");
            let first = undotted(&wire, one);
            proptest::prop_assert_eq!(&first, &undotted(&wire, other));
            let (content, _) = first.unwrap_or_default();
            let again = dotted(&content, one);
            for (at, byte) in again.iter().enumerate() {
                proptest::prop_assert!(*byte != b'\n' || again[..at].ends_with(b"\r"));
                proptest::prop_assert!(*byte != b'\r' || again[at + 1..].starts_with(b"\n"));
            }
            proptest::prop_assert_eq!(undotted(&again, other), Some((content, Vec::new())));
        }
    }
}
