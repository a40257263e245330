//! XCLIENT as POP3 and ManageSieve have it: one line that tells a mail server who the client is. Submission and LMTP have
//! another, with a list of what may be told.

use std::net::SocketAddr;

use super::Announcement;

/// Bytes of a name that the client asked for (RFC 1035 section 2.3.4). With it the line stays below the 1024 bytes that
/// servers take.
const LONGEST_NAME: usize = 253;

/// The line, its CRLF included, in the order of Dovecot's proxy. What a server does not know it ignores.
pub(super) fn line(announcement: &Announcement) -> String {
    let Announcement { client, local, session, ttl, secured, server_name, .. } = announcement;
    let address = |of: &SocketAddr| of.ip().to_canonical();
    let transport = if *secured { "TLS" } else { "insecure" };
    let mut line = format!(
        "XCLIENT ADDR={} PORT={} DESTADDR={} DESTPORT={} SESSION={session} TTL={ttl} CLIENT-TRANSPORT={transport}",
        address(client),
        client.port(),
        address(local),
        local.port(),
    );
    if let Some(name) = server_name.as_deref().filter(|name| can_be_told(name)) {
        line.push_str(" DESTNAME=");
        line.push_str(name);
    }
    line.push_str("\r\n");
    line
}

/// A name that a load balancer gave may be anything.
fn can_be_told(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain)
}

/// How many more proxies may follow, as a proxy before us says it. All else that it says is not believed: who the client
/// is, only a PROXY header can tell us.
pub(super) fn ttl<'a>(mut arguments: impl Iterator<Item = &'a [u8]>) -> Option<u32> {
    let value = arguments.find_map(|word| {
        let (name, value) = word.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"TTL=").then_some(value)
    })?;
    std::str::from_utf8(value).ok()?.parse().ok()
}
