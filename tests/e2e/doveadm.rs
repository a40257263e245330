//! Asking real mail servers who is there: by Dovecot's doveadm protocol, the same under TLS, and its HTTP API.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use homing::config::Config;
use homing::doveadm::{Doveadm, DoveadmFault};
use serde_json::Value;
use tokio::time::Instant;

use crate::audit::two;
use crate::harness::certs::{Authority, Issued};
use crate::harness::dovecot::{DOVEADM_KEY, DOVEADM_PASSWORD, DovecotOptions};
use crate::harness::{Dovecot, Imap, MailStore, Result, User, Workdir, eventually};

/// One server that knows anybody, whatever the name, and an authority that vouches for it.
struct Site {
    dir: Workdir,
    server: Dovecot,
    authority: Authority,
}

/// Names that mean something to doveadm, to JSON, or to the protocol's lines.
const ODD: [&str; 11] = [
    "-dash",
    "10.0.0.1",
    "::1",
    "q?m",
    "we\"ird",
    "ba\\ck",
    "ta\tb",
    "jürgen@köln.example",
    "pa(ren)",
    "p%25t",
    "ann b",
];

impl Site {
    async fn start() -> Result<Self> {
        let dir = Workdir::new()?;
        let store = MailStore::new(dir.path(), &[])?;
        let authority = Authority::new(dir.path(), "ca")?;
        let issued: Issued = authority.issue(&["mail.test"])?;
        let extra = "auth_username_chars =\npassdb {\n  driver = static\n  args = password=any\n}\n";
        let options = DovecotOptions { tls: Some(&issued), extra, ..DovecotOptions::default() };
        let server = Dovecot::start(dir.path(), "mail1", &store, options).await?;
        Ok(Self { dir, server, authority })
    }

    async fn log_in(&self, name: &str) -> Result<Imap> {
        self.server.log_in(&User { name: name.to_owned(), password: "any".to_owned() }).await
    }

    /// Each way to ask, with the right password or key.
    fn ways(&self) -> Result<Vec<Doveadm>> {
        let Dovecot { doveadm_address, doveadm_tls_address, doveadm_http_address, .. } = &self.server;
        let password = format!("doveadm_password = \"{DOVEADM_PASSWORD}\"");
        let tls = format!("{password}\ntls_ca = {:?}\ntls_name = \"mail.test\"", self.authority.file);
        let key = format!("doveadm_api_key = \"{DOVEADM_KEY}\"");
        Ok(vec![
            doveadm("tcp", *doveadm_address, &password)?,
            doveadm("tls", *doveadm_tls_address, &tls)?,
            doveadm("http", *doveadm_http_address, &password)?,
            doveadm("http", *doveadm_http_address, &key)?,
        ])
    }
}

fn doveadm(scheme: &str, address: SocketAddr, keys: &str) -> Result<Doveadm> {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.mail1]\n\
         host = \"mail.test\"\ndoveadm = \"{scheme}://{address}\"\n{keys}\n"
    );
    let config = Config::parse(&text, "homing.toml").map_err(|faults| anyhow::anyhow!("{faults}"))?;
    Ok(Doveadm::new(config.backends.values().next().unwrap().doveadm.as_ref().unwrap())?)
}

