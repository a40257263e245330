//! Keys of `kind = "sql"`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeValue;

use super::remote::RemoteKeys;
use super::statement::{Parameter, Piece, Statement};
use crate::config::key::{Section, Visit, section};
use crate::config::value::{Shown, Value, Wrong, quoted};
use crate::model::Secret;

/// A database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SqlPassdb {
    /// What is asked, and how.
    pub keys: SqlKeys,
    /// How long, how often.
    pub remote: RemoteKeys,
    /// What `password_file` holds.
    pub password: Option<Arc<Secret>>,
}

section! {
    /// A database that is asked by SQL.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SqlKeys {
        /// Where it is: postgres://user@host:port/database?sslmode=verify-full&sslrootcert=ca.pem,
        /// mysql://user@host:port/database?ssl-mode=VERIFY_IDENTITY&ssl-ca=ca.pem (MariaDB, too), or sqlite:///path/users.db.
        /// `parallel` is also the most connections to it. Another proxy in between must not share connections between
        /// transactions (PgBouncer's transaction mode).
        pub url: SqlUrl = SqlUrl::default(), required, example("\"postgres://homing@db/mail\""), secret;
        /// File whose first line is the password of the user in `url`, which must not have one itself.
        pub password_file: Option<PathBuf> = None, example("\"sql.password\"");
        /// What finds a user. The column `password` is the stored password; the others are fields of the passdb under the
        /// names that Dovecot knows: `user` (the canonical name), `host`, `director_tag`, `destuser`, `nologin` and so on.
        /// NULL: no such field. :user is the user's name, :local what stands before its @, :domain what stands behind, :service
        /// the protocol, :client the client's address, :server the one that it came to. They go to the database apart from
        /// the text, so they need no quotes.
        pub query: Statement = Statement::default(), required,
            example("\"SELECT password, host FROM users WHERE name = :user\"");
        /// Scheme of stored passwords without a {SCHEME}. CRYPT: told by the hash's own prefix.
        pub default_scheme: String = "CRYPT".to_owned(), example("\"CRYPT\"");
        /// What finds the names of all users, in its first column: for lists of users. Without it there are none.
        pub list_query: Option<Statement> = None, example("\"SELECT name FROM users\"");
    }
}

impl SqlKeys {
    /// The answer may depend on where the client is, so that it is nobody else's.
    pub fn asks_whence(&self) -> bool {
        let whence = [Parameter::Client, Parameter::Server];
        self.query.pieces().iter().any(|piece| matches!(piece, Piece::Parameter(named) if whence.contains(named)))
    }
}

/// Where a database is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqlUrl(pub String);

impl Value for SqlUrl {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let mut text = String::new();
        text.read(given, base)?;
        let schemes = ["postgres://", "postgresql://", "mysql://", "mariadb://", "sqlite://"];
        let Some(place) = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)).filter(|place| !place.is_empty())
        else {
            let remedy = "write it like \"postgres://user@host/database\", \"mysql://...\" or \"sqlite:///path\"";
            return Err(Wrong::new("is not the address of a database", remedy));
        };
        let has_user = place.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
        if has_user || place.contains("password=") {
            return Err(Wrong::new("has a password", "write it into a file and name that with password_file"));
        }
        self.0 = text;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        (!self.0.is_empty()).then(|| Shown { text: quoted(&self.0), secret: None })
    }
}

impl SqlPassdb {
    pub(super) fn fields(&mut self, visit: &mut dyn Visit) {
        self.keys.fields(visit);
        self.remote.fields(visit);
    }
}
