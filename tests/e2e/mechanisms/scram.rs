//! SCRAM: the proxy sees no password, the mail server lets the proxy's master user in.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Executor};
use tokio::process::Command;

use super::site::{Login, PROTOCOLS, Site, log_in_at};
use crate::harness::dovecot::MASTER;
use crate::harness::{Fleet, Protocol, Proxy, Result, User, Workdir, eventually, tools};

const ALL: &[&str] = &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN", "LOGIN"];

/// A proxy whose passdb is a file of those lines.
async fn site(lines: impl FnOnce(&[User]) -> String, config: &str) -> Result<Site> {
    Site::with(|fleet, _| {
        let file = fleet.dir.join("passdb");
        std::fs::write(&file, lines(&fleet.users))?;
        let passdb = format!("[[passdb]]\nkind = \"file\"\npath = {file:?}\n{config}");
        let keys = format!("master_user = {:?}\nmaster_password = {:?}\n", MASTER.0, MASTER.1);
        Ok([passdb, keys, String::new()])
    })
    .await
}

fn in_clear(users: &[User]) -> String {
    users.iter().map(|user| format!("{}:{{PLAIN}}{}\n", user.name, user.password)).collect()
}

fn by(user: &User) -> Value {
    json!({ "user": user.name, "password": user.password })
}

fn with(mut given: Value, name: &str, value: &str) -> Value {
    given[name] = value.into();
    given
}

#[tokio::test]
async fn scram_logs_in_by_every_protocol_with_and_without_a_channel_binding() -> Result {
    let site = site(in_clear, "").await?;
    let ann = &site.fleet.users[0];
    for protocol in PROTOCOLS {
        for (tls, mechanism, flag) in [
            ("implicit", "SCRAM-SHA-256", "n"),
            ("starttls", "SCRAM-SHA-1", "n"),
            ("implicit", "SCRAM-SHA-1-PLUS", "p=tls-server-end-point"),
            ("starttls", "SCRAM-SHA-256-PLUS", "p=tls-server-end-point"),
        ] {
            let before = site.visits()?;
            let login = site.log_in(protocol, tls, mechanism, with(by(ann), "flag", flag)).await?;
            login.is_in().with_context(|| format!("{protocol:?} {tls} {mechanism}"))?;
            ensure!(login.0["verified"] == true, "the server did not show that it knows the password: {}", login.0);
            ensure!(login.offered() == ALL, "{protocol:?}: {:?}", login.offered());
            let hidden = login.0["before"].as_array().is_none_or(|before| {
                before.iter().all(|name| name.as_str().is_some_and(|name| !name.contains("PLUS")))
            });
            ensure!(hidden, "{protocol:?} offers a channel binding without a channel: {}", login.0);
            ensure!(site.visits()? > before && site.last(&ann.name)?.user == ann.name);
        }
        let wrong = with(by(ann), "password", "wrong");
        site.log_in(protocol, "implicit", "SCRAM-SHA-256", wrong).await?.is_refused("")?;
    }
    Ok(())
}

#[tokio::test]
async fn who_could_bind_but_was_told_that_we_cannot_is_refused_and_so_is_another_servers_certificate() -> Result {
    let site = site(in_clear, "").await?;
    let ann = &site.fleet.users[0];
    let lied_to = with(by(ann), "flag", "y");
    let login = site.log_in(Protocol::Imap, "implicit", "SCRAM-SHA-256", lied_to).await?;
    ensure!(login.0["status"] == "no", "{}", login.0);
    // Not by a mechanism without PLUS, nor without a binding by one that has it.
    let bound = with(by(ann), "flag", "p=tls-server-end-point");
    ensure!(site.log_in(Protocol::Imap, "implicit", "SCRAM-SHA-256", bound).await?.0["status"] == "no");
    let loose = with(by(ann), "flag", "n");
    ensure!(site.log_in(Protocol::Imap, "implicit", "SCRAM-SHA-256-PLUS", loose).await?.0["status"] == "no");
    ensure!(site.visits()? == 0);
    Ok(())
}

/// gsasl, an implementation that shares nothing with ours.
async fn gsasl(
    site: &Site,
    kind: &str,
    protocol: Protocol,
    mechanism: &str,
    user: &User,
    more: &[&str],
) -> Result<String> {
    let address = site.address(protocol, "starttls")?;
    let mut command = Command::new("gsasl");
    command.args([kind, &format!("--connect={address}"), "--mechanism", mechanism]);
    command.args(["--authentication-id", &user.name, "--password", &user.password, "--no-client-first"]);
    command
        .args(["--x509-ca-file", &site.authority.file.display().to_string(), "--quality-of-protection=qop-auth"])
        .args(more);
    let output = tools::run(&mut command, b"").await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(said)
}

