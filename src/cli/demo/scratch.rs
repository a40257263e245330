//! A directory for the certificate, sockets and, with Dovecot, mail; removed when the demo ends.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::model::Incarnation;

/// The directory. Dropping it removes it with all that is in it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one under the system's temporary directory, with a name nobody can guess. Others may pass through, because
    /// Dovecot's processes run as several users, but not list it.
    pub(super) fn make() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("homing-demo-{}", Incarnation::random()));
        fs::DirBuilder::new().mode(0o711).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}
