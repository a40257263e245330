//! A test's own directory, kept for inspection if the test fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Result;

/// Temporary directory of one test. Removed at its end unless it panicked or `HOMING_KEEP` is set.
pub struct Workdir(Option<tempfile::TempDir>);

impl Workdir {
    /// A new, empty one that mail servers may enter under their own user ids.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("homing-e2e-").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self(Some(dir)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("taken only by drop").path()
    }

    /// A path inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if (std::thread::panicking() || std::env::var_os("HOMING_KEEP").is_some())
            && let Some(dir) = self.0.take()
        {
            eprintln!("kept for inspection: {}", dir.keep().display());
        }
    }
}
