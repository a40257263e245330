//! Logins by token: the proxies verify it, and Dovecots to which it is passed on verify it again, each by itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::fleet::Plan;
use crate::harness::imap::Status;
use crate::harness::{Fleet, Imap, Protocol, Proxy, Result, Workdir, eventually, tools};

#[allow(dead_code, reason = "not every test needs all that an issuer can do")]
#[path = "../auth/issuer.rs"]
mod issuer;

use issuer::{Issuer, Signer, now};

const MECHANISMS: &str = "[auth]\nmechanisms = [\"plain\", \"login\", \"oauthbearer\", \"xoauth2\"]\n";

/// A Dovecot that takes tokens, and verifies them as its own file says.
fn dovecot(file: &str) -> String {
    format!(
        "auth_mechanisms = plain login oauthbearer xoauth2\n\
         passdb {{\n  driver = oauth2\n  mechanisms = oauthbearer xoauth2\n  args = {file}\n}}\n"
    )
}

/// It asks the issuer about each token.
fn asking(dir: &Workdir, issuer: &Issuer) -> Result<String> {
    let file = dir.join("oauth2.conf");
    let text = format!(
        "introspection_url = {}/introspect\nintrospection_mode = post\nusername_attribute = email\n\
         active_attribute = active\nactive_value = true\n",
        issuer.name()
    );
    std::fs::write(&file, text)?;
    Ok(dovecot(&file.display().to_string()))
}

/// It has the keys in files.
fn verifying(dir: &Workdir, issuer: &Issuer, signers: &[(&str, &str, &Signer)]) -> Result<String> {
    for (algorithm, id, signer) in signers {
        let keys = dir.join("keys/default").join(algorithm);
        std::fs::create_dir_all(&keys)?;
        std::fs::write(keys.join(id), signer.pem())?;
    }
    let file = dir.join("oauth2.conf");
    let text = format!(
        "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={}/\nusername_attribute = email\n\
         issuers = {}\n",
        dir.join("keys").display(),
        issuer.name()
    );
    std::fs::write(&file, text)?;
    Ok(dovecot(&file.display().to_string()))
}

fn plan(passdb: &str, dovecot: &str) -> Plan {
    Fleet::plan().backends(2).config(&format!("{MECHANISMS}{passdb}")).dovecot(dovecot)
}

/// curl logs in with a token.
async fn curl(url: &str, mechanism: &str, user: &str, token: &str, more: &[&str], input: &str) -> Result<String> {
    let options = format!("AUTH={mechanism}");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--user", user, "--oauth2-bearer", token]);
    command.args(["--login-options", &options, url]).args(more);
    tools::succeed(&mut command, input.as_bytes()).await
}

/// A message of OAUTHBEARER, for somebody or for whom the token names.
fn bearer(user: &str, token: &str) -> String {
    let header = if user.is_empty() { "n,,".to_owned() } else { format!("n,a={user},") };
    STANDARD.encode(format!("{header}\x01auth=Bearer {token}\x01\x01"))
}

/// The server that the user was let in to, or what was said after the challenge that says why not.
async fn log_in(address: SocketAddr, user: &str, token: &str) -> Result<std::result::Result<String, String>> {
    let mut imap = Imap::connect(address).await?;
    let tag = imap.begin(&format!("AUTHENTICATE OAUTHBEARER {}", bearer(user, token))).await?;
    let mut line = imap.line().await?;
    while line.starts_with("* ") {
        line = imap.line().await?;
    }
    let Some(challenge) = line.strip_prefix("+ ") else {
        ensure!(line.starts_with(&format!("{tag} OK")), "{line}");
        return Ok(Ok(imap.backend().await?));
    };
    let why: Value = serde_json::from_slice(&STANDARD.decode(challenge)?)?;
    ensure!(why["status"] == "invalid_token", "{why}");
    imap.send(b"AQ==\r\n").await?;
    let answer = imap.answer(&tag).await?;
    ensure!(answer.status == Status::No, "{answer:?}");
    Ok(Err(answer.text))
}

