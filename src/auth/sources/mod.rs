//! A file per kind of source.

mod backend;
mod broken;
mod connections;
mod dovecot;
mod file;
mod found;
mod http;
mod ldap;
mod oauth2;
mod sql;

pub use backend::BackendSource;
pub(in crate::auth) use broken::BrokenSource;
pub use dovecot::{Answer, DovecotSource, Field, Garbled, Line, MAX_LINE, Word, check_dovecot, read_auth_line};
pub use file::{FileSource, check_passwd_file};
pub use http::HttpSource;
pub use ldap::LdapSource;
pub use oauth2::Oauth2Source;
pub use sql::SqlSource;

use crate::config::PassdbConfig;

/// Why a directory or database could not be made a source, if it could not: what it needs besides somebody to ask.
pub fn check_remote(passdb: &PassdbConfig) -> Option<String> {
    match passdb {
        PassdbConfig::Ldap(ldap) => LdapSource::new(ldap, false).err(),
        PassdbConfig::Sql(sql) => SqlSource::new(sql, false).err(),
        PassdbConfig::Http(keys, remote) => HttpSource::new(keys, remote.timeout).err(),
        PassdbConfig::Oauth2(oauth2) => Oauth2Source::new(oauth2).err(),
        _ => None,
    }
}

/// The name under which users are known, as Dovecot's default `auth_username_format` makes it: letters of ASCII are
/// lower-cased, others stay.
pub(in crate::auth) fn canonical(name: &str) -> String {
    name.to_ascii_lowercase()
}
