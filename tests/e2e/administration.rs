//! Administering mailboxes through homing: real doveadm and curl in front, real mail servers behind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::address::{free_ports, fresh_ip};
use crate::harness::certs::Authority;
use crate::harness::dovecot::{DOVEADM_PASSWORD, DovecotOptions};
use crate::harness::proxy::text;
use crate::harness::tools::run;
use crate::harness::{Dovecot, MailStore, Proxy, Result, User, Workdir, eventually};

const PASSWORD: &str = "Tor+Wort";
const KEY: &str = "Tor+Schluessel";

/// A proxy with a door for users, one for doveadm, and one for doveadm under TLS; two mail servers behind it.
struct Site {
    proxy: Proxy,
    backends: Vec<Dovecot>,
    users: Vec<User>,
    client: PathBuf,
    dir: Workdir,
}

impl Site {
    async fn start(users: usize, passdb: &str) -> Result<Self> {
        let dir = Workdir::new()?;
        let users = User::first(users);
        let store = MailStore::new(dir.path(), &users)?;
        let list = store.users_file().display().to_string();
        let extra = format!(
            "userdb {{\n  driver = passwd-file\n  args = username_format=%u {list}\n}}\n\
             protocol doveadm {{\n  mail_max_userip_connections = 0\n}}\n"
        );
        let options = || DovecotOptions { extra: &extra, ..DovecotOptions::default() };
        let backends = vec![
            Dovecot::start(dir.path(), "mail1", &store, options()).await?,
            Dovecot::start(dir.path(), "mail2", &store, options()).await?,
        ];
        let authority = Authority::new(dir.path(), "ca")?;
        let issued = authority.issue(&["door.test"])?;
        let addresses: [SocketAddr; 3] = free_ports(fresh_ip())?;
        let [imap, plain, tls] = addresses;
        let mut config = format!(
            "name = \"proxy1\"\n[admin]\nsocket = {:?}\n[log]\nformat = \"json\"\nlevel = \"info\"\n\
             [doveadm]\npassword = {PASSWORD:?}\napi_key = {KEY:?}\n[fleet]\nlogin_wait = \"1s\"\n\
             [[listener]]\naddress = \"{imap}\"\ntls = \"none\"\nplaintext_login = true\n\
             [[listener]]\naddress = \"{plain}\"\nprotocol = \"doveadm\"\ntls = \"none\"\n\
             [[listener]]\naddress = \"{tls}\"\nprotocol = \"doveadm\"\ntls = \"implicit\"\n\
             [[tls.certificate]]\ncertificate = {:?}\nkey = {:?}\n[[passdb]]\n{}\n",
            dir.join("proxy1.sock").display().to_string(),
            issued.certificate.display().to_string(),
            issued.key.display().to_string(),
            passdb.replace("USERS", &list),
        );
        for Dovecot { name, address, doveadm_address, doveadm_http_address, .. } in &backends {
            config += &format!(
                "[backend.{name}]\nhost = \"{}\"\nport = {}\ndoveadm = \"tcp://{doveadm_address}\"\n\
                 doveadm_http = \"http://{doveadm_http_address}\"\ndoveadm_password = {DOVEADM_PASSWORD:?}\n",
                address.ip(),
                address.port()
            );
        }
        let mut proxy = Proxy::new(dir.path(), "proxy1", addresses.to_vec(), &config.parse()?)?;
        proxy.start().await?;
        let client = dir.join("client.conf");
        std::fs::write(&client, format!("ssl = no\nbase_dir = {}\n", dir.join("nowhere").display()))?;
        Ok(Self { proxy, backends, users, client, dir })
    }

    async fn with_file() -> Result<Self> {
        Self::start(6, "kind = \"file\"\npath = \"USERS\"").await
    }

    /// Debian's doveadm, as an operator runs it, but that it finds homing where its own server would be.
    async fn doveadm_as(
        &self,
        password: &str,
        command: &[&str],
        user: &str,
        rest: &[&str],
        input: &[u8],
    ) -> Result<Output> {
        let door = self.proxy.addresses[1].to_string();
        let mut doveadm = Command::new("doveadm");
        doveadm.arg("-c").arg(&self.client).arg("-o").arg(format!("doveadm_password={password}"));
        doveadm.args(command).args(["-S", &door, "-u", user]).args(rest);
        run(&mut doveadm, input).await
    }

