//! XCLIENT: who the client is, and who logs in where the server takes our word for it. Attributes and their order are those
//! of Dovecot's proxy; the format is Postfix's (XCLIENT_README).

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::command::is_proper_name;
use crate::protocol::{Announcement, BackendLogin};

/// Bytes of one command, its CRLF included (RFC 5321 4.5.3.1.4).
const LONGEST: usize = 512;

/// By which attribute a server takes our word for who logs in.
pub(super) const LOGIN: &str = "LOGIN";

type Attribute = (&'static str, String);

/// The commands that tell what of it the server has `listed`, each with its CRLF; none if there is nothing to tell. An
/// attribute that fits in no command has one of its own, as long as it is: servers take more than the 512 bytes.
pub(super) fn commands(listed: &[String], login: &BackendLogin) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for (name, value) in attributes(login) {
        if !listed.iter().any(|known| known == name) {
            continue;
        }
        let attribute = format!(" {name}={}", xtext(&value));
        match commands.last_mut() {
            Some(command) if command.len() + attribute.len() + "\r\n".len() <= LONGEST => command.push_str(&attribute),
            _ => commands.push(format!("XCLIENT{attribute}")),
        }
    }
    commands.iter_mut().for_each(|command| command.push_str("\r\n"));
    commands
}

fn attributes(login: &BackendLogin) -> Vec<Attribute> {
    let (before, behind) = login.announce.as_ref().map(client).unwrap_or_default();
    let user = login.noauth.then(|| (LOGIN, login.user.clone()));
    let forward = login.announce.as_ref().and_then(|_| forward(&login.forward));
    before.into_iter().chain(user).chain(behind).chain(forward).collect()
}

/// What stands before the user, and what behind.
fn client(announcement: &Announcement) -> (Vec<Attribute>, Vec<Attribute>) {
    let Announcement { client, local, session, ttl, secured, server_name, helo, .. } = announcement;
    let helo = helo.clone().filter(|name| is_proper_name(name)).map(|name| ("HELO", name));
    let mut before = Vec::from_iter(helo);
    before.push(("PROTO", "ESMTP".to_owned())); // nobody logs in behind HELO
    let mut behind = vec![
        ("TTL", ttl.to_string()),
        ("PORT", client.port().to_string()),
        ("ADDR", address(client)),
        ("DESTPORT", local.port().to_string()),
        ("DESTADDR", address(local)),
        ("SESSION", session.to_string()),
        ("CLIENT-TRANSPORT", if *secured { "TLS" } else { "insecure" }.to_owned()),
    ];
    // A name that a load balancer gave may be anything.
    behind.extend(server_name.clone().filter(|name| is_proper_name(name)).map(|name| ("DESTNAME", name)));
    (before, behind)
}

fn address(of: &SocketAddr) -> String {
    let ip = of.ip().to_canonical();
    if ip.is_ipv6() { format!("IPV6:{ip}") } else { ip.to_string() }
}

/// `key=value`, with TABs between and within escaped, in base64: as Dovecot has it.
fn forward(fields: &[(String, String)]) -> Option<Attribute> {
    let fields: Vec<_> = fields.iter().map(|(key, value)| tab_escaped(&format!("{key}={value}"))).collect();
    let text = crate::protocol::sasl::encode(fields.join("\t").as_bytes());
    (!fields.is_empty()).then(|| ("FORWARD", text.to_string()))
}

fn tab_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0' => escaped.push_str("\x010"),
            '\x01' => escaped.push_str("\x011"),
            '\t' => escaped.push_str("\x01t"),
            '\r' => escaped.push_str("\x01r"),
            '\n' => escaped.push_str("\x01n"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// RFC 3461 section 4.
fn xtext(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'!'..=b'~' if !b"+=".contains(&byte) => text.push(char::from(byte)),
            _ => _ = write!(text, "+{byte:02X}"), // a String takes everything
        }
    }
    text
}