#[tokio::test]
async fn gsasl_logs_in_by_scram_bound_to_its_tls() -> Result {
    let site = site(in_clear, "").await?;
    let ann = &site.fleet.users[0];
    for (kind, protocol) in [("--imap", Protocol::Imap), ("--smtp", Protocol::Submission)] {
        for mechanism in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"] {
            let before = site.visits()?;
            let said = gsasl(&site, kind, protocol, mechanism, ann, &[]).await?;
            ensure!(site.visits()? > before, "{said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn keys_that_gsasl_has_made_let_in_who_has_the_password() -> Result {
    let ann = User::named("ann");
    let made = Command::new("gsasl")
        .args(["--mkpasswd", "--mechanism", "SCRAM-SHA-256", "--password", &ann.password, "--iteration-count", "8192"])
        .output()
        .await?;
    let stored = String::from_utf8(made.stdout)?;
    let site = site(|_| format!("{}:{}\n", ann.name, stored.trim()), "").await?;
    site.fleet.store.write_users(std::slice::from_ref(&ann), "")?;
    let login = site.log_in(Protocol::Imap, "implicit", "SCRAM-SHA-256", by(&ann)).await?;
    login.is_in()?;
    // Of the other hash there are no keys, so that it is not offered.
    ensure!(login.offered() == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"], "{:?}", login.offered());
    // Who is not there has as many rounds as who is.
    let nobody = with(by(&ann), "user", "nobody");
    let refused = site.log_in(Protocol::Imap, "implicit", "SCRAM-SHA-256", nobody).await?;
    refused.is_refused("[AUTHENTICATIONFAILED]")?;
    ensure!(refused.0["rounds"] == 8192 && login.0["rounds"] == 8192, "{} {}", refused.0, login.0);
    site.log_in(Protocol::Imap, "implicit", "PLAIN", by(&ann)).await?.is_in()
}

#[tokio::test]
async fn a_master_user_logs_in_for_a_user_by_scram_and_nobody_else_does() -> Result {
    let boss = User::named("boss");
    let line = format!("{}:{{PLAIN}}{}\n", boss.name, boss.password);
    let dir = Workdir::new()?;
    let file = dir.join("masters");
    std::fs::write(&file, line)?;
    let masters = format!("[[passdb]]\nkind = \"file\"\nmaster = true\npath = {file:?}\n");
    let site = site(in_clear, &masters).await?;
    let (ann, bob) = (&site.fleet.users[0], &site.fleet.users[1]);
    let login = async |who: &User, authzid: &str| {
        let given = with(by(who), "authzid", authzid);
        site.log_in(Protocol::Imap, "implicit", "SCRAM-SHA-256", given).await
    };
    login(&boss, &ann.name).await?.is_in()?;
    ensure!(site.last(&ann.name)?.user == ann.name);
    login(bob, &ann.name).await?.is_refused("")?;
    login(bob, &bob.name).await?.is_in()
}

/// Users in a database that counts how often it is asked.
struct Database {
    dir: Workdir,
    connection: SqliteConnection,
}

impl Database {
    async fn new(users: &[User]) -> Result<Self> {
        let dir = Workdir::new()?;
        let options = SqliteConnectOptions::new().filename(dir.join("users.db")).create_if_missing(true);
        let mut connection = options.connect().await?;
        connection.execute("CREATE TABLE users (name TEXT PRIMARY KEY, word TEXT)").await?;
        let mut database = Self { dir, connection };
        for user in users {
            database.set(user).await?;
        }
        Ok(database)
    }

    async fn set(&mut self, user: &User) -> Result {
        let made = Command::new("gsasl")
            .args(["--mkpasswd", "--mechanism", "SCRAM-SHA-256", "--password", &user.password])
            .args(["--iteration-count", "4096"])
            .output()
            .await?;
        let row = sqlx::query("INSERT OR REPLACE INTO users VALUES (?, ?)").bind(&user.name);
        row.bind(String::from_utf8(made.stdout)?.trim()).execute(&mut self.connection).await?;
        Ok(())
    }

    fn config(&self, secret: &std::path::Path) -> String {
        format!(
            "[auth]\nmechanisms = [\"SCRAM-SHA-256\", \"PLAIN\"]\nsecret_file = {secret:?}\n[[passdb]]\nkind = \"sql\"\n\
             url = \"sqlite://{}\"\nquery = \"SELECT word AS password FROM users WHERE name = :user\"\n",
            self.dir.join("users.db").display()
        )
    }
}

/// Questions that went to the database.
async fn asked(proxy: &Proxy) -> Result<u64> {
    let output = proxy.admin(&["auth", "stats", "--json"]).await?;
    let stats: Value = serde_json::from_slice(&output.stdout)?;
    stats["sources"][0]["asked"].as_u64().context("no count")
}

async fn log_in(proxy: &Proxy, user: &User) -> Result<Login> {
    log_in_at(proxy.address(), Protocol::Imap, "none", "SCRAM-SHA-256", by(user)).await
}

/// Notes are written behind the login's back.
async fn noted(fleet: &Fleet, count: usize) -> Result {
    eventually("answers are noted", Duration::from_secs(30), async || {
        let keys: Vec<_> = fleet.redis.keys().await?.into_iter().filter(|key| key.contains(":note:")).collect();
        ensure!(keys.len() >= count, "{keys:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_storm_of_scram_logins_does_not_reach_the_database_and_a_changed_password_does() -> Result {
    let users = User::first(3);
    let mut database = Database::new(&users).await?;
    let secret = database.dir.join("secret");
    std::fs::write(&secret, "a secret of the fleet that is long enough\n")?;
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let master = format!(
        "[backend.mail1]\nmaster_user = {0:?}\nmaster_password = {1:?}\n[backend.mail2]\nmaster_user = {0:?}\n\
         master_password = {1:?}\n[backend.mail3]\nmaster_user = {0:?}\nmaster_password = {1:?}\n",
        MASTER.0, MASTER.1
    );
    let config = format!("{}{master}", database.config(&secret));
    let mut fleet = Fleet::plan().proxies(2).users(3).config(&config).start().await?;
    let ann = users[0].clone();
    for user in &users {
        log_in(&fleet.proxies[0], user).await?.is_in()?;
    }
    noted(&fleet, 6).await?;
    let second = &fleet.proxies[1];
    for user in users.iter().chain(&users) {
        let login = log_in(second, user).await?;
        login.is_in()?;
        ensure!(login.0["verified"] == true, "{}", login.0);
    }
    ensure!(asked(second).await? == 0, "the database was asked {} times", asked(second).await?);

    // A wrong proof has the database asked, and is refused; a new password is good at the second try.
    let wrong = User { password: "wrong".to_owned(), ..ann.clone() };
    log_in(second, &wrong).await?.is_refused("[AUTHENTICATIONFAILED]")?;
    ensure!(asked(second).await? == 1, "{}", asked(second).await?);
    let new = User { password: "new-word-of-ann".to_owned(), ..ann.clone() };
    database.set(&new).await?;
    log_in(second, &new).await?.is_refused("[UNAVAILABLE]")?;
    eventually("the new keys are noted", Duration::from_secs(30), async || log_in(second, &new).await?.is_in()).await?;
    log_in(second, &ann).await?.is_refused("[AUTHENTICATIONFAILED]")?;

    // Nobody is shown the same salt by each proxy, before and after a restart.
    let nobody = User::named("nobody");
    let mut shown = Vec::new();
    for proxy in &fleet.proxies {
        let login = log_in(proxy, &nobody).await?;
        login.is_refused("[AUTHENTICATIONFAILED]")?;
        ensure!(login.0["rounds"] == 4096, "{}", login.0);
        shown.push(login.0["salt"].clone());
    }
    fleet.proxies[0].stop().await?;
    fleet.proxies[0].start().await?;
    shown.push(log_in(&fleet.proxies[0], &nobody).await?.0["salt"].clone());
    ensure!(shown[0] == shown[1] && shown[1] == shown[2], "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn a_guess_counts_though_the_client_hangs_up_before_it_is_refused() -> Result {
    let site = site(in_clear, "[auth]\npenalty_max = \"1s\"\n").await?;
    let guess = |number: u32| {
        let word = format!("guess {number}");
        with(with(by(&site.fleet.users[0]), "password", &word), "leaves", "yes")
    };
    for number in 1..=3 {
        site.log_in(Protocol::Imap, "implicit", "SCRAM-SHA-256", guess(number)).await?;
        eventually("it has counted", Duration::from_secs(30), async || {
            let output = site.fleet.proxy().admin(&["auth", "stats", "--json"]).await?;
            let stats: Value = serde_json::from_slice(&output.stdout)?;
            ensure!(stats["penalties"]["failed"] == number, "{}", stats["penalties"]);
            Ok(())
        })
        .await?;
    }
    Ok(())
}
