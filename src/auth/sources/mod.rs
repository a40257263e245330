//! A file per kind of source.

mod backend;
mod broken;
mod connections;
mod file;
mod found;
mod ldap;
mod sql;

pub use backend::BackendSource;
pub(in crate::auth) use broken::BrokenSource;
pub use file::{FileSource, check_passwd_file};
pub use ldap::LdapSource;
pub use sql::SqlSource;

use crate::config::PassdbConfig;

/// Why this source could not be made, if it could not: what it needs besides somebody to ask.
pub fn check_remote(passdb: &PassdbConfig) -> Option<String> {
    match passdb {
        PassdbConfig::Ldap(ldap) => LdapSource::new(ldap, false).err(),
        PassdbConfig::Sql(sql) => SqlSource::new(sql, false).err(),
        PassdbConfig::File(_) | PassdbConfig::Backend => None,
    }
}

/// The name under which users are known, as Dovecot's default `auth_username_format` makes it: letters of ASCII are
/// lower-cased, others stay.
pub(in crate::auth) fn canonical(name: &str) -> String {
    name.to_ascii_lowercase()
}
