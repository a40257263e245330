//! A Dovecot as one that asks others about its logins.

use std::fs;

use super::servers::{Server, directory, program};

/// A Dovecot that does nothing but check passwords, with these lines in its configuration and these users.
pub(crate) fn dovecot_auth(lines: &str, users: &str) -> Server {
    let dir = directory();
    fs::write(dir.path().join("users"), users).unwrap();
    fs::write(dir.path().join("lines.conf"), lines).unwrap();
    Server::new(dir, |dir, port| {
        let at = dir.display();
        let lines = fs::read_to_string(dir.join("lines.conf")).unwrap();
        let conf = format!(
            "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = /dev/stderr\nprotocols =\nssl = no\n\
             passdb {{\n  driver = passwd-file\n  args = {at}/users\n}}\nuserdb {{\n  driver = static\n  args = uid=nobody gid=nogroup\n}}\n\
             service auth {{\n  inet_listener {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n  client_limit = 100\n}}\n\
             service anvil {{\n  chroot =\n}}\ndefault_process_limit = 10\ndefault_client_limit = 100\n{lines}\n"
        );
        fs::write(dir.join("dovecot.conf"), conf).unwrap();
        let mut command = program("dovecot", None);
        command.arg("-F").arg("-c").arg(dir.join("dovecot.conf"));
        command
    })
}

/// Somebody logs in at such a Dovecot.
pub(crate) fn log_in_at_dovecot(server: &Server, facts: &[&str], user: &str, password: &str) -> bool {
    let mut command = program("doveadm", None);
    command.arg("-c").arg(server.dir.path().join("dovecot.conf")).args(["auth", "test"]);
    command.args(facts.iter().flat_map(|fact| ["-x", fact])).args([user, password]);
    command.output().unwrap().status.success()
}
