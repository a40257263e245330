//! `[[passdb]]`: who knows the passwords.

use std::path::PathBuf;

use super::key::section;
use super::words::words;

/// One source; they are asked in order and the first that knows the user decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassdbConfig {
    /// `kind = "file"`: Dovecot's passwd-file. Read again when it changes.
    File {
        /// Its path.
        path: PathBuf,
        /// Scheme of passwords without a {SCHEME}.
        default_scheme: String,
        /// It has master users, who may log in as anybody; it says nothing about users.
        master: bool,
    },
    /// `kind = "backend"`: the backend decides. Must be the last.
    Backend,
}

section! {
    /// Who knows the passwords. May be repeated: the sources are asked in order and the first that knows the user
    /// decides. Without any, the backends decide.
    #[derive(Clone, Debug)]
    pub(super) struct PassdbKeys {
        /// "file" for a passwd-file as Dovecot knows it, or "backend" to let the backend decide, which must be the last.
        pub(super) kind: Kind = Kind::Backend, required, example("\"file\"");
        /// The passwd-file; read again when it changes. Needed by kind "file" alone.
        pub(super) path: Option<PathBuf> = None, example("\"users.passwd\"");
        /// Scheme of passwords without a {SCHEME}. By default CRYPT: told by the hash's own prefix. Only for kind "file".
        pub(super) default_scheme: Option<String> = None, computed, example("\"CRYPT\"");
        /// Those in the file are master users: each may log in as anybody, with a name like "ann*admin" (see
        /// `auth.master_separator`) or with an authorization identity. By default they are users. Only for kind "file".
        pub(super) master: Option<bool> = None, computed, example("true");
    }
}

/// The word that decides what the other keys mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Backend,
}

words!(Kind { File = "file", Backend = "backend" });

impl PassdbConfig {
    /// It is asked about users.
    pub fn has_users(&self) -> bool {
        !matches!(self, Self::File { master: true, .. })
    }
}

impl From<PassdbKeys> for PassdbConfig {
    fn from(keys: PassdbKeys) -> Self {
        match keys.kind {
            Kind::Backend => Self::Backend,
            Kind::File => Self::File {
                path: keys.path.unwrap_or_default(),
                default_scheme: keys.default_scheme.unwrap_or_else(|| "CRYPT".to_owned()),
                master: keys.master.unwrap_or_default(),
            },
        }
    }
}

impl From<&PassdbConfig> for PassdbKeys {
    fn from(config: &PassdbConfig) -> Self {
        match config.clone() {
            PassdbConfig::Backend => Self { kind: Kind::Backend, ..Self::default() },
            PassdbConfig::File { path, default_scheme, master } => {
                Self { kind: Kind::File, path: Some(path), default_scheme: Some(default_scheme), master: Some(master) }
            }
        }
    }
}
