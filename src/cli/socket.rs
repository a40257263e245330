//! Where the admin socket is, if nobody says.

use std::path::{Path, PathBuf};

use crate::config::AdminConfig;

/// Where `homing serve` without a file opens it: ordinary users have a directory of their own.
pub(super) fn to_open() -> PathBuf {
    if rustix::process::geteuid().is_root() { of_the_system() } else { of_this_user().unwrap_or_else(of_the_system) }
}

/// Which one to ask: the system's, unless only this user has one.
pub(super) fn to_ask() -> PathBuf {
    let system = of_the_system();
    of_this_user().filter(|own| own.exists() && !system.exists()).unwrap_or(system)
}

fn of_the_system() -> PathBuf {
    AdminConfig::default().socket
}

fn of_this_user() -> Option<PathBuf> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR")?;
    Path::new(&directory).is_absolute().then(|| Path::new(&directory).join("homing/admin.sock"))
}
