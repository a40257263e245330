//! Lines, and the literals that they end in: `{12}`, or `{12+}` (RFC 7888).

/// A literal that the end of a line announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// Bytes, at most; a number too large to hold is as good as any other that is too large.
    pub(super) size: usize,
    /// Whoever sends it waits for a `+`, in protocols that have such a thing.
    pub(super) synchronising: bool,
}

/// Whether a line (its end included) ends in a literal. Inside a quoted string that is text.
pub(super) fn announced(line: &[u8]) -> Option<Literal> {
    let (literal, open) = literal_at_end(without_end(line))?;
    let mut parts = open.iter();
    let mut before = b' ';
    while let Some(byte) = parts.next() {
        // A quote opens a string only where an argument begins.
        if *byte == b'"' && matches!(before, b' ' | b'(') {
            skip_quoted(&mut parts)?;
        }
        before = *byte;
    }
    Some(literal)
}

/// The literal in braces at the end, and what is before it.
pub(super) fn literal_at_end(line: &[u8]) -> Option<(Literal, &[u8])> {
    let braced = line.strip_suffix(b"}")?;
    let (digits, synchronising) = braced.strip_suffix(b"+").map_or((braced, true), |digits| (digits, false));
    let open = digits.iter().rposition(|byte| !byte.is_ascii_digit())?;
    if digits[open] != b'{' || open + 1 == digits.len() {
        return None;
    }
    Some((Literal { size: number(&digits[open + 1..]), synchronising }, &digits[..open]))
}

/// Goes behind the closing quote; `None` if there is none.
fn skip_quoted(bytes: &mut std::slice::Iter<'_, u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'"' => return Some(()),
            b'\\' => _ = bytes.next()?,
            _ => {}
        }
    }
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0_usize, |sum, digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
}

/// A line without its CRLF. A bare LF ends a line, too: some scripts send nothing else, and no harm comes of it here.
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
