//! Mail programs of the real world find the same through the proxy as at the backend.

use std::net::SocketAddr;

use anyhow::ensure;
use tokio::process::Command;

use crate::harness::certs::Authority;
use crate::harness::dovecot::DovecotOptions;
use crate::harness::fleet::merge;
use crate::harness::programs::{self, mbsync};
use crate::harness::{Dovecot, Fleet, Imap, Result, User, python, tools};

/// A fleet with messages in the mailboxes of the first users. It has a single backend: what an index file counts
/// (modification sequences) differs from backend to backend.
async fn with_mail() -> Result<Fleet> {
    let fleet = Fleet::plan().backends(1).start().await?;
    for user in &fleet.users[..2] {
        let mut imap = fleet.backends[0].log_in(user).await?;
        imap.command("CREATE Archive").await?.ok()?;
        for (mailbox, count) in [("INBOX", 5), ("Archive", 3)] {
            for n in 0..count {
                let message = format!(
                    "From: <sender@test>\r\nTo: <{}@test>\r\nDate: Mon, 7 Jul 2025 10:0{n}:00 +0000\r\n\
                     Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_{n}?=\r\nMessage-ID: <{n}.{mailbox}@test>\r\n\r\nLine {n}.\r\n.\r\n",
                    user.name
                );
                imap.append(mailbox, &message).await?;
            }
            // Only the first to select a mailbox sees its messages as recent.
            imap.command(&format!("SELECT {mailbox}")).await?.ok()?;
        }
        imap.logout().await?;
    }
    Ok(fleet)
}

