//! A file per kind of source.

mod backend;
mod file;

pub use backend::BackendSource;
pub use file::{FileSource, check_passwd_file};

/// The name under which users are known, as Dovecot's default `auth_username_format` makes it: letters of ASCII are
/// lower-cased, others stay.
fn canonical(name: &str) -> String {
    name.to_ascii_lowercase()
}
