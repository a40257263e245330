//! Keys of `kind = "ldap"`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::remote::RemoteKeys;
use super::template::Template;
use crate::config::key::{Section, Visit, section};
use crate::config::value::{Shown, Value, Wrong, kind_of, quoted};
use crate::config::words::words;
use crate::model::Secret;

/// A directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LdapPassdb {
    /// What is asked, and how.
    pub keys: LdapKeys,
    /// How long, how often.
    pub remote: RemoteKeys,
    /// What `bind_password_file` holds.
    pub bind_password: Option<Arc<Secret>>,
}

section! {
    /// A directory that is asked by LDAP.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LdapKeys {
        /// The servers; the first that answers is used. ldap://host:port, ldaps://host:port, or ldapi://%2Frun%2Fslapd%2Fldapi
        /// for a Unix socket, with %2F for each slash.
        pub uri: Vec<LdapUri> = Vec::new(), required, example("[\"ldap://ldap1\", \"ldap://ldap2\"]");
        /// Encrypt connections to ldap:// servers before anything else is said.
        pub starttls: bool = false;
        /// Authorities that the servers' certificates must come from, in PEM; by default those of the system.
        pub tls_ca: Option<PathBuf> = None, example("\"ca.pem\"");
        /// As whom homing searches; without one, anonymously.
        pub bind_dn: Option<String> = None, example("\"cn=homing,dc=example,dc=org\"");
        /// File whose first line is the password of `bind_dn`.
        pub bind_password_file: Option<PathBuf> = None, example("\"ldap.password\"");
        /// "bind": log in to the directory as the user, which then checks the password. "password": read the stored password
        /// and compare it here.
        pub method: LdapMethod = LdapMethod::Bind;
        /// The name of a user's entry, where it can be told from the user's name: no search is needed then. %u is the
        /// user's name, %n what stands before its @, %d what stands behind.
        pub user_dn: Option<Template> = None, example("\"uid=%n,ou=people,dc=example,dc=org\"");
        /// Where the search for a user begins.
        pub base: String = String::new(), computed, example("\"ou=people,dc=example,dc=org\"");
        /// How deep it goes.
        pub scope: LdapScope = LdapScope::Sub;
        /// What finds the user's entry, and no other.
        pub filter: Template = Template::fixed("(&(objectClass=posixAccount)(uid=%u))");
        /// The attribute with the stored password, for method "password".
        pub password_attribute: String = "userPassword".to_owned();
        /// Scheme of stored passwords without a {SCHEME}. CRYPT: told by the hash's own prefix.
        pub default_scheme: String = "CRYPT".to_owned(), example("\"CRYPT\"");
        /// Attributes that are fields of the passdb, under the names that Dovecot knows: `user` (the canonical name), `host`,
        /// `director_tag`, `destuser`, `nologin`, `allow_nets` and so on.
        pub fields: Attributes = Attributes::default();
        /// What finds all users, and the attribute that has their names: for lists of users. Without it there are none.
        pub list_filter: Option<String> = None, example("\"(objectClass=posixAccount)\"");
        /// The attribute with a user's name in such a list.
        pub list_attribute: String = "uid".to_owned();
    }
}

/// Who compares the password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LdapMethod {
    /// The directory.
    #[default]
    Bind,
    /// homing.
    Password,
}

words!(LdapMethod { Bind = "bind", Password = "password" });

/// How deep a search goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LdapScope {
    /// The base and all below.
    #[default]
    Sub,
    /// What is right below the base.
    One,
    /// The base alone.
    Base,
}

words!(LdapScope { Sub = "sub", One = "one", Base = "base" });

/// Where a directory is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LdapUri(pub String);

impl Value for LdapUri {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let mut text = String::new();
        text.read(given, base)?;
        let place = ["ldap://", "ldaps://", "ldapi://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        if !place.is_some_and(|place| !place.is_empty() && !place.contains(['/', '@', '?', ' '])) {
            return Err(Wrong::new(
                "is not the address of a directory",
                "write it like \"ldap://host\", \"ldaps://host:636\" or \"ldapi://%2Frun%2Fslapd%2Fldapi\"",
            ));
        }
        self.0 = text;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.0), secret: None })
    }
}

/// Fields and the attributes that have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub Vec<(String, String)>);

impl Attributes {
    fn pair(table: &DeTable<'_>) -> Result<Vec<(String, String)>, Wrong> {
        let remedy = "write it like { user = \"uid\", host = \"mailHost\" }";
        let name =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-;.:/".contains(&b));
        let mut pairs = Vec::new();
        for (field, attribute) in table {
            let attribute = attribute.get_ref().as_str().filter(|attribute| name(attribute) && name(field.get_ref()));
            let attribute = attribute.ok_or_else(|| Wrong::new("has a field without a proper attribute", remedy))?;
            pairs.push((field.get_ref().to_string(), attribute.to_owned()));
        }
        Ok(pairs)
    }
}

impl Value for Attributes {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write it like { user = \"uid\", host = \"mailHost\" }";
        let wrong = || Wrong::new(format!("must be a table of fields and attributes, not {}", kind_of(given)), remedy);
        self.0 = Self::pair(given.as_table().ok_or_else(wrong)?)?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        let pairs: Vec<String> =
            self.0.iter().map(|(field, attribute)| format!("{} = {}", quoted(field), quoted(attribute))).collect();
        let text = if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) };
        Some(Shown { text, secret: None })
    }
}

impl LdapPassdb {
    pub(super) fn fields(&mut self, visit: &mut dyn Visit) {
        self.keys.fields(visit);
        self.remote.fields(visit);
    }
}