/// What may differ between two runs: times.
fn normal(text: &str) -> String {
    let lines = text.lines().map(|line| match (line.find(" ("), line.ends_with("secs).")) {
        (Some(start), true) => &line[..start],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn same(what: &str, direct: &str, proxied: &str) -> Result {
    ensure!(!direct.trim().is_empty(), "{what}: nothing to compare");
    ensure!(normal(direct) == normal(proxied), "{what}: at the backend\n{direct}\nthrough the proxy\n{proxied}");
    Ok(())
}

async fn curl(address: SocketAddr, user: &User, path: &str, more: &[&str]) -> Result<String> {
    programs::curl("imap", address, user, path, more).await
}

#[tokio::test]
async fn curl_finds_the_same_through_the_proxy() -> Result {
    let fleet = with_mail().await?;
    let (user, direct, proxy) = (&fleet.users[0], fleet.backends[0].address, fleet.proxy().address());
    let requests: &[(&str, &[&str])] = &[
        ("", &[]),
        ("INBOX;MAILINDEX=2", &[]),
        ("INBOX;UID=3;SECTION=TEXT", &[]),
        ("Archive?SUBJECT%20Gr", &[]),
        ("", &["--request", "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)"]),
        ("INBOX", &["--request", "FETCH 1:* (FLAGS ENVELOPE)"]),
        ("", &["--login-options", "AUTH=PLAIN"]),
        ("", &["--login-options", "AUTH=LOGIN"]),
        ("", &["--login-options", "AUTH=PLAIN", "--sasl-ir"]),
    ];
    for (path, more) in requests {
        let ours = curl(proxy, user, path, more).await?;
        same(&format!("curl {path} {more:?}"), &curl(direct, user, path, more).await?, &ours)?;
    }
    let (file, message) = (fleet.dir.join("message"), "From: <curl@test>\r\nSubject: sent\r\n\r\nHello.\r\n");
    std::fs::write(&file, message)?;
    curl(proxy, user, "Archive", &["--upload-file", &file.display().to_string()]).await?;
    let stored = curl(direct, user, "Archive;MAILINDEX=4", &[]).await?;
    ensure!(stored == message, "{stored:?}");
    let wrong = User { password: "wrong".into(), ..user.clone() };
    let refused = curl(proxy, &wrong, "", &[]).await.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("67"), "curl's code for a denied login: {refused}");
    Ok(())
}

#[tokio::test]
async fn mbsync_copies_the_same_mail_through_the_proxy_and_back() -> Result {
    let fleet = with_mail().await?;
    let (user, direct, proxy) = (&fleet.users[0], fleet.backends[0].address, fleet.proxy().address());
    let theirs = mbsync(&fleet.dir.join("theirs"), direct, user).await?;
    let ours = mbsync(&fleet.dir.join("ours"), proxy, user).await?;
    ensure!(theirs.len() == 8 && ours == theirs, "{} messages, {} through the proxy", theirs.len(), ours.len());
    // A message put into the copy is sent through the proxy, and found at the backend.
    let message = "From: <mbsync@test>\nSubject: from below\n\nHello.\n";
    std::fs::write(fleet.dir.join("ours/mail/INBOX/new/1.1.test"), message)?;
    mbsync(&fleet.dir.join("ours"), proxy, user).await?;
    let mut imap = fleet.backends[0].log_in(user).await?;
    imap.command("SELECT INBOX").await?.ok()?;
    let found = imap.command("SEARCH SUBJECT below").await?.ok()?;
    ensure!(found.untagged == ["* SEARCH 6"], "{found:?}");
    Ok(())
}

#[tokio::test]
async fn imaplib_finds_the_same_through_the_proxy() -> Result {
    let fleet = with_mail().await?;
    let user = &fleet.users[0];
    let mut told = Vec::new();
    for address in [fleet.backends[0].address, fleet.proxy().address()] {
        told.push(programs::python(python::IMAPLIB, address, user, &[]).await?);
    }
    same("imaplib", &told[0], &told[1])
}

#[tokio::test]
async fn openssl_s_client_finds_the_same_through_the_proxy() -> Result {
    let plan = Fleet::plan().backends(0).listener("tls = \"starttls\"").listener("tls = \"implicit\"");
    let mut fleet = plan.start_without_proxies().await?;
    let authority = Authority::new(fleet.dir.path(), "ca")?;
    let issued = authority.issue(&["mail.test"])?;
    let options = DovecotOptions { tls: Some(&issued), ..DovecotOptions::default() };
    let backend = Dovecot::start(fleet.dir.path(), "mail1", &fleet.store, options).await?;
    let more = format!(
        "{}[[tls.certificate]]\ncertificate = {:?}\nkey = {:?}\n",
        crate::harness::fleet::backend_entry(&backend),
        issued.certificate,
        issued.key
    );
    let more: toml::Table = more.parse()?;
    fleet.reconfigure(|config| merge(config, more.clone()))?;
    fleet.proxies[0].start().await?;
    let user = &fleet.users[0];
    let mut imap = backend.log_in(user).await?;
    imap.append("INBOX", "Subject: one\r\n\r\nbody\r\n").await?;
    imap.command("SELECT INBOX").await?.ok()?;
    imap.logout().await?;
    let script = format!(
        "a LOGIN {} {}\r\nb SELECT INBOX\r\nc FETCH 1 (UID BODY.PEEK[])\r\nd STATUS INBOX (MESSAGES)\r\ne LOGOUT\r\n",
        user.name, user.password
    );
    let s_client = async |address: SocketAddr, starttls: bool| -> Result<String> {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-quiet",
            "-verify_quiet",
            "-connect",
            &address.to_string(),
            "-servername",
            "mail.test",
        ]);
        command.args(["-CAfile", &authority.file.display().to_string(), "-verify_return_error"]);
        if starttls {
            command.args(["-starttls", "imap"]);
        }
        let said = tools::succeed(&mut command, script.as_bytes()).await?;
        // From behind the login on. What is offered before it differs by right, and so may where capabilities come.
        Ok(said.lines().skip_while(|line| !line.starts_with("a OK")).skip(1).collect::<Vec<_>>().join("\n"))
    };
    let proxy = fleet.proxy();
    same("IMAPS", &s_client(backend.tls_address, false).await?, &s_client(proxy.addresses[1], false).await?)?;
    same("STARTTLS", &s_client(backend.address, true).await?, &s_client(proxy.addresses[0], true).await?)
}

#[tokio::test]
async fn a_session_reads_alike_line_by_line_through_the_proxy() -> Result {
    let fleet = with_mail().await?;
    let commands = [
        "CAPABILITY",
        "NAMESPACE",
        "LIST \"\" *",
        "ENABLE CONDSTORE QRESYNC",
        "SELECT INBOX",
        "UID FETCH 1:* (FLAGS MODSEQ)",
        "FETCH 1 BODY.PEEK[]",
        "SEARCH RETURN (ALL COUNT) ALL",
        "STATUS Archive (HIGHESTMODSEQ)",
        "NOSUCHCOMMAND",
        "LOGIN x y",
        "UID COPY 1 NoSuchMailbox",
        "UNSELECT",
        "NOOP",
    ];
    let mut told = Vec::new();
    for address in [fleet.backends[0].address, fleet.proxy().address()] {
        let mut imap = Imap::connect(address).await?;
        let login = imap.login(&fleet.users[1]).await?;
        let mut lines = vec![format!("login {} {:?}", login.text, login.untagged)];
        for command in commands {
            let answer = imap.command(command).await?;
            lines.extend(answer.untagged);
            lines.push(format!("{command}: {:?} {}", answer.status, answer.text));
        }
        told.push(lines.join("\n"));
        imap.logout().await?;
    }
    same("a session", &told[0], &told[1])
}