async fn questions(proxy: &Proxy) -> Result<Value> {
    let output = proxy.admin(&["auth", "stats", "--json"]).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_and_sends_mail_with_a_token_that_proxy_and_server_verify_each_by_itself() -> Result {
    let (rsa, ec) = (Signer::rsa("r1"), Signer::ec("e1"));
    let issuer = Issuer::open_with(&[&rsa, &ec]).await;
    let dir = Workdir::new()?;
    let passdb = format!("[[passdb]]\nkind = \"oauth2\"\nissuer = \"{}\"\naudience = [\"mail\"]\n", issuer.name());
    let fleet =
        plan(&passdb, &asking(&dir, &issuer)?).protocols(&[Protocol::Pop3, Protocol::Submission]).start().await?;
    let (imap, pop3) = (fleet.proxy().address(), fleet.proxy().door(Protocol::Pop3)?);
    let smtp = fleet.proxy().door(Protocol::Submission)?;
    let sink = fleet.sink.as_ref().context("no sink")?;
    for (user, signer) in fleet.users.iter().zip([&rsa, &ec]) {
        let claims = issuer.claims(&user.name);
        let token = signer.sign(&claims);
        let mut said = claims.clone();
        said["active"] = json!(true);
        issuer.says(&token, said);
        for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
            let before = issuer.questions();
            let boxes = curl(&format!("imap://{imap}/"), mechanism, &user.name, &token, &[], "").await?;
            ensure!(boxes.contains("INBOX"), "{boxes}");
            let list = curl(&format!("pop3://{pop3}/"), mechanism, &user.name, &token, &[], "").await?;
            ensure!(list.trim().is_empty() || list.starts_with('1'), "{list}");
            let subject = format!("{mechanism} of {}", user.name);
            let from = format!("{}@test", user.name);
            let more = ["--mail-from", &from, "--mail-rcpt", "far@far.test", "--upload-file", "-"];
            let mail = format!("From: <{from}>\r\nSubject: {subject}\r\n\r\nHello.\r\n");
            curl(&format!("smtp://{smtp}/client.test"), mechanism, &user.name, &token, &more, &mail).await?;
            sink.mail(&subject).await?;
            ensure!(issuer.questions() == before + 3, "each server has asked: {}", issuer.questions() - before);
        }
        // Somebody else's name, and a token that has ended.
        for (name, token) in [("user009", token.clone()), (&*user.name, signer.sign(&ended(&claims)))] {
            let told = curl(&format!("imap://{imap}/"), "OAUTHBEARER", name, &token, &[], "").await;
            ensure!(told.is_err(), "{told:?}");
        }
    }
    ensure!(issuer.key_reads() == 1, "{}", issuer.key_reads());
    fleet.witness()?.swears_one_home()?;
    let log = fleet.proxy().log()?;
    ensure!(!log.contains("eyJ"), "a token is in the log");
    fleet.empty().await
}

fn ended(claims: &Value) -> Value {
    let mut claims = claims.clone();
    claims["exp"] = json!(now() - 600);
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_by_itself_whose_it_is_and_the_server_has_the_last_word() -> Result {
    let (rsa, new) = (Signer::rsa("r1"), Signer::rsa("r2"));
    let issuer = Issuer::open_with(&[&rsa, &new]).await;
    let dir = Workdir::new()?;
    let passdb = format!("[[passdb]]\nkind = \"oauth2\"\nissuer = \"{}\"\n", issuer.name());
    let fleet = plan(&passdb, &verifying(&dir, &issuer, &[("RS256", "r1", &rsa)])?).start().await?;
    let (door, user) = (fleet.proxy().address(), &fleet.users[0].name);
    let token = rsa.sign(&issuer.claims(user));
    let home = log_in(door, "", &token).await?.map_err(anyhow::Error::msg)?;
    ensure!(log_in(door, user, &token).await? == Ok(home.clone()), "one home, named or not");
    ensure!(fleet.witness()?.backends_of(user).into_iter().eq([home.as_str()]));

    // What the proxy takes, but not the server, which lacks that key.
    let told = log_in(door, user, &new.sign(&issuer.claims(user))).await?;
    ensure!(told.as_ref().is_err_and(|text| text.starts_with("[AUTHENTICATIONFAILED]")), "{told:?}");
    ensure!(log_in(door, "user009", &token).await?.is_err(), "it is somebody else's");
    fleet.empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_proxy_dies_its_clients_come_back_with_their_tokens_and_the_issuer_is_not_asked() -> Result {
    const CLIENTS: usize = 200;
    let rsa = Signer::rsa("r1");
    let issuer = Issuer::open_with(&[&rsa]).await;
    let dir = Workdir::new()?;
    let url = format!("{}/introspect", issuer.name());
    let passdb = format!("[[passdb]]\nkind = \"oauth2\"\nmethod = \"introspection\"\nintrospection_url = \"{url}\"\n");
    let plan = plan(&passdb, &verifying(&dir, &issuer, &[("RS256", "r1", &rsa)])?);
    let mut fleet = plan.proxies(2).users(CLIENTS).start().await?;
    let monitor = fleet.redis.monitor().await?;
    let mut clients = Vec::new();
    for user in &fleet.users {
        let claims = issuer.claims(&user.name);
        let token = rsa.sign(&claims);
        let mut said = claims;
        said["active"] = json!(true);
        issuer.says(&token, said);
        clients.push((user.name.clone(), token));
    }
    let first = fleet.proxies[0].address();
    let storm = async |door| try_join_all(clients.iter().map(|(user, token)| log_in(door, user, token))).await;
    ensure!(storm(first).await?.iter().all(std::result::Result::is_ok));
    ensure!(issuer.questions() == CLIENTS, "{}", issuer.questions());
    eventually("answers are noted", Duration::from_secs(30), async || {
        let notes = fleet.redis.keys().await?.into_iter().filter(|key| key.contains(":note:")).count();
        ensure!(notes == CLIENTS, "{notes}");
        Ok(())
    })
    .await?;
    fleet.proxies[0].kill();
    issuer.hang(true); // nobody could be let in by its word
    ensure!(storm(fleet.proxies[1].address()).await?.iter().all(std::result::Result::is_ok));
    ensure!(issuer.questions() == CLIENTS, "{}", issuer.questions());
    let stats = questions(&fleet.proxies[1]).await?;
    ensure!(stats["sources"][0]["asked"] == 0 && stats["cache"]["fresh"] == CLIENTS, "{stats}");
    let heard = monitor.stop().await?;
    ensure!(heard.contains(":note:") && !heard.contains("eyJ"), "a token is in Redis");
    Ok(())
}
