//! A file per kind of source.

mod backend;
mod dovecot;
mod file;
mod http;

pub use backend::BackendSource;
pub use dovecot::{Answer, DovecotSource, Field, Garbled, Line, MAX_LINE, Word, check_dovecot, read_auth_line};
pub use file::{FileSource, check_passwd_file};
pub use http::{HttpSource, check_http};

/// The name under which users are known, as Dovecot's default `auth_username_format` makes it: letters of ASCII are
/// lower-cased, others stay.
fn canonical(name: &str) -> String {
    name.to_ascii_lowercase()
}
