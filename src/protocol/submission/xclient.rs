//! XCLIENT: who the client is, and who logs in where the server takes our word for it. Attributes and their order are those
//! of Dovecot's proxy.

use std::net::SocketAddr;

use super::command::is_proper_name;
use crate::protocol::smtp::{self, Attribute};
use crate::protocol::{Announcement, BackendLogin};

/// By which attribute a server takes our word for who logs in.
pub(super) const LOGIN: &str = "LOGIN";

/// The commands that tell what of it the server has `listed`, each with its CRLF; none if there is nothing to tell.
pub(super) fn commands(listed: &[String], login: &BackendLogin) -> Vec<String> {
    smtp::commands(|name| listed.iter().any(|known| known == name), attributes(login))
}

fn attributes(login: &BackendLogin) -> Vec<Attribute> {
    let (before, behind) = login.announce.as_ref().map(client).unwrap_or_default();
    let user = login.noauth.then(|| (LOGIN, login.user.clone()));
    let forward = login.announce.as_ref().and_then(|_| smtp::forwarded(&login.forward));
    before.into_iter().chain(user).chain(behind).chain(forward.map(|text| ("FORWARD", text))).collect()
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