    async fn doveadm(&self, command: &[&str], user: &str, rest: &[&str]) -> Result<String> {
        let output = self.doveadm_as(PASSWORD, command, user, rest, b"").await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The backends where a user has index files.
    fn seen_at(&self, user: &str) -> BTreeSet<String> {
        let has = |backend: &&Dovecot| self.dir.path().join(&backend.name).join("index").join(user).exists();
        self.backends.iter().filter(has).map(|backend| backend.name.clone()).collect()
    }

    /// Posts to the HTTP API by curl; the status and the body.
    async fn curl(&self, credential: &[&str], request: &Value) -> Result<(String, String)> {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-w", "\n%{http_code}", "-H", "Content-Type: application/json", "--data-binary", "@-"]);
        curl.args(credential).arg(format!("http://{}/doveadm/v1", self.proxy.addresses[1]));
        let output = run(&mut curl, request.to_string().as_bytes()).await?;
        let said = String::from_utf8(output.stdout)?;
        let (body, status) = said.rsplit_once('\n').context("no status")?;
        Ok((status.to_owned(), body.to_owned()))
    }

    async fn api(&self, command: &str, parameters: Value) -> Result<Value> {
        let credential = format!("doveadm:{PASSWORD}");
        let (status, body) = self.curl(&["-u", &credential], &json!([[command, parameters, "tag"]])).await?;
        ensure!(status == "200", "{status}: {body}");
        let answers: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        ensure!(answers[0][2] == "tag", "{answers}");
        Ok(answers[0].clone())
    }

    /// Commands in the words of the protocol's version 1.0, past doveadm's own notions. The client stays until the first
    /// is answered: one that closes interrupts a command for many.
    async fn raw(&self, command: &str) -> Result<String> {
        let mut door = TcpStream::connect(self.proxy.addresses[1]).await?;
        let login = STANDARD.encode(format!("\0doveadm\0{PASSWORD}"));
        door.write_all(format!("VERSION\tdoveadm-server\t1\t0\nPLAIN\t{login}\n{command}\n").as_bytes()).await?;
        let mut said = Vec::new();
        while !is_answered(&said) {
            ensure!(door.read_buf(&mut said).await? > 0, "closed after {}", said.escape_ascii());
        }
        door.shutdown().await?;
        door.read_to_end(&mut said).await?;
        let said = String::from_utf8(said)?;
        said.strip_prefix("-\n+\n").map(str::to_owned).with_context(|| said.clone())
    }

    /// The lines about commands.
    fn commands(&self) -> Result<Vec<BTreeMap<&'static str, String>>> {
        let lines = self.proxy.lines_since(0)?.into_iter().filter(|line| text(line, "message") == "command");
        let fields = ["session", "user", "command", "backend", "exit", "duration_ms"];
        Ok(lines.map(|line| fields.into_iter().map(|name| (name, text(&line, name))).collect()).collect())
    }
}

/// Behind the password's line, there is an end of an answer.
fn is_answered(said: &[u8]) -> bool {
    let said = String::from_utf8_lossy(said);
    said.strip_prefix("-\n+\n").is_some_and(|answer| {
        let ends = answer.rmatch_indices('\n').map(|(at, _)| &answer[at + 1..]);
        ends.into_iter().any(|end| end.starts_with('+') || end.starts_with('-')) && answer.ends_with('\n')
    })
}

