//! PostgreSQL, MariaDB and SQLite: the same behaviour over all.

use std::time::{Duration, Instant};

use homing::model::Refusal;
use sqlx::{ConnectOptions, Connection, Executor};

use super::servers::{Server, mariadb, postgres};
use super::site::Site;

/// Two tables: one column of each kind that becomes a field. `truth` is a value of a BOOLEAN column.
fn schema(truth: &str) -> String {
    let bob = "$2y$05$KawqTLLP/EbCRp5YPYHvSewiLIY0Is6msfQc/LLt7rrP7rzUsaLgG";
    format!(
        "CREATE TABLE people (name VARCHAR(100), word VARCHAR(200), host VARCHAR(100), port INTEGER, closed BOOLEAN);\n\
         INSERT INTO people VALUES ('ann@x.org', '{{PLAIN}}secret-ann', 'mail7', 1143, NULL);\n\
         INSERT INTO people VALUES ('bob@x.org', '{bob}', NULL, NULL, {truth});\n\
         INSERT INTO people VALUES ('o''neil@x.org', '{{PLAIN}}secret-oneil', NULL, NULL, NULL);\n\
         INSERT INTO people VALUES ('two@x.org', '{{PLAIN}}a', NULL, NULL, NULL);\n\
         INSERT INTO people VALUES ('two@x.org', '{{PLAIN}}a', NULL, NULL, NULL);\n\
         INSERT INTO people VALUES ('bad@x.org', '{{NOPE}}a', NULL, NULL, NULL);\n\
         INSERT INTO people VALUES ('empty@x.org', NULL, NULL, NULL, NULL);\n"
    )
}

const QUERY: &str = "SELECT word AS password, host, port, closed AS nologin FROM people \
                     WHERE name = :user AND :service IN ('imap', 'lmtp') AND :client <> ''";

fn passdb(url: &str, keys: &str) -> String {
    format!(
        "[[passdb]]\nkind = \"sql\"\nurl = \"{url}\"\nquery = \"{QUERY}\"\nlist_query = \"SELECT name FROM people\"\n\
         timeout = \"4s\"\nfailures = 3\npause = \"200ms\"\n{keys}\n"
    )
}

fn of_postgres(server: &Server) -> String {
    let word = server.file("client-word", "db-word\n");
    passdb(&format!("postgres://homing@127.0.0.1:{}/postgres", server.port), &format!("password_file = \"{word}\""))
}

fn of_mariadb(server: &Server) -> String {
    let word = server.file("client-word", "db-word\n");
    passdb(&format!("mariadb://homing@127.0.0.1:{}/mail", server.port), &format!("password_file = \"{word}\""))
}

/// What holds over every database.
async fn answers_as_it_should(site: &Site) {
    let ann = site.ask("Ann@X.org", "secret-ann").await.unwrap();
    assert_eq!(
        (ann.user.as_str(), ann.fields.host.as_deref(), ann.fields.port),
        ("ann@x.org", Some("mail7"), Some(1143))
    );
    assert_eq!(site.refuses("bob@x.org", "pässword 1").await, Refusal::Forbidden, "a BOOLEAN is a flag");
    assert!(site.lets_in("o'neil@x.org", "secret-oneil").await.is_some());
    let nobody = [
        "eve@x.org",
        "' OR '1'='1",
        "ann@x.org' --",
        "ann@x.org';DROP TABLE people;--",
        "\\",
        "😀ß",
        "?",
        "$1",
        ":user",
        "%",
    ];
    for nobody in nobody {
        assert_eq!(site.refuses(nobody, "secret-ann").await, Refusal::BadCredentials, "{nobody}");
    }
    for wrong in ["", "secret", "' OR ''='", "{PLAIN}secret-ann"] {
        assert_eq!(site.refuses("ann@x.org", wrong).await, Refusal::BadCredentials, "{wrong}");
        assert_eq!(site.refuses("empty@x.org", wrong).await, Refusal::BadCredentials, "{wrong}");
    }
    for _ in 0..5 {
        assert_eq!(site.refuses("two@x.org", "a").await, Refusal::PassdbUnavailable, "two rows");
        assert_eq!(site.refuses("bad@x.org", "a").await, Refusal::PassdbUnavailable, "an unknown scheme");
    }
    assert!(site.lets_in("ann@x.org", "secret-ann").await.is_some(), "what is wrong with one stops nobody else");
    assert_eq!(site.list().await.len(), 7 - 1);
    assert_eq!(site.find("bob@x.org").await.unwrap().unwrap().user.as_str(), "bob@x.org");
    assert!(site.find("eve@x.org").await.unwrap().is_none());
}

/// Killed and hung.
async fn is_used_again_when_it_is_back(mut server: Server, passdb: &str) {
    let site = Site::new(&passdb.replace("4s", "600ms")).await;
    site.recovers("ann@x.org", "secret-ann").await;
    server.kill();
    site.is_without_its_server(Duration::from_millis(600)).await;
    server.start();
    site.recovers("ann@x.org", "secret-ann").await;
    server.hang();
    site.is_without_its_server(Duration::from_millis(600)).await;
    server.go_on();
    site.recovers("ann@x.org", "secret-ann").await;
}

#[tokio::test]
async fn postgresql_knows_the_users_and_may_die_and_hang() {
    let server = postgres(&schema("true"));
    answers_as_it_should(&Site::new(&of_postgres(&server)).await).await;
    let passdb = of_postgres(&server);
    is_used_again_when_it_is_back(server, &passdb).await;
}

#[tokio::test]
async fn mariadb_knows_the_users_and_may_die_and_hang() {
    let server = mariadb(&schema("true"));
    answers_as_it_should(&Site::new(&of_mariadb(&server)).await).await;
    let passdb = of_mariadb(&server);
    is_used_again_when_it_is_back(server, &passdb).await;
}

/// A file with the same tables.
async fn sqlite() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/users.db", dir.path().display());
    let options = url.parse::<sqlx::sqlite::SqliteConnectOptions>().unwrap().create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(schema("true"))).await.unwrap();
    connection.close().await.unwrap();
    (dir, passdb(&url, ""))
}

#[tokio::test]
async fn sqlite_knows_the_users() {
    let (_dir, passdb) = sqlite().await;
    answers_as_it_should(&Site::new(&passdb).await).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_no_empty_one() {
    let site = Site::new(&passdb("sqlite:///nowhere/users.db", "")).await;
    assert_eq!(site.refuses("ann@x.org", "secret-ann").await, Refusal::PassdbUnavailable);
}

#[tokio::test]
async fn a_user_whom_nobody_knows_costs_the_time_of_a_hash() {
    let (_dir, passdb) = sqlite().await;
    let site = Site::new(&passdb).await;
    let timed = async |user| {
        let begun = Instant::now();
        assert_eq!(site.refuses(user, "wrong").await, Refusal::BadCredentials);
        begun.elapsed()
    };
    // In turn, and the least of each: whatever else the machine does only adds.
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    for _ in 0..20 {
        known = known.min(timed("bob@x.org").await);
        unknown = unknown.min(timed("eve@x.org").await);
    }
    let ratio = unknown.as_secs_f64() / known.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "known {known:?}, unknown {unknown:?}");
}
