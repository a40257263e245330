//! Keys of `kind = "file"`.

use std::path::PathBuf;

use crate::config::key::section;

section! {
    /// Dovecot's passwd-file.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FilePassdb {
        /// The passwd-file; read again when it changes.
        pub path: PathBuf = PathBuf::new(), required, example("\"users.passwd\"");
        /// Scheme of passwords without a {SCHEME}. CRYPT: told by the hash's own prefix.
        pub default_scheme: String = "CRYPT".to_owned(), example("\"CRYPT\"");
        /// Those in the file are master users: each may log in as anybody, with a name like "ann*admin" (see
        /// `auth.master_separator`) or with an authorization identity. By default they are users.
        pub master: bool = false;
        /// The fleet remembers its answers, too, sealed in the store: see `cache_ttl` in [auth]. Of use if hashes are slow;
        /// a change of the file is then seen when that time is over.
        pub cache: bool = false;
    }
}
