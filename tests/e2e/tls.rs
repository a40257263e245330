//! TLS towards clients: certificates, versions, and what may stand around STARTTLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tokio::process::Command;

use crate::harness::certs::{Authority, Issued};
use crate::harness::proxy::text;
use crate::harness::{Fleet, Imap, Result, Status, eventually, tools};

/// A proxy with a STARTTLS listener, an IMAPS listener and certificates for two names.
struct Site {
    fleet: Fleet,
    authority: Authority,
    first: Issued,
    second: Issued,
}

impl Site {
    async fn start() -> Result<Self> {
        let plan = Fleet::plan().listener("tls = \"starttls\"").listener("tls = \"implicit\"");
        let mut fleet = plan.start_without_proxies().await?;
        let authority = Authority::new(fleet.dir.path(), "ca")?;
        let first = authority.issue(&["first.test"])?;
        let second = authority.issue(&["second.test", "*.wild.test"])?;
        let entry = |issued: &Issued| {
            format!("[[tls.certificate]]\ncertificate = {:?}\nkey = {:?}\n", issued.certificate, issued.key)
        };
        let tls: toml::Table = format!("{}{}", entry(&first), entry(&second)).parse()?;
        fleet.reconfigure(|config| crate::harness::fleet::merge(config, tls.clone()))?;
        fleet.proxies[0].start().await?;
        Ok(Self { fleet, authority, first, second })
    }

    fn starttls(&self) -> SocketAddr {
        self.fleet.proxy().addresses[0]
    }

    fn imaps(&self) -> SocketAddr {
        self.fleet.proxy().addresses[1]
    }

    async fn connect(&self, name: &str) -> Result<Imap> {
        Imap::connect_tls(self.imaps(), name, &self.authority.client()?).await
    }

    /// What openssl s_client makes of the IMAPS listener.
    async fn s_client(&self, version: &str) -> Result<String> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &self.imaps().to_string(), "-servername", "first.test", "-ign_eof"]);
        // Without the lower security level, openssl itself would not offer what must be refused.
        command.args([
            "-CAfile",
            &self.authority.file.display().to_string(),
            "-cipher",
            "DEFAULT:@SECLEVEL=0",
            version,
        ]);
        let output = tools::run(&mut command, b"a LOGOUT\r\n").await?;
        let said = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

fn pem(path: &std::path::Path) -> Result<Vec<u8>> {
    use rustls::pki_types::pem::PemObject;
    Ok(rustls::pki_types::CertificateDer::from_pem_file(path)?.to_vec())
}

#[tokio::test]
async fn the_name_that_the_client_asks_for_picks_the_certificate() -> Result {
    let site = Site::start().await?;
    let (first, second) = (pem(&site.first.certificate)?, pem(&site.second.certificate)?);
    ensure!(site.connect("first.test").await?.certificate()? == first);
    ensure!(site.connect("second.test").await?.certificate()? == second);
    ensure!(site.connect("imap.wild.test").await?.certificate()? == second);
    // Somebody else's name: the first certificate, which this client then does not take.
    let stranger = site.connect("stranger.test").await.err().context("a stranger's name was certified")?;
    ensure!(format!("{stranger:#}").contains("first.test"), "{stranger:#}");
    Ok(())
}

