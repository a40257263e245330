//! Dovecot's login proxy in its high-performance mode, with a passdb that sends everybody to the same server.

use std::process::Command;

use super::{Place, Started, launch};
use crate::machine;
use crate::world::World;

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
