//! Messages that a test can tell from each other.

/// A whole message with CRLF, found again by its subject. It has a line that begins with a dot.
pub fn letter(subject: &str) -> String {
    format!(
        "From: <sender@far.test>\r\nTo: <somebody@test>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@far.test>\r\n\r\n\
         Dear reader,\r\n.one dot\r\n\r\nBye.\r\n"
    )
}

/// With every dot at the beginning of a line doubled, and the dot that ends it (RFC 5321, 4.5.2).
pub fn stuffed(message: &str) -> String {
    let lines: String = message
        .split_inclusive('\n')
        .map(|line| if line.starts_with('.') { format!(".{line}") } else { line.into() })
        .collect();
    let end = if lines.is_empty() || lines.ends_with("\r\n") { "" } else { "\r\n" };
    format!("{lines}{end}.\r\n")
}