#[tokio::test]
async fn a_client_logs_in_by_imaps_and_by_starttls() -> Result {
    let site = Site::start().await?;
    let user = &site.fleet.users[0];
    let mut imap = site.connect("first.test").await?;
    ensure!(!imap.greeting.contains("STARTTLS") && imap.greeting.contains("AUTH=PLAIN"), "{}", imap.greeting);
    imap.login(user).await?;
    imap.append("INBOX", &format!("Subject: long\r\n\r\n{}", "0123456789\r\n".repeat(20_000))).await?;
    imap.command("SELECT INBOX").await?.ok()?;
    let fetched = imap.command("FETCH 1 BODY[TEXT]").await?.ok()?;
    ensure!(fetched.untagged[0].matches("0123456789\r\n").count() == 20_000);
    imap.logout().await?;
    let imap = Imap::connect(site.starttls()).await?;
    ensure!(imap.greeting.contains("STARTTLS") && imap.greeting.contains("LOGINDISABLED"), "{}", imap.greeting);
    let mut imap = imap.starttls("second.test", &site.authority.client()?).await?;
    let capabilities = imap.command("CAPABILITY").await?.ok()?;
    let line = capabilities.line("CAPABILITY").context("no CAPABILITY")?.to_owned();
    ensure!(!line.contains("STARTTLS") && line.contains("AUTH=PLAIN"), "{line}");
    imap.login(user).await?;
    imap.logout().await?;
    let endings = site.fleet.proxy().endings()?;
    ensure!(endings.iter().all(|ending| text(ending, "tls").starts_with("TLS")), "{endings:?}");
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_replaced_while_sessions_live() -> Result {
    let site = Site::start().await?;
    let mut old = site.connect("first.test").await?;
    old.login(&site.fleet.users[0]).await?;
    let before = old.certificate()?;
    site.authority.issue_into(&["first.test"], &site.first)?;
    let replaced = pem(&site.first.certificate)?;
    ensure!(before != replaced);
    ensure!(site.connect("first.test").await?.certificate()? == before, "replaced before it was told to");
    site.fleet.proxy().signal(Signal::HUP)?;
    eventually("the new certificate is shown", Duration::from_secs(60), async || {
        ensure!(site.connect("first.test").await?.certificate()? == replaced);
        Ok(())
    })
    .await?;
    old.command("NOOP").await?.ok()?;
    ensure!(site.connect("second.test").await?.certificate()? == pem(&site.second.certificate)?);
    Ok(())
}

#[tokio::test]
async fn a_broken_certificate_leaves_the_old_one_in_force() -> Result {
    let site = Site::start().await?;
    let before = site.connect("first.test").await?.certificate()?;
    std::fs::write(&site.first.key, "not a key")?;
    let output = site.fleet.proxy().admin(&["reload"]).await?;
    ensure!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("first.test.key"), "{said}");
    ensure!(site.connect("first.test").await?.certificate()? == before);
    Ok(())
}

#[tokio::test]
async fn commands_sent_in_plaintext_behind_starttls_close_the_connection_and_do_nothing() -> Result {
    let site = Site::start().await?;
    let user = &site.fleet.users[0];
    let mut imap = Imap::connect(site.starttls()).await?;
    let injected = format!("a STARTTLS\r\nb LOGIN {} {}\r\nc NOOP\r\n", user.name, user.password);
    imap.send(injected.as_bytes()).await?;
    let said = String::from_utf8_lossy(&imap.lost().await?).into_owned();
    ensure!(!said.contains("a OK") && !said.contains("b ") && !said.contains("c "), "{said}");
    ensure!(site.fleet.witness()?.visits.is_empty());
    Ok(())
}

#[tokio::test]
async fn no_password_is_taken_before_tls() -> Result {
    let site = Site::start().await?;
    let user = &site.fleet.users[0];
    let mut imap = Imap::connect(site.starttls()).await?;
    let answer = imap.try_login(user).await?;
    ensure!(answer.status == Status::No && answer.text.starts_with("[PRIVACYREQUIRED]"), "{answer:?}");
    let answer = imap.command("AUTHENTICATE PLAIN AGEAYg==").await?;
    ensure!(answer.status == Status::No && answer.text.starts_with("[PRIVACYREQUIRED]"), "{answer:?}");
    let mut imap = imap.starttls("first.test", &site.authority.client()?).await?;
    imap.login(user).await?;
    Ok(())
}

#[tokio::test]
async fn tls_1_1_is_refused_and_what_came_after_it_is_not() -> Result {
    let site = Site::start().await?;
    for (version, taken) in [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let said = site.s_client(version).await?;
        ensure!(said.contains("a OK Logout") == taken, "{version}: {said}");
        ensure!(taken || said.contains("SSL alert number"), "{version}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn tls_connections_are_closed_in_good_order_before_and_after_login() -> Result {
    let site = Site::start().await?;
    let mut imap = site.connect("first.test").await?;
    imap.send(b"a LOGOUT\r\n").await?;
    // Without close_notify, rustls reports an unexpected end.
    imap.read_to_end().await.context("before login")?;
    let mut imap = site.connect("first.test").await?;
    imap.login(&site.fleet.users[0]).await?;
    imap.logout().await.context("after login")
}

#[tokio::test]
async fn nonsense_instead_of_a_handshake_is_dropped_and_others_are_served() -> Result {
    let site = Site::start().await?;
    let mut imap = Imap::dial(site.imaps()).await?;
    imap.send(b"a LOGIN x y\r\n").await?;
    imap.lost().await?;
    let mut imap = site.connect("first.test").await?;
    imap.login(&site.fleet.users[0]).await?;
    Ok(())
}
