//! Dovecot's login proxy in its high-performance mode, with a passdb that sends everybody to the same server; and its LMTP
//! proxy, with one that spreads users over all servers.

use std::process::Command;

use super::{Place, Started, launch};
use crate::machine;
use crate::scenarios::delivery::CLIENTS;
use crate::world::{BACKENDS, World};

pub(super) fn start(world: &World, place: &Place) -> anyhow::Result<Started> {
    let config = format!(
        "base_dir = {dir}/run
state_dir = {dir}
instance_name = bench
protocols = imap
listen = {ip}
log_path = {dir}/sessions.log
default_vsz_limit = 0
disable_plaintext_auth = no
auth_mechanisms = plain login
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_min_protocol = TLSv1.2
passdb {{
  driver = static
  args = nopassword=y proxy=y host={backend} port={port}
}}
service imap-login {{
  inet_listener imap {{
    port = {plain}
  }}
  inet_listener imaps {{
    port = {tls}
    ssl = yes
  }}
  service_count = 0
  process_min_avail = 2
  process_limit = 2
  client_limit = {clients}
}}
service auth {{
  client_limit = {files}
}}
service anvil {{
  client_limit = {files}
}}
",
        dir = place.dir.display(),
        ip = place.plain.ip(),
        certificate = world.certificate.certificate.display(),
        key = world.certificate.key.display(),
        backend = world.backends[0].ip(),
        port = world.backends[0].port(),
        plain = place.plain.port(),
        tls = place.tls.port(),
        clients = machine::open_files() / 2 - 500,
        files = machine::open_files(),
    );
    let file = place.write("dovecot.conf", &config)?;
    launch(Command::new("dovecot").arg("-F").arg("-c").arg(file), place)
}

/// As the manual has it: a process for each connection, with enough of them from the start.
pub(super) fn start_lmtp(world: &World, place: &Place) -> anyhow::Result<Started> {
    let first = world.backends[0].ip().to_string();
    let config = format!(
        "base_dir = {dir}/run
state_dir = {dir}
instance_name = bench-lmtp
protocols = lmtp
listen = {ip}
log_path = {dir}/sessions.log
default_vsz_limit = 0
ssl = no
lmtp_proxy = yes
mail_temp_dir = {dir}
passdb {{
  driver = static
  args = nopassword=y proxy=y host={network}%{backends}Nu port={port}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {plain}
  }}
  process_min_avail = {clients}
}}
",
        dir = place.dir.display(),
        ip = place.plain.ip(),
        // 127.77.0.1 with the hash of the user behind it, as a digit.
        network = first.strip_suffix('0').unwrap_or(&first),
        backends = BACKENDS,
        port = world.lmtp_port,
        plain = place.plain.port(),
        clients = CLIENTS,
    );
    let file = place.write("dovecot.conf", &config)?;
    launch(Command::new("dovecot").arg("-F").arg("-c").arg(file), place)
}
