//! Where a PROXY header ends: how much may be read without touching the first byte behind it.

use super::ProxyFault;

/// What version 2 starts with; chosen so that no protocol would take it for its own.
pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The fixed part of version 2: signature, version and command, family and transport, length of the rest.
pub(super) const FIXED: usize = 16;
/// The longest version 2 header that is taken. The standard TLVs need some hundred bytes; the rest is for private ones.
pub(super) const MAX_BINARY: usize = 4096;
/// The longest version 1 line, its CRLF included (section 2.1).
const MAX_TEXT: usize = 107;
/// `PROXY UNKNOWN` and CRLF: no header of either version is shorter, so that much is always safe to read.
const SHORTEST: usize = 15;
/// Single spaces in a version 1 line with addresses.
const SPACES: usize = 5;
/// Version 2, command LOCAL; the command PROXY is one more.
const LOCAL: u8 = 0x20;

/// How far a header is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// At least this many bytes are missing, never 0.
    Missing(usize),
    /// It ends exactly here.
    Whole,
}

/// Judges the first bytes of a connection, as early as they can be told from a header. Correct only if what it was shown
/// before asked for no more than it was given.
pub(super) fn look(seen: &[u8]) -> Result<Frame, ProxyFault> {
    if agrees(seen, SIGNATURE) {
        binary(seen)
    } else if [&b"PROXY TCP4 "[..], b"PROXY TCP6 ", b"PROXY UNKNOWN"].iter().any(|start| agrees(seen, start)) {
        text(seen)
    } else {
        Err(ProxyFault::Missing)
    }
}

/// Whether a whole header is one of version 2 with the command LOCAL.
pub(super) fn is_local(whole: &[u8]) -> bool {
    whole.get(SIGNATURE.len()) == Some(&LOCAL)
}

/// Whether one is how the other starts.
fn agrees(seen: &[u8], start: &[u8]) -> bool {
    seen.iter().zip(start).all(|(a, b)| a == b)
}

