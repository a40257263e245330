//! Towards the backends: TLS and its verification, master users, and what clients hear when a backend is of no use.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::harness::certs::{Authority, Issued};
use crate::harness::dovecot::{DovecotOptions, MASTER};
use crate::harness::fleet::merge;
use crate::harness::{Dovecot, Fleet, Imap, Result, Status, User};

/// A fleet whose only backend offers TLS with a certificate of `authority` for `mail.test`; `settings` are those of the
/// backend in the proxy's file, without the port.
async fn with_tls(implicit: bool, settings: impl Fn(&Authority, &Authority) -> String) -> Result<Fleet> {
    let mut fleet = Fleet::plan().backends(0).start_without_proxies().await?;
    let authority = Authority::new(fleet.dir.path(), "ca")?;
    let other = Authority::new(fleet.dir.path(), "other")?;
    let issued: Issued = authority.issue(&["mail.test"])?;
    let options = DovecotOptions { tls: Some(&issued), ..DovecotOptions::default() };
    let backend = Dovecot::start(fleet.dir.path(), "mail1", &fleet.store, options).await?;
    let address = if implicit { backend.tls_address } else { backend.address };
    let entry = format!("[backend.mail1]\nhost = \"{}\"\nport = {}\n", address.ip(), address.port());
    let entry: toml::Table = format!("{entry}{}", settings(&authority, &other)).parse()?;
    fleet.reconfigure(|config| merge(config, entry.clone()))?;
    fleet.backends.push(backend);
    fleet.proxies[0].start().await?;
    Ok(fleet)
}

async fn is_refused_with(fleet: &Fleet, cause: &str) -> Result {
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    let answer = imap.try_login(&fleet.users[0]).await?;
    ensure!(answer.status == Status::No && answer.text.starts_with("[UNAVAILABLE]"), "{answer:?}");
    ensure!(!answer.text.contains("mail1"), "inner names are nobody's business: {answer:?}");
    ensure!(fleet.witness()?.visits.is_empty(), "logged in nevertheless");
    let log = fleet.proxy().log()?.to_lowercase();
    ensure!(log.contains("mail1") && log.contains(cause), "the log does not say why: {log}");
    Ok(())
}

#[tokio::test]
async fn the_way_to_the_backend_is_encrypted_by_imaps() -> Result {
    let fleet = with_tls(true, |authority, _| {
        format!("tls = \"implicit\"\ntls_ca = {:?}\ntls_name = \"mail.test\"\n", authority.file)
    })
    .await?;
    let mut imap = fleet.proxy().log_in(&fleet.users[0]).await?;
    imap.append("INBOX", "Subject: one\r\n\r\nbody\r\n").await?;
    ensure!(fleet.backends[0].log()?.contains("TLS"));
    Ok(())
}

#[tokio::test]
async fn the_way_to_the_backend_is_encrypted_by_starttls() -> Result {
    let fleet = with_tls(false, |authority, _| {
        format!("tls = \"starttls\"\ntls_ca = {:?}\ntls_name = \"mail.test\"\n", authority.file)
    })
    .await?;
    let mut imap = fleet.proxy().log_in(&fleet.users[0]).await?;
    imap.append("INBOX", "Subject: one\r\n\r\nbody\r\n").await?;
    ensure!(fleet.backends[0].log()?.contains("TLS"));
    Ok(())
}

#[tokio::test]
async fn a_backend_with_the_certificate_of_another_authority_is_not_given_the_password() -> Result {
    let fleet = with_tls(true, |_, other| {
        format!("tls = \"implicit\"\ntls_ca = {:?}\ntls_name = \"mail.test\"\nretry_budget = \"1s\"\n", other.file)
    })
    .await?;
    is_refused_with(&fleet, "certificate").await
}

#[tokio::test]
async fn a_backend_with_a_certificate_for_another_name_is_not_given_the_password() -> Result {
    let fleet = with_tls(false, |authority, _| {
        format!("tls = \"starttls\"\ntls_ca = {:?}\ntls_name = \"other.test\"\nretry_budget = \"1s\"\n", authority.file)
    })
    .await?;
    is_refused_with(&fleet, "certificate").await
}

#[tokio::test]
async fn an_unverified_backend_is_used_only_when_told_so() -> Result {
    let fleet = with_tls(true, |_, _| "tls = \"implicit\"\ntls_verify = false\n".to_owned()).await?;
    fleet.proxy().log_in(&fleet.users[0]).await?;
    Ok(())
}

