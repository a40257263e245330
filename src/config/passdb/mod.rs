//! `[[passdb]]`: who knows the passwords. A file per kind; its keys are a section of their own, behind `kind`.

mod check;
mod dovecot;
mod file;
mod http;
mod ldap;
mod oauth2;
mod remote;
mod sql;
mod statement;
mod template;

use super::key::{Key, Section, Visit};
use super::words::words;

pub(super) use check::{check_ldap, check_oauth2, check_sql};
pub use dovecot::{AuthSocket, DovecotPassdb};
pub use file::FilePassdb;
pub use http::{AttributeField, HttpFormat, HttpPassdb};
pub use ldap::{Attributes, LdapKeys, LdapMethod, LdapPassdb, LdapScope, LdapUri};
pub use oauth2::{Oauth2Keys, Oauth2Method, Oauth2Passdb, TokenAlgorithm};
pub use remote::RemoteKeys;
pub use sql::{SqlKeys, SqlPassdb, SqlUrl};
pub use statement::{Parameter, Piece, Statement};
pub use template::Template;

/// One source; they are asked in order and the first that knows the user decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PassdbConfig {
    /// `kind = "file"`: Dovecot's passwd-file. Read again when it changes.
    File(FilePassdb),
    /// `kind = "ldap"`: a directory.
    Ldap(Box<LdapPassdb>),
    /// `kind = "sql"`: a database.
    Sql(Box<SqlPassdb>),
    /// `kind = "dovecot"`: the auth service of a Dovecot.
    Dovecot(DovecotPassdb, RemoteKeys),
    /// `kind = "http"`: a web service.
    Http(HttpPassdb, RemoteKeys),
    /// `kind = "oauth2"`: tokens.
    Oauth2(Box<Oauth2Passdb>),
    /// `kind = "backend"`: the backend decides. Must be the last.
    #[default]
    Backend,
}

/// The word that decides which keys there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Ldap,
    Sql,
    Dovecot,
    Http,
    Oauth2,
    Backend,
}

words!(Kind {
    File = "file",
    Ldap = "ldap",
    Sql = "sql",
    Dovecot = "dovecot",
    Http = "http",
    Oauth2 = "oauth2",
    Backend = "backend"
});

const KIND: Key = Key::new(
    "kind",
    &[
        "\"file\" for a passwd-file as Dovecot knows it, \"ldap\" for a directory, \"sql\" for a database (PostgreSQL, MySQL,",
        "MariaDB, SQLite), \"dovecot\" for the auth service of a Dovecot, \"http\" for a web service, \"oauth2\" for tokens of an",
        "issuer, or \"backend\" to let the backend decide, which must be the last.",
    ],
)
.required()
.example("\"file\"");

impl PassdbConfig {
    /// It is asked about users.
    pub fn has_users(&self) -> bool {
        !matches!(self, Self::File(FilePassdb { master: true, .. }))
    }

    /// The fleet remembers its answers.
    pub fn is_cached(&self) -> bool {
        match self {
            Self::File(file) => file.cache,
            Self::Ldap(ldap) => ldap.remote.cache,
            Self::Sql(sql) => sql.remote.cache && !sql.keys.asks_whence(),
            Self::Dovecot(_, remote) | Self::Http(_, remote) => remote.cache,
            // What is verified here needs no memory.
            Self::Oauth2(oauth2) => oauth2.remote.cache && oauth2.keys.method == Oauth2Method::Introspection,
            Self::Backend => false, // it knows nothing that could be kept
        }
    }

    /// It gives what it has stored, of which SCRAM can be served.
    pub fn stores_passwords(&self) -> bool {
        match self {
            Self::File(_) | Self::Sql(_) => true,
            Self::Ldap(ldap) => ldap.keys.method != LdapMethod::Bind,
            Self::Dovecot(..) | Self::Http(..) | Self::Oauth2(_) | Self::Backend => false,
        }
    }

    /// One of each kind, for the file of defaults.
    pub(super) fn kinds() -> impl Iterator<Item = Self> {
        [Kind::File, Kind::Ldap, Kind::Sql, Kind::Dovecot, Kind::Http, Kind::Oauth2, Kind::Backend]
            .into_iter()
            .map(Self::of)
    }

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File(FilePassdb::default()),
            Kind::Ldap => Self::Ldap(Box::default()),
            Kind::Sql => Self::Sql(Box::default()),
            Kind::Dovecot => Self::Dovecot(DovecotPassdb::default(), told_whence()),
            Kind::Http => Self::Http(HttpPassdb::default(), told_whence()),
            Kind::Oauth2 => Self::Oauth2(Box::default()),
            Kind::Backend => Self::Backend,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Ldap(_) => Kind::Ldap,
            Self::Sql(_) => Kind::Sql,
            Self::Dovecot(..) => Kind::Dovecot,
            Self::Http(..) => Kind::Http,
            Self::Oauth2(_) => Kind::Oauth2,
            Self::Backend => Kind::Backend,
        }
    }
}

impl Section for PassdbConfig {
    const ABOUT: &'static [&'static str] = &[
        "Who knows the passwords. May be repeated: the sources are asked in order and the first that knows the user",
        "decides. Without any, the backends decide.",
    ];

    fn fields(&mut self, visit: &mut dyn Visit) {
        let mut kind = self.kind();
        visit.field(&KIND, &mut kind);
        if kind != self.kind() {
            *self = Self::of(kind);
        }
        match self {
            Self::File(keys) => keys.fields(visit),
            Self::Ldap(ldap) => ldap.fields(visit),
            Self::Sql(sql) => sql.fields(visit),
            Self::Dovecot(keys, remote) => {
                keys.fields(visit);
                remote.fields(visit);
            }
            Self::Http(keys, remote) => {
                keys.fields(visit);
                remote.fields(visit);
            }
            Self::Oauth2(oauth2) => oauth2.fields(visit),
            Self::Backend => {}
        }
    }

    fn pristine(&self) -> Self {
        Self::of(self.kind())
    }
}

/// Of a source that is told where the client is: it may answer others otherwise, and only the operator knows.
fn told_whence() -> RemoteKeys {
    RemoteKeys { cache: false, ..RemoteKeys::default() }
}
