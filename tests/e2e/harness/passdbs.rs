//! Directories and databases that know the users' passwords, and what they were asked.

use std::fmt::Write;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::servers::{Server, mariadb, postgres, slapd};
use super::{Proxy, Result, User};

/// The table of SQL servers.
const QUERY: &str = "SELECT word AS password FROM people WHERE name = :user";

/// A real server that passwords are asked of.
pub struct Passdb {
    /// The process, to be hung and killed.
    pub server: Server,
    /// `[[passdb]]` without the keys that say how long and how often it is asked.
    pub config: String,
    /// Connections that one question may need.
    pub connections: usize,
    /// What its log has once for each lookup.
    lookup: &'static str,
}

impl Passdb {
    /// An OpenLDAP, which compares passwords itself (bind).
    pub fn openldap(users: &[User]) -> Self {
        let mut ldif = String::new();
        for User { name, password } in users {
            let entry = "objectClass: inetOrgPerson\ncn: x\nsn: x";
            let _ = writeln!(ldif, "dn: uid={name},ou=people,dc=x\n{entry}\nuid: {name}\nuserPassword: {password}\n");
        }
        let server = slapd(&ldif);
        let word = server.file("client-word", "service-word\n");
        let config = format!(
            "[[passdb]]\nkind = \"ldap\"\nuri = [\"ldap://127.0.0.1:{}\"]\nbind_dn = \"cn=homing,dc=x\"\n\
             bind_password_file = \"{word}\"\nbase = \"ou=people,dc=x\"\nfilter = \"(uid=%u)\"\nmethod = \"bind\"\n",
            server.port
        );
        // One searches, another binds as whom it has found.
        Self { server, config, connections: 2, lookup: " SRCH base=" }
    }

    /// A PostgreSQL.
    pub fn postgresql(users: &[User]) -> Self {
        Self::sql(postgres(&people(users)), "postgres", "postgres", "LOG:  execute ")
    }

    /// A MariaDB.
    pub fn mariadb(users: &[User]) -> Self {
        Self::sql(mariadb(&people(users)), "mariadb", "mail", " Execute\t")
    }

    fn sql(server: Server, kind: &str, database: &str, lookup: &'static str) -> Self {
        let word = server.file("client-word", "db-word\n");
        let config = format!(
            "[[passdb]]\nkind = \"sql\"\nurl = \"{kind}://homing@127.0.0.1:{}/{database}\"\npassword_file = \"{word}\"\n\
             query = \"{QUERY}\"\n",
            server.port
        );
        Self { server, config, connections: 1, lookup }
    }

    /// Lookups that it has seen since it was started.
    pub fn lookups(&self) -> usize {
        self.server.log().matches(self.lookup).count()
    }
}

fn people(users: &[User]) -> String {
    let rows: Vec<_> = users.iter().map(|user| format!("('{}', '{{PLAIN}}{}')", user.name, user.password)).collect();
    format!(
        "CREATE TABLE people (name VARCHAR(100) PRIMARY KEY, word VARCHAR(200));\nINSERT INTO people VALUES {};\n",
        rows.join(",\n")
    )
}

/// `homing auth stats` of a proxy.
pub async fn stats(proxy: &Proxy) -> Result<Value> {
    let output = proxy.admin(&["auth", "stats", "--json"]).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Questions that a proxy had for its first passdb.
pub async fn asked(proxy: &Proxy) -> Result<u64> {
    stats(proxy).await?["sources"][0]["asked"].as_u64().context("no count")
}

/// The proxy leaves its first passdb alone, because it failed several times in a row.
pub async fn is_paused(proxy: &Proxy) -> Result<bool> {
    stats(proxy).await?["sources"][0]["paused"].as_bool().context("not told")
}