#[tokio::test]
async fn a_master_user_opens_the_mailbox_of_whom_the_passdb_let_in() -> Result {
    let mut fleet = Fleet::plan().start_without_proxies().await?;
    // Passwords that only the proxy knows.
    let file = fleet.dir.join("passdb");
    let user = User { password: "known to the proxy alone".into(), ..fleet.users[0].clone() };
    std::fs::write(&file, format!("{}:{{PLAIN}}{}\n", user.name, user.password))?;
    fleet.reconfigure(|config| {
        let passdb = format!("[[passdb]]\nkind = \"file\"\npath = {file:?}");
        merge(config, passdb.parse().unwrap());
        for name in ["mail1", "mail2", "mail3"] {
            let master = format!("[backend.{name}]\nmaster_user = {:?}\nmaster_password = {:?}", MASTER.0, MASTER.1);
            merge(config, master.parse().unwrap());
        }
    })?;
    fleet.proxies[0].start().await?;
    let mut imap = fleet.proxy().log_in(&user).await?;
    imap.append("INBOX", "Subject: mine\r\n\r\nbody\r\n").await?;
    imap.logout().await?;
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    ensure!(imap.try_login(&fleet.users[0]).await?.status == Status::No, "the backend's password was taken");
    let mut imap = fleet.backends[0].log_in(&fleet.users[0]).await?;
    let status = imap.command("STATUS INBOX (MESSAGES)").await?.ok()?;
    ensure!(status.untagged[0].contains("MESSAGES 1"), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn a_master_user_who_logs_in_for_somebody_comes_to_that_users_home() -> Result {
    let fleet = Fleet::plan().users(6).proxies(2).start().await?;
    for user in &fleet.users {
        let own = fleet.proxies[0].log_in(user).await?;
        let as_master = User { name: format!("{}*{}", user.name, MASTER.0), password: MASTER.1.into() };
        let mut imap = fleet.proxies[1].log_in(&as_master).await?;
        imap.command("STATUS INBOX (MESSAGES)").await?.ok()?;
        let bindings = fleet.redis.sessions().await?;
        ensure!(bindings == 2, "{bindings} sessions are bound, not both of {}", user.name);
        let wrong = User { password: user.password.clone(), ..as_master };
        let refused = Imap::connect(fleet.proxy().address()).await?.try_login(&wrong).await?;
        ensure!(refused.status == Status::No, "the user's own password made a master");
        imap.logout().await?;
        own.logout().await?;
        fleet.empty().await?;
    }
    fleet.witness()?.swears_one_home()
}

#[tokio::test]
async fn a_login_whose_backend_is_dead_is_refused_in_time_and_served_when_it_is_back() -> Result {
    let budget = "[backend.mail1]\nretry_budget = \"2s\"\nconnect_timeout = \"1s\"";
    let mut fleet = Fleet::plan().backends(1).config(budget).start().await?;
    let user = fleet.users[0].clone();
    let mut live = fleet.proxy().log_in(&user).await?;
    fleet.backends[0].kill();
    live.lost().await?;
    let mut imap = Imap::connect(fleet.proxy().address()).await?;
    let begun = Instant::now();
    let answer = imap.try_login(&user).await?;
    ensure!(answer.status == Status::No && answer.text.starts_with("[UNAVAILABLE]"), "{answer:?}");
    ensure!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    fleet.backends[0].launch().await?;
    // On the same connection.
    imap.login(&user).await?;
    let ending = fleet.proxy().ending_of(&user.name).await?;
    ensure!(crate::harness::proxy::text(&ending, "who") == "backend", "{ending}");
    Ok(())
}

#[tokio::test]
async fn a_backend_that_restarts_within_the_retry_budget_is_not_noticed_by_a_login() -> Result {
    let mut fleet = Fleet::plan().backends(1).config("[backend.mail1]\nretry_budget = \"60s\"").start().await?;
    fleet.backends[0].kill();
    let user = fleet.users[0].clone();
    let mut imap = Imap::connect(fleet.proxy().address()).await?.with_patience(Duration::from_secs(90));
    let tag = imap.begin(&format!("LOGIN {} {}", user.name, user.password)).await?;
    fleet.backends[0].launch().await?;
    imap.answer(&tag).await?.ok()?;
    Ok(())
}
