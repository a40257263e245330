//! The limits of the machine.

use rustix::process::{Resource, Rlimit};

/// Sessions need two descriptors here and two in the proxy, which inherits the limit.
const WANTED_FILES: u64 = 1 << 18;

/// What is measured beside homing, with the command that prints its version.
pub(crate) const PEERS: [(&str, &str, &[&str]); 4] = [
    ("nginx", "nginx", &["-v"]),
    ("HAProxy", "haproxy", &["-v"]),
    ("Dovecot", "dovecot", &["--version"]),
    ("Redis", "redis-server", &["--version"]),
];

/// Raises the number of open files as far as we may.
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(WANTED_FILES);
    let most = Rlimit { current: Some(hard.max(WANTED_FILES)), maximum: Some(hard.max(WANTED_FILES)) };
    if hard < WANTED_FILES && rustix::process::setrlimit(Resource::Nofile, most).is_ok() {
        return Ok(());
    }
    let usual = Rlimit { current: Some(hard), maximum: now.maximum };
    Ok(rustix::process::setrlimit(Resource::Nofile, usual)?)
}

/// How many files a process may open.
pub(crate) fn open_files() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
