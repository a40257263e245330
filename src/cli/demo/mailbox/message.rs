//! The parts of a message (RFC 5322) that IMAP asks for: header fields, ENVELOPE, BODYSTRUCTURE of a plain text.

/// How many addresses of one field are listed.
const ADDRESSES: usize = 100;

/// Header with the empty line that ends it, and body.
pub(super) fn split(raw: &[u8]) -> (&[u8], &[u8]) {
    if raw.starts_with(b"\r\n") {
        return raw.split_at(2);
    }
    match memchr::memmem::find(raw, b"\r\n\r\n") {
        Some(end) => raw.split_at(end + 4),
        None => (raw, b""),
    }
}

/// The fields of a header as they stand, folded lines kept together.
fn fields(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            end += memchr::memchr(b'\n', &rest[end..]).map_or(rest.len() - end, |at| at + 1);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, left) = rest.split_at(end);
        rest = left;
        (!field.is_empty() && field != b"\r\n").then_some(field)
    })
}

fn name(field: &[u8]) -> &[u8] {
    let end = memchr::memchr(b':', field).unwrap_or(field.len());
    field[..end].trim_ascii()
}

/// The fields whose names are listed, or all others, with the empty line that ends a header.
pub(super) fn pick(raw: &[u8], names: &[String], listed: bool) -> Vec<u8> {
    let wanted =
        |field: &&[u8]| names.iter().any(|wanted| name(field).eq_ignore_ascii_case(wanted.as_bytes())) == listed;
    let mut picked = fields(split(raw).0).filter(wanted).collect::<Vec<_>>().concat();
    picked.extend_from_slice(b"\r\n");
    picked
}

/// The unfolded value of the first field of that name.
pub(super) fn value(raw: &[u8], wanted: &str) -> Option<String> {
    let field = fields(split(raw).0).find(|field| name(field).eq_ignore_ascii_case(wanted.as_bytes()))?;
    let value = field.get(name(field).len()..)?;
    let text = String::from_utf8_lossy(value.get(1..)?);
    Some(text.split(['\r', '\n']).collect::<String>().trim().to_owned())
}

/// ENVELOPE (RFC 3501 7.4.2).
pub(super) fn envelope(raw: &[u8]) -> String {
    let text = |name| value(raw, name).map_or_else(nil, |value| quote(&value));
    let addresses = |name| value(raw, name).map_or_else(nil, |value| address_list(&value));
    let from = addresses("From");
    let or_from = |name| Some(addresses(name)).filter(|list| list != "NIL").unwrap_or_else(|| from.clone());
    format!(
        "({} {} {from} {} {} {} {} {} {} {})",
        text("Date"),
        text("Subject"),
        or_from("Sender"),
        or_from("Reply-To"),
        addresses("To"),
        addresses("Cc"),
        addresses("Bcc"),
        text("In-Reply-To"),
        text("Message-ID")
    )
}

/// BODY or, extended, BODYSTRUCTURE. Every message passes for a single plain text: all that the demo brings along are.
pub(super) fn structure(raw: &[u8], extended: bool) -> String {
    let body = split(raw).1;
    let lines = memchr::memchr_iter(b'\n', body).count();
    let encoding = value(raw, "Content-Transfer-Encoding").unwrap_or_else(|| "7bit".to_owned());
    let extension = if extended { " NIL NIL NIL NIL" } else { "" };
    format!(
        "(\"text\" \"plain\" (\"charset\" \"utf-8\") NIL NIL {} {} {lines}{extension})",
        quote(&encoding),
        body.len()
    )
}

fn nil() -> String {
    "NIL".to_owned()
}

/// A string for the wire: quoted if it may be, else a literal.
pub(super) fn quote(text: &str) -> String {
    if text.bytes().any(|byte| !matches!(byte, 32..=126)) {
        return format!("{{{}}}\r\n{text}", text.len());
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn address_list(value: &str) -> String {
    let mut quoted = false;
    let parts = value.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    let list: String = parts.take(ADDRESSES).map(str::trim).filter(|part| !part.is_empty()).map(address).collect();
    if list.is_empty() { nil() } else { format!("({list})") }
}

fn address(text: &str) -> String {
    let (name, at) = match text.rsplit_once('<') {
        Some((name, at)) => (name.trim().trim_matches('"'), at.trim_end_matches('>')),
        None => ("", text),
    };
    let (local, domain) = at.split_once('@').unwrap_or((at, ""));
    let name = if name.is_empty() { nil() } else { quote(name) };
    format!("({name} NIL {} {})", quote(local), quote(domain))
}