#[tokio::test]
async fn a_command_reaches_the_one_backend_where_its_user_is_at_home_and_then_logs_in() -> Result {
    let site = Site::with_file().await?;
    let mut homes = BTreeSet::new();
    for user in &site.users {
        let status = site.doveadm(&["-f", "flow", "mailbox", "status"], &user.name, &["messages", "INBOX"]).await?;
        ensure!(status == "INBOX messages=0\n", "{status}");
        let seen = site.seen_at(&user.name);
        ensure!(seen.len() == 1, "{} was seen at {seen:?}", user.name);
        let home = seen.into_iter().next().unwrap_or_default();
        // The other way of asking, another spelling, and a login: all go the same way.
        let answer = site
            .api(
                "mailboxStatus",
                json!({ "user": user.name.to_uppercase(), "field": ["messages"], "mailboxMask": ["INBOX"] }),
            )
            .await?;
        ensure!(answer[1] == json!([{ "mailbox": "INBOX", "messages": "0" }]), "{answer}");
        let mut imap = site.proxy.log_in(user).await?;
        ensure!(imap.backend().await? == home);
        ensure!(site.seen_at(&user.name).len() == 1);
        homes.insert(home);
    }
    ensure!(homes.len() == 2, "all are at {homes:?}: this shows nothing");
    let told = site.commands()?;
    ensure!(told.len() == 12, "{told:#?}");
    for line in &told {
        ensure!(line["command"] == "mailbox status" && line["exit"] == "0", "{line:?}");
        ensure!(site.seen_at(&line["user"].to_lowercase()).contains(&line["backend"]), "{line:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_mail_that_is_saved_on_standard_input_comes_back_whole_by_fetch() -> Result {
    let site = Site::with_file().await?;
    let user = &site.users[0].name;
    let short = "Subject: short\r\n\r\n.\r\n..\r\nx\r\n";
    let output = site.doveadm_as(PASSWORD, &["save"], user, &["-m", "INBOX"], short.as_bytes()).await?;
    ensure!(output.status.success(), "{output:?}");
    // Debian's client cannot send a long one anywhere, so it is said by hand; and the connection carries on behind it.
    let body: String = (0..60_000).map(|n| format!("{n}\t\u{e4}\r\n.{n}\r\n")).collect();
    let dotted = body.replace("\n.", "\n..");
    let saved = site.raw(&format!("\t{user}\tsave\nSubject: long\r\n\r\n{dotted}.\r\n\t{user}\tsearch\tall")).await?;
    ensure!(saved.starts_with("\n+\n") && saved.matches('\t').count() == 4, "{saved:?}");
    let fetched = site.doveadm(&["-f", "pager", "fetch"], user, &["text", "mailbox", "INBOX"]).await?.replace('\r', "");
    for mail in [short, &format!("Subject: long\r\n\r\n{body}")] {
        // This way of printing leaves the last end of line out.
        ensure!(
            fetched.contains(mail.replace('\r', "").trim_end()),
            "{} bytes of {} came back",
            fetched.len(),
            mail.len()
        );
    }
    Ok(())
}

#[tokio::test]
async fn commands_for_many_are_carried_out_for_each_user_at_home_and_joined_in_order() -> Result {
    let site = Site::with_file().await?;
    let _ = site.api("mailboxCreate", json!({ "user": site.users[3].name, "mailbox": ["Extra"] })).await?;
    let answer = site.api("mailboxList", json!({ "user": "user00*", "mailboxMask": ["*"] })).await?;
    let mut expected: Vec<_> =
        site.users.iter().map(|user| json!({ "username": user.name, "mailbox": "INBOX" })).collect();
    expected.insert(3, json!({ "username": site.users[3].name, "mailbox": "Extra" }));
    ensure!(answer[1] == Value::Array(expected), "{answer}");
    for user in &site.users {
        ensure!(site.seen_at(&user.name).len() <= 1, "{} at {:?}", user.name, site.seen_at(&user.name));
    }
    let all = site.raw("\t\tmailbox list\t-A\t--\t*").await?;
    let rows = ["user000\tINBOX", "user001\tINBOX", "user002\tINBOX", "user003\tExtra", "user003\tINBOX"];
    ensure!(all == format!("{}\tuser004\tINBOX\tuser005\tINBOX\t\n+\n", rows.join("\t")), "{all:?}");
    let some = site.raw("\t\tmailbox list\t-u\tuser003").await?;
    ensure!(some == "Extra\tINBOX\t\n+\n", "{some:?}");
    ensure!(site.raw("\t\tmailbox list\t-u\tnobody*").await? == "\n+\n");
    let told = site.commands()?;
    ensure!(told.iter().filter(|line| line["command"] == "mailbox list").count() == 13, "{told:#?}");
    Ok(())
}

#[tokio::test]
async fn a_server_of_the_operators_lists_the_users_itself_and_shows_each_beside_what_is_said_of_them() -> Result {
    let site = Site::with_file().await?;
    // Where doveadm is given, Dovecot runs as well and knows the users: it asks for one after the other.
    let own = site.dir.join("mail1").join("dovecot.conf");
    let door = site.proxy.addresses[1].to_string();
    let users = site.dir.join("some-users");
    std::fs::write(&users, "user001\nuser004\n")?;
    let file = users.display().to_string();
    for (whom, expected) in [
        (&["-A"][..], &["user000", "user001", "user002", "user003", "user004", "user005"][..]),
        (&["-u", "*5"], &["user005"]),
        (&["-F", &file], &["user001", "user004"]),
    ] {
        let mut doveadm = Command::new("doveadm");
        doveadm.arg("-c").arg(&own).arg("-o").arg(format!("doveadm_password={PASSWORD}")).args(["-f", "tab"]);
        doveadm.args(["mailbox", "status", "-S", &door]).args(whom).args(["messages", "INBOX"]);
        let output = run(&mut doveadm, b"").await?;
        ensure!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout)?;
        let rows: BTreeSet<&str> = said.lines().skip(1).collect();
        let expected: Vec<String> = expected.iter().map(|user| format!("{user}\tINBOX\t0")).collect();
        ensure!(rows == expected.iter().map(String::as_str).collect(), "{whom:?}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn where_no_passdb_lists_users_a_backend_is_asked_for_their_names() -> Result {
    let site = Site::start(3, "kind = \"backend\"").await?;
    let all = site.raw("\t\tmailbox list\t-u\t*").await?;
    ensure!(all == "user000\tINBOX\tuser001\tINBOX\tuser002\tINBOX\t\n+\n", "{all:?}");
    let listed = site.raw("\t\tuser\t*1").await?;
    ensure!(listed == "{\"userList\":[\"user001\"]}\n+\n", "{listed:?}");
    Ok(())
}

#[tokio::test]
async fn who_is_joined_over_all_backends_and_kick_ends_sessions_wherever_they_are() -> Result {
    let site = Site::with_file().await?;
    let mut sessions = Vec::new();
    for user in &site.users {
        sessions.push(site.proxy.log_in(user).await?);
    }
    let answer = site.api("who", json!({})).await?;
    let names = |answer: &Value| -> BTreeSet<String> {
        let rows = answer[1].as_array().cloned().unwrap_or_default();
        rows.iter()
            .filter(|row| row["connections"] == "1")
            .filter_map(|row| Some(row["username"].as_str()?.to_owned()))
            .collect()
    };
    ensure!(names(&answer).len() == 6, "{answer}");
    let one = site.raw("\t\twho\t-1\tuser002").await?;
    ensure!(one.starts_with("user002\timap\t") && one.ends_with("\t\n+\n"), "{one:?}");
    ensure!(site.raw("\t\tkick\tuser002").await? == "user002\t\n+\n");
    ensure!(site.raw("\t\tkick\tnobody").await? == "\n-NOTFOUND\n");
    eventually("the kicked user is gone", Duration::from_secs(15), async || {
        let answer = site.api("who", json!({})).await?;
        ensure!(names(&answer).len() == 5 && !names(&answer).contains("user002"), "{answer}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whoever_does_not_know_the_password_is_turned_away_and_a_user_nobody_knows_is_named_so() -> Result {
    let site = Site::with_file().await?;
    let user = &site.users[0].name;
    let denied = site.doveadm_as("wrong", &["quota", "get"], user, &[], b"").await?;
    ensure!(denied.status.code() == Some(75) && denied.stdout.is_empty(), "{denied:?}");
    let request = json!([["mailboxList", { "user": user }, "t"]]);
    for credential in [
        &["-u", "doveadm:wrong"][..],
        &["-u", "other:Tor+Wort"],
        &["-H", "Authorization: X-Dovecot-API VG9yK1dvcnQ="],
        &[],
    ] {
        let (status, body) = site.curl(credential, &request).await?;
        ensure!(status == "401" && !body.contains("INBOX"), "{credential:?}: {status} {body}");
    }
    let key = format!("Authorization: X-Dovecot-API {}", STANDARD.encode(KEY));
    let (status, body) = site.curl(&["-H", &key], &request).await?;
    ensure!(status == "200" && body.contains("INBOX"), "{status} {body}");
    let log = site.proxy.log()?;
    ensure!(!log.contains(PASSWORD) && !log.contains(KEY) && log.contains("bad_credentials"));
    let nobody = site.doveadm_as(PASSWORD, &["mailbox", "list"], "nobody", &[], b"").await?;
    ensure!(nobody.status.code() == Some(67), "{nobody:?}");
    ensure!(String::from_utf8_lossy(&nobody.stderr).contains("User doesn't exist"), "{nobody:?}");
    let answer = site.api("mailboxList", json!({ "user": "nobody" })).await?;
    ensure!(answer[0] == "error" && answer[1]["exitCode"] == 67, "{answer}");
    let machine = site.raw("\t\treload").await?;
    ensure!(machine == "\n-NOPERM\n", "{machine:?}");
    let answer = site.api("stop", json!({})).await?;
    ensure!(answer[1]["exitCode"] == 77, "{answer}");
    Ok(())
}

#[tokio::test]
async fn over_tls_the_same_is_said() -> Result {
    let site = Site::with_file().await?;
    let address = site.proxy.addresses[2];
    let request = json!([["mailboxList", { "user": site.users[0].name }, "t"]]).to_string();
    let mut curl = Command::new("curl");
    let resolve = format!("door.test:{}:{}", address.port(), address.ip());
    let credential = format!("doveadm:{PASSWORD}");
    curl.args(["-s", "--fail", "--cacert"]).arg(site.dir.join("ca.pem")).args([
        "--resolve",
        &resolve,
        "-u",
        &credential,
    ]);
    curl.args(["--data-binary", "@-"]).arg(format!("https://door.test:{}/doveadm/v1", address.port()));
    let output = run(&mut curl, request.as_bytes()).await?;
    ensure!(String::from_utf8_lossy(&output.stdout).contains("INBOX"), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn a_backend_that_is_away_is_a_temporary_failure_and_a_moved_user_is_asked_for_at_the_new_home() -> Result {
    let mut site = Site::with_file().await?;
    let user = site.users[0].name.clone();
    site.doveadm(&["mailbox", "list"], &user, &[]).await?;
    let before = site.seen_at(&user);
    let moved = site.proxy.admin(&["user", "move", &user]).await?;
    ensure!(moved.status.success(), "{moved:?}");
    site.doveadm(&["mailbox", "status"], &user, &["messages", "INBOX"]).await?;
    let told = site.commands()?;
    let [first, second] = [&told[0]["backend"], &told[1]["backend"]];
    ensure!(before.contains(first) && first != second, "{told:#?}");
    let held = site.proxy.admin(&["user", "hold", &user]).await?;
    ensure!(held.status.success(), "{held:?}");
    let refused = site.doveadm_as(PASSWORD, &["mailbox", "list"], &user, &[], b"").await?;
    ensure!(
        refused.status.code() == Some(75) && String::from_utf8_lossy(&refused.stderr).contains("held"),
        "{refused:?}"
    );
    site.proxy.admin(&["user", "release", &user]).await?;
    for backend in &mut site.backends {
        backend.kill();
    }
    let away = site.doveadm_as(PASSWORD, &["mailbox", "list"], &user, &[], b"").await?;
    ensure!(away.status.code() == Some(75), "{away:?}");
    let answer = site.api("mailboxList", json!({ "user": user })).await?;
    ensure!(answer[0] == "error" && answer[1]["exitCode"] == 75, "{answer}");
    Ok(())
}