#[tokio::test]
async fn who_is_there_is_told_alike_over_every_way() -> Result {
    let site = Site::start().await?;
    let mut clients = vec![site.log_in("ann").await?, site.log_in("ann").await?];
    for name in ODD {
        clients.push(site.log_in(name).await?);
    }
    for way in site.ways()? {
        let all = way.who().await?;
        let mut names: Vec<&str> = all.iter().map(|presence| presence.user.as_str()).collect();
        let mut expected: Vec<&str> = ODD.into_iter().chain(["ann"]).collect();
        names.sort_unstable();
        expected.sort_unstable();
        ensure!(names == expected, "{all:#?}");
        for presence in &all {
            let sessions = if presence.user == "ann" { 2 } else { 1 };
            let counts = (presence.service.as_str(), presence.connections, presence.processes);
            ensure!(counts == ("imap", sessions, sessions), "{presence:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_user_is_gone_when_the_last_process_is() -> Result {
    let site = Site::start().await?;
    for way in site.ways()? {
        let client = site.log_in("ann").await?;
        let left = way.until_gone(|user| user == "ann", Instant::now() + Duration::from_secs(3)).await?;
        ensure!(left.len() == 1 && left[0].user == "ann", "{left:?}");
        drop(client);
        ensure!(way.until_gone(|user| user == "ann", Instant::now() + Duration::from_secs(60)).await?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_a_server_that_is_away_are_told_apart() -> Result {
    let mut site = Site::start().await?;
    let Dovecot { doveadm_address, doveadm_tls_address, doveadm_http_address, .. } = site.server;
    let wrong = "doveadm_password = \"wrong\"";
    for (scheme, address) in [("tcp", doveadm_address), ("http", doveadm_http_address)] {
        let asked = Instant::now();
        let fault =
            doveadm(scheme, address, wrong)?.until_gone(|user| user == "ann", asked + Duration::from_secs(60)).await;
        let Err(fault @ DoveadmFault::Denied { .. }) = fault else { anyhow::bail!("{fault:?}") };
        ensure!(!fault.to_string().contains("wrong"), "{fault}");
        ensure!(fault.to_string().contains("doveadm_password"), "{fault}");
        ensure!(asked.elapsed() < Duration::from_secs(30), "asking again cannot help");
    }
    // Another authority's certificate, and a server that expects something else.
    let other = Authority::new(site.dir.path(), "other")?;
    let tls = format!("{wrong}\ntls_ca = {:?}\ntls_name = \"mail.test\"", other.file);
    let fault = doveadm("tls", doveadm_tls_address, &tls)?.who().await.unwrap_err();
    ensure!(fault.to_string().contains("TLS handshake failed"), "{fault}");
    let fault = doveadm("http", site.server.address, wrong)?.who().await.unwrap_err();
    ensure!(fault.to_string().contains("does not answer in HTTP"), "{fault}");
    site.server.kill();
    for way in site.ways()? {
        let fault = way.who().await.unwrap_err();
        ensure!(fault.is_temporary() && fault.to_string().contains("cannot be reached"), "{fault}");
    }
    Ok(())
}

#[tokio::test]
async fn a_confirmed_move_or_kick_waits_until_the_old_backend_itself_has_let_go() -> Result {
    let fleet = two("[moves]\nkick_delay = \"200ms\"").await?;
    let (user, proxy) = (&fleet.users[0], &fleet.proxies[0]);
    let mut open = proxy.log_in(user).await?;
    let old = open.backend().await?;
    let new = if old == "mail1" { "mail2" } else { "mail1" };
    // Somebody who has come to the mail server by another way, whom no proxy can see.
    let server = fleet.backends.iter().find(|backend| backend.name == old).context("the home")?;
    let beside = server.log_in(user).await?;
    let home = async || -> Result<Value> {
        Ok(serde_json::from_slice(&proxy.admin(&["user", "where", &user.name, "--json"]).await?.stdout)?)
    };
    let arguments = ["user", "move", &user.name, "--to", new, "--confirm", "--json"];
    let wait_then_leave = async {
        eventually("the sessions have ended", Duration::from_secs(20), async || {
            let found = home().await?;
            ensure!(found["home"]["sessions"] == 0 && found["marks"]["moving"].is_null(), "{found}");
            Ok(())
        })
        .await?;
        for _ in 0..10 {
            let found = home().await?;
            ensure!(found["home"]["backend"] == old && found["marks"]["locked_by"].is_string(), "{found}");
        }
        drop(beside);
        anyhow::Ok(())
    };
    let (moved, left) = tokio::join!(proxy.admin(&arguments), wait_then_leave);
    let (moved, _) = (moved?, left?);
    let said: Value = serde_json::from_slice(&moved.stdout)?;
    ensure!(moved.status.success() && said["backend_let_go"] == true, "{moved:?}");
    ensure!(said["home"] == new && said["closed"] == 1, "{said}");
    open.read_to_end().await?;

    let mut open = fleet.proxies[1].log_in(user).await?;
    ensure!(open.backend().await? == new);
    let kicked = proxy.admin(&["user", "kick", &user.name, "--confirm"]).await?;
    let said = String::from_utf8(kicked.stdout)?;
    ensure!(kicked.status.success() && said.contains(&format!("{new} itself has no process of the user")), "{said}");
    open.read_to_end().await?;
    Ok(())
}
