//! nginx's mail proxy, which asks the bench's own auth service for every login.

use std::path::Path;
use std::process::Command;

use super::{Place, Started, launch};
use crate::machine;
use crate::world::World;

/// Where distributions keep the module; nginx built with it needs none.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_mail_module.so";

pub(super) fn start(world: &World, place: &Place) -> anyhow::Result<Started> {
    let module = if Path::new(MODULE).exists() { format!("load_module {MODULE};") } else { String::new() };
    let config = format!(
        "{module}
        user root;
        daemon off;
        master_process on;
        worker_processes 2;
        worker_rlimit_nofile {files};
        pid {pid};
        error_log {log} info;
        events {{ worker_connections {files}; }}
        mail {{
            server_name imap.bench.example;
            auth_http {oracle}/auth;
            proxy_pass_error_message on;
            imap_capabilities IMAP4rev1 LITERAL+ SASL-IR;
            imap_auth plain login;
            ssl_certificate {certificate};
            ssl_certificate_key {key};
            ssl_protocols TLSv1.2 TLSv1.3;
            server {{ listen {plain} backlog=4096; protocol imap; }}
            server {{ listen {tls} ssl backlog=4096; protocol imap; }}
        }}
        ",
        files = machine::open_files(),
        pid = place.file("nginx.pid").display(),
        log = place.file("sessions.log").display(),
        oracle = world.auth_http,
        certificate = world.certificate.certificate.display(),
        key = world.certificate.key.display(),
        plain = place.plain,
        tls = place.tls,
    );
    let file = place.write("nginx.conf", &config)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&place.dir).arg("-e").arg(place.file("start.log")).arg("-c").arg(file);
    launch(&mut command, place)
}
