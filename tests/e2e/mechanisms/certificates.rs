//! EXTERNAL: clients who log in by a certificate, and a proxy that does so at the mail server.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use super::site::{PROTOCOLS, Site};
use crate::harness::certs::Issued;
use crate::harness::{Authority, Protocol, Result, User, tools};

/// A Dovecot that knows the proxy by its certificate as a master user.
fn dovecot(authority: &Authority, masters: &std::path::Path) -> String {
    format!(
        "auth_mechanisms = plain external\nssl_ca = <{}\nssl_verify_client_cert = yes\nssl_require_crl = no\n\
         auth_ssl_username_from_cert = yes\n\
         passdb {{\n  driver = passwd-file\n  args = {}\n  mechanisms = external\n  master = yes\n}}\n",
        authority.file.display(),
        masters.display()
    )
}

/// Users whom the passdb knows without a password, and a mail server that knows nothing but the proxy.
async fn site(auth: &str) -> Result<Site> {
    Site::with(|fleet, authority| {
        let [passdb, masters] = ["passdb", "masters"].map(|name| fleet.dir.join(name));
        let lines: String = fleet.users.iter().map(|user| format!("{}:\n", user.name)).collect();
        std::fs::write(&passdb, format!("{lines}locked:!\n"))?;
        std::fs::write(&masters, "proxy.test:::::::nopassword\n")?;
        let Issued { certificate, key } = authority.issue(&["proxy.test"])?;
        let config = format!(
            "{auth}\n[tls]\nclient_auth = \"request\"\nclient_ca = {:?}\nclient_name = \"cn\"\n\
             [[passdb]]\nkind = \"file\"\npath = {passdb:?}\n",
            authority.file
        );
        let keys = format!("tls_certificate = {certificate:?}\ntls_key = {key:?}\nlogin_external = true\n");
        Ok([config, keys, dovecot(authority, &masters)])
    })
    .await
}

fn by(issued: &Issued) -> Value {
    json!({ "certificate": issued.certificate, "key": issued.key })
}

#[tokio::test]
async fn a_certificate_logs_its_user_in_by_every_protocol_and_the_proxys_own_at_the_mail_server() -> Result {
    let site = site("").await?;
    let ann = &site.fleet.users[0];
    let issued = site.authority.issue(&[&ann.name])?;
    for protocol in PROTOCOLS {
        for tls in ["implicit", "starttls"] {
            let before = site.visits()?;
            let login = site.log_in(protocol, tls, "EXTERNAL", by(&issued)).await?;
            login.is_in().with_context(|| format!("{protocol:?} {tls}\n{}", site.backend.log().unwrap_or_default()))?;
            ensure!(login.offered().contains(&"EXTERNAL"), "{:?}", login.offered());
            ensure!(site.visits()? > before && site.last(&ann.name)?.user == ann.name);
        }
        // Without a certificate it is neither offered nor taken, and never before TLS.
        let login = site.log_in(protocol, "starttls", "EXTERNAL", json!({})).await?;
        login.is_refused("")?;
        ensure!(!login.offered().contains(&"EXTERNAL") && !login.0["before"].to_string().contains("EXTERNAL"));
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_nobody_elses_and_no_key_to_a_locked_door() -> Result {
    let site = site("").await?;
    let (ann, bob) = (&site.fleet.users[0], &site.fleet.users[1]);
    let imap = async |issued: &Issued, authzid: &str| {
        let given = json!({ "certificate": issued.certificate, "key": issued.key, "authzid": authzid });
        site.log_in(Protocol::Imap, "implicit", "EXTERNAL", given).await
    };
    let of_ann = site.authority.issue(&[&ann.name])?;
    imap(&of_ann, &ann.name).await?.is_in()?;
    imap(&of_ann, &bob.name).await?.is_refused("")?;
    imap(&site.authority.issue(&["nobody"])?, "").await?.is_refused("[AUTHENTICATIONFAILED]")?;
    imap(&site.authority.issue(&["locked"])?, "").await?.is_refused("[AUTHENTICATIONFAILED]")?;
    let other = Authority::new(site.fleet.dir.path(), "other")?.issue(&[&ann.name])?;
    ensure!(imap(&other, "").await.is_err(), "an authority that nobody trusts");
    ensure!(site.visits()? == 1);
    Ok(())
}

#[tokio::test]
async fn openssl_and_curl_log_in_by_a_certificate() -> Result {
    let site = site("[auth]\nmechanisms = [\"EXTERNAL\"]").await?;
    let ann = &site.fleet.users[0];
    let Issued { certificate, key } = site.authority.issue(&[&ann.name])?;
    let [certificate, key, ca] = [certificate, key, site.authority.file.clone()].map(|path| path.display().to_string());
    let address = site.address(Protocol::Imap, "implicit")?;
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", &address.to_string(), "-servername", "mail.test"]);
    command.args(["-CAfile", &ca, "-cert", &certificate, "-key", &key, "-crlf"]);
    let output = tools::run(&mut command, b"a AUTHENTICATE EXTERNAL =\nb LOGOUT\n").await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("AUTH=EXTERNAL") && !said.contains("AUTH=PLAIN") && said.contains("a OK"), "{said}");
    for (protocol, scheme) in [(Protocol::Imap, "imaps"), (Protocol::Pop3, "pop3s"), (Protocol::Submission, "smtps")] {
        let before = site.visits()?;
        let address = site.address(protocol, "implicit")?;
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--insecure", "--cert", &certificate, "--key", &key]);
        command.args(["--user", &format!("{}:", ann.name), "--login-options", "AUTH=EXTERNAL", "--max-time", "60"]);
        command.arg(format!("{scheme}://{address}/"));
        let output = tools::run(&mut command, b"").await?;
        ensure!(site.visits()? > before, "{scheme}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[tokio::test]
async fn who_logs_in_by_password_is_logged_in_by_the_proxys_certificate_too() -> Result {
    let word = User::named("ann");
    let site = site("").await?;
    let ann = &site.fleet.users[0];
    let line = format!("{}:{{PLAIN}}{}\n", ann.name, word.password);
    std::fs::write(site.fleet.dir.join("passdb"), line)?;
    let output = site.fleet.proxy().admin(&["reload"]).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let given = json!({ "user": ann.name, "password": word.password });
    site.log_in(Protocol::Imap, "implicit", "PLAIN", given).await?.is_in()?;
    ensure!(site.last(&ann.name)?.user == ann.name);
    Ok(())
}