fn binary(seen: &[u8]) -> Result<Frame, ProxyFault> {
    if let Some(version_command) = seen.get(SIGNATURE.len())
        && !matches!(*version_command, LOCAL | 0x21)
    {
        return Err(ProxyFault::malformed(format!("unknown version and command {version_command:#04x}")));
    }
    if seen.len() < SHORTEST {
        return Ok(Frame::Missing(SHORTEST - seen.len()));
    }
    let &[high, low] = &seen[FIXED - 2..FIXED.min(seen.len())] else {
        return Ok(Frame::Missing(FIXED - seen.len()));
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_BINARY {
        return Err(ProxyFault::TooLong(MAX_BINARY));
    }
    Ok(if seen.len() < length { Frame::Missing(length - seen.len()) } else { Frame::Whole })
}

/// A line has no length in front, so what it still must have sets the pace: in the end two bytes at a time.
fn text(seen: &[u8]) -> Result<Frame, ProxyFault> {
    if let Some(line) = seen.strip_suffix(b"\r\n")
        && !line.contains(&b'\n')
    {
        return Ok(Frame::Whole);
    }
    if seen.contains(&b'\n') {
        return Err(ProxyFault::malformed("a line that does not end in CRLF"));
    }
    let least = if seen.len() < SHORTEST {
        SHORTEST - seen.len()
    } else if seen.ends_with(b"\r") {
        1
    } else if seen.starts_with(b"PROXY T") {
        // Each field to come has a space in front and at least one byte; CRLF ends the last.
        2 * SPACES.saturating_sub(seen.iter().filter(|byte| **byte == b' ').count()) + 2
    } else {
        2
    };
    match MAX_TEXT - seen.len().min(MAX_TEXT) {
        0 => Err(ProxyFault::TooLong(MAX_TEXT)),
        room => Ok(Frame::Missing(least.min(room))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as the receiver does, but `step` bytes at a time at most.
    fn consumed(stream: &[u8], step: usize) -> Result<usize, ProxyFault> {
        let mut seen = 0;
        while let Frame::Missing(count) = look(&stream[..seen])? {
            assert_ne!(count, 0);
            if seen == stream.len() {
                return Err(ProxyFault::Closed);
            }
            seen += count.min(step).min(stream.len() - seen);
        }
        Ok(seen)
    }

    const LINES: [&str; 7] = [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN whatever \r may follow\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 0\r\n",
        "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        "PROXY TCP6 :: :: 0 0\r\n",
        "PROXY TCP6 2001:db8::1 2001:db8::2 52953 143\r\n",
        "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535 and some more up to the very last byte allow-\r\n",
    ];

    #[test]
    fn a_line_is_consumed_to_its_end_however_it_arrives() {
        for line in LINES {
            for follows in ["", "\r\n", "\n", "a LOGIN u p\r\n", "PROXY UNKNOWN\r\n"] {
                let stream = format!("{line}{follows}");
                for step in 1..=stream.len() {
                    assert_eq!(consumed(stream.as_bytes(), step).unwrap(), line.len(), "{stream:?} by {step}");
                }
            }
        }
    }

    #[test]
    fn a_line_of_107_bytes_is_taken_and_one_of_108_is_not() {
        let line = |length: usize| format!("PROXY UNKNOWN {:x<1$}\r\n", "", length - 16);
        assert_eq!(consumed(line(107).as_bytes(), 107).unwrap(), 107);
        assert!(matches!(consumed(line(108).as_bytes(), 108), Err(ProxyFault::TooLong(107))));
    }

    #[test]
    fn a_line_is_read_in_few_steps() {
        let line = b"PROXY TCP4 192.168.201.102 192.168.201.103 52953 143\r\n";
        let (mut seen, mut steps) = (0, 0);
        while let Frame::Missing(count) = look(&line[..seen]).unwrap() {
            (seen, steps) = (seen + count, steps + 1);
        }
        assert!(steps <= 12, "{steps}");
    }

    #[test]
    fn version_two_is_consumed_to_the_length_it_names() {
        for length in [0_u16, 1, 12, 4080] {
            let mut stream = [&SIGNATURE[..], &[0x21, 0x11], &length.to_be_bytes()].concat();
            stream.resize(FIXED + usize::from(length) + 5, b'\n');
            for step in [1, 2, 15, 16, 17, 5000] {
                assert_eq!(consumed(&stream, step).unwrap(), FIXED + usize::from(length));
            }
        }
    }

    #[test]
    fn a_header_beyond_the_bound_is_refused_before_it_is_read() {
        let start = [&SIGNATURE[..], &[0x21, 0x11], &4081_u16.to_be_bytes()].concat();
        assert!(matches!(look(&start), Err(ProxyFault::TooLong(4096))));
    }

    #[test]
    fn anything_else_is_told_from_a_header_at_its_first_odd_byte() {
        for (start, odd) in [("", "a"), ("P", "O"), ("PROXY ", "X"), ("PROXY TCP", "5"), ("\r\n\r\n\0\r\nQUIT", "X")] {
            assert!(matches!(look(start.as_bytes()), Ok(Frame::Missing(_))), "{start:?}");
            assert!(matches!(look(format!("{start}{odd}").as_bytes()), Err(ProxyFault::Missing)), "{start:?}");
        }
        let version_one_in_binary = [&SIGNATURE[..], &[0x11]].concat();
        assert!(matches!(look(&version_one_in_binary), Err(ProxyFault::Malformed(_))));
    }

    #[test]
    fn a_line_that_ends_in_a_bare_lf_is_refused() {
        for line in ["PROXY UNKNOWN\n\r\n", "PROXY UNKNOWN \nPROXY UNKNOWN\r\n", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\nx"] {
            assert!(matches!(consumed(line.as_bytes(), 200), Err(ProxyFault::Malformed(_))), "{line:?}");
        }
    }
}
