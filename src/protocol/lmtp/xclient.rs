//! XCLIENT as LMTP servers take it: who the true client is, as far as the server lists it.

use std::time::Duration;

use crate::protocol::Announcement;
use crate::protocol::smtp::{self, Attribute};

/// The commands, each with its CRLF. None if the server lists nothing that we know.
pub(super) fn commands(listed: &str, client: &Announcement, timeout: Option<Duration>) -> Vec<String> {
    let lists = |name: &str| listed.split(' ').any(|known| known.eq_ignore_ascii_case(name));
    smtp::commands(lists, attributes(client, timeout))
}

/// In Dovecot's order. The address goes without `IPV6:` here, as Dovecot's LMTP has it.
fn attributes(client: &Announcement, timeout: Option<Duration>) -> Vec<Attribute> {
    let mut list = Vec::new();
    if let Some(helo) = &client.helo {
        list.push(("HELO", helo.clone()));
    }
    list.push(("PROTO", "LMTP".to_owned()));
    list.push(("SESSION", client.session.to_string()));
    list.push(("CLIENT-TRANSPORT", if client.secured { "TLS" } else { "insecure" }.to_owned()));
    if let Some(name) = &client.server_name {
        list.push(("DESTNAME", name.clone()));
    }
    list.push(("TTL", client.ttl.to_string()));
    if let Some(timeout) = timeout {
        list.push(("TIMEOUT", timeout.as_secs().max(1).to_string()));
    }
    // A client on a Unix socket has no port.
    if client.client.port() > 0 {
        list.push(("PORT", client.client.port().to_string()));
    }
    list.push(("ADDR", client.client.ip().to_canonical().to_string()));
    if client.local.port() > 0 {
        list.push(("DESTPORT", client.local.port().to_string()));
        list.push(("DESTADDR", client.local.ip().to_canonical().to_string()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SessionId;

    fn client(helo: &str) -> Announcement {
        Announcement {
            client: "[2001:db8::7]:4711".parse().unwrap(),
            local: "192.0.2.1:24".parse().unwrap(),
            session: SessionId::new("s1:P2"),
            ttl: 4,
            secured: true,
            server_name: None,
            helo: Some(helo.to_owned()),
            client_id: Vec::new(),
        }
    }

    #[test]
    fn a_server_is_told_what_it_lists_and_no_more() {
        let all = "ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT DESTADDR";
        assert_eq!(
            commands(all, &client("mx =+1"), Some(Duration::from_secs(125))),
            [
                "XCLIENT HELO=mx+20+3D+2B1 PROTO=LMTP SESSION=s1:P2 TTL=4 TIMEOUT=125 PORT=4711 ADDR=2001:db8::7 DESTADDR=192.0.2.1\r\n"
            ]
        );
        assert_eq!(commands("addr", &client("mx"), None), ["XCLIENT ADDR=2001:db8::7\r\n"]);
        assert!(commands("LOGIN", &client("mx"), None).is_empty());
    }
}
