//! `[[passdb]]`: who knows the passwords.

use std::path::PathBuf;

/// One source; they are asked in order and the first that knows the user decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassdbConfig {
    /// `kind = "file"`: Dovecot's passwd-file. Read again when it changes.
    File {
        /// Its path.
        path: PathBuf,
        /// Scheme of passwords without a {SCHEME}. "CRYPT" by default: told by the hash's own prefix.
        default_scheme: String,
    },
    /// `kind = "backend"`: the backend decides. Must be the last.
    Backend,
}
