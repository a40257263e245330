//! HAProxy relaying TCP, with and without TLS towards the client. It picks a server before anybody has logged in, so it
//! does less than the others: the floor.

use std::fmt::Write;
use std::process::Command;

use super::{Place, Started, launch};
use crate::machine;
use crate::world::World;

pub(super) fn start(world: &World, place: &Place) -> anyhow::Result<Started> {
    let mut config = format!(
        "global
    maxconn {connections}
    nbthread 2
    log stdout format raw local0 info
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend imap
    bind {plain} backlog 4096
    bind {tls} ssl crt {pem} backlog 4096
    default_backend mail
backend mail
    balance roundrobin
",
        connections = machine::open_files() / 2 - 500,
        plain = place.plain,
        tls = place.tls,
        pem = world.certificate.both.display(),
    );
    for (number, backend) in world.backends.iter().enumerate() {
        let _ = writeln!(config, "    server mail{number} {backend}");
    }
    let file = place.write("haproxy.cfg", &config)?;
    launch(Command::new("haproxy").arg("-db").arg("-f").arg(file), place)
}
