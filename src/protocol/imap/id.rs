//! ID (RFC 2971): what a client says about itself, and what we say about the client to the backend.

use std::net::{IpAddr, SocketAddr};

use crate::protocol::Announcement;

/// A field and its value; `None` is NIL.
pub(super) type Pair = (String, Option<String>);

// RFC 2971 section 3.3.
const PAIRS: usize = 30;
const FIELD: usize = 30;
const VALUE: usize = 1024;

/// Bytes of the list that we send. Dovecot and others take lines of 8192 or 4096 bytes before login, and the command
/// around it and what is pipelined behind need room.
const LIST: usize = 3584;

/// How many more proxies may follow, in the words of Dovecot's.
const TTL: &str = "x-proxy-ttl";
/// The client of a webmail.
const ORIGIN: &str = "x-originating-ip";

/// Keeps a client's pair, if it is worth keeping: within the RFC's bounds, text, and not one of the `x-` fields, by which
/// proxies tell backends who the client is. Whoever could set those would appear in the log under any address. Kept
/// are the TTL, for [`take_ttl`]: it ends loops of proxies, and can do harm to nobody but its sender; and the origin, which the
/// session believes of exempt networks alone, for [`take_origin`]. Neither is passed on.
pub(super) fn keep(pairs: &mut Vec<Pair>, field: &[u8], value: Option<&[u8]>) {
    if pairs.len() == PAIRS || (is_reserved(field) && !is_kept(field)) {
        return;
    }
    let (Some(field), value) = (text(field, FIELD), value.map(|value| text(value, VALUE))) else { return };
    match value {
        None => pairs.push((field, None)),
        Some(Some(value)) => pairs.push((field, Some(value))),
        Some(None) => {}
    }
}

fn is_kept(field: &[u8]) -> bool {
    [TTL, ORIGIN].iter().any(|kept| field.eq_ignore_ascii_case(kept.as_bytes()))
}

fn is_reserved(field: &[u8]) -> bool {
    field.is_empty() || field.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"x-"))
}

fn text(bytes: &[u8], longest: usize) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.len() <= longest)?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// Takes the TTL out of kept pairs. One that is no number is as good as none.
pub(super) fn take_ttl(pairs: &mut Vec<Pair>) -> Option<u32> {
    let at = pairs.iter().position(|(field, _)| field.eq_ignore_ascii_case(TTL))?;
    pairs.remove(at).1?.parse().ok()
}

/// Takes the origin out of kept pairs. One that is no address is as good as none; of several the first counts.
pub(super) fn take_origin(pairs: &mut Vec<Pair>) -> Option<IpAddr> {
    let origins: Vec<Pair> = pairs.extract_if(.., |(field, _)| field.eq_ignore_ascii_case(ORIGIN)).collect();
    let address = origins.into_iter().next()?.1?.trim().parse::<IpAddr>().ok()?;
    Some(address.to_canonical())
}

/// The list for the backend: who the client is, in the fields that Dovecot knows, then what it said about itself.
pub(super) fn list(announcement: &Announcement) -> String {
    let mut list = List { text: String::from("("), pairs: 0 };
    for (field, value) in proxy_fields(announcement) {
        list.add(field, Some(&value));
    }
    for (field, value) in &announcement.client_id {
        if !is_reserved(field.as_bytes()) {
            list.add(field, value.as_deref());
        }
    }
    list.text.push(')');
    list.text
}

fn proxy_fields(announcement: &Announcement) -> Vec<(&'static str, String)> {
    let address = |of: SocketAddr| of.ip().to_canonical().to_string();
    let mut fields = vec![
        ("x-session-id", announcement.session.to_string()),
        (ORIGIN, address(announcement.client)),
        ("x-originating-port", announcement.client.port().to_string()),
        ("x-connected-ip", address(announcement.local)),
        ("x-connected-port", announcement.local.port().to_string()),
        (TTL, announcement.ttl.to_string()),
        ("x-client-transport", if announcement.secured { "TLS" } else { "insecure" }.to_owned()),
    ];
    fields.extend(announcement.server_name.clone().map(|name| ("x-connected-name", name)));
    fields
}

struct List {
    text: String,
    pairs: usize,
}

impl List {
    /// Adds a pair, unless it is over a bound or needs a literal: RFC 3501 quotes 7-bit text only, and an ID is not worth
    /// a round trip.
    fn add(&mut self, field: &str, value: Option<&str>) {
        if self.pairs == PAIRS || field.len() > FIELD || value.is_some_and(|value| value.len() > VALUE) {
            return;
        }
        let Some(field) = quoted(field) else { return };
        let Some(value) = value.map_or_else(|| Some("NIL".to_owned()), quoted) else { return };
        let blank = if self.pairs > 0 { " " } else { "" };
        let pair = format!("{blank}{field} {value}");
        if self.text.len() + pair.len() < LIST {
            self.text.push_str(&pair);
            self.pairs += 1;
        }
    }
}

/// Seven-bit text in quotes; `None` if a literal were needed.
fn quoted(text: &str) -> Option<String> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => return None,
        }
    }
    quoted.push('"');
    Some(quoted)
}
