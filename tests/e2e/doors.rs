//! Every protocol of a mail server, its clients and its witnesses, without a proxy between: what the tests through
//! proxies are made of is itself in order.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::harness::address::{fresh_address, fresh_ip};
use crate::harness::certs::Authority;
use crate::harness::dovecot::{DovecotOptions, MASTER};
use crate::harness::letter::letter;
use crate::harness::talk::Talk;
use crate::harness::witness::Visit;
use crate::harness::{
    Dialect, Dovecot, Fleet, MailStore, Pop3, Postfix, Protocol, Result, Sieve, Sink, Smtp, User, Witness, Workdir,
    eventually, programs, python,
};

/// A client that is announced in its own stead.
const CLIENT: &str = "192.0.2.7";
/// How XCLIENT tells of it, in POP3 and ManageSieve.
const XCLIENT: &str = "XCLIENT ADDR=192.0.2.7 PORT=4711 SESSION=announced0123456789 TTL=4";
/// How a PROXY header does.
const PROXY: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 143\r\n";

/// A mail server that serves everything, and who knows it.
struct Site {
    backend: Dovecot,
    sink: Sink,
    store: MailStore,
    users: Vec<User>,
    authority: Authority,
    dir: Workdir,
}

impl Site {
    async fn start() -> Result<Self> {
        let dir = Workdir::new()?;
        let users = User::first(10);
        let store = MailStore::new(dir.path(), &users)?;
        let authority = Authority::new(dir.path(), "ca")?;
        let (issued, sink) = (authority.issue(&["mail.test"])?, Sink::start().await?);
        let options = DovecotOptions {
            tls: Some(&issued),
            protocols: &Protocol::BESIDE_IMAP,
            relay: Some(sink.address),
            ..DovecotOptions::default()
        };
        let backend = Dovecot::start(dir.path(), "mail1", &store, options).await?;
        Ok(Self { backend, sink, store, users, authority, dir })
    }

    /// Puts letters into somebody's INBOX.
    async fn deliver(&self, to: &User, subjects: &[&str]) -> Result {
        let mut lmtp = Smtp::connect(Dialect::Lmtp, self.backend.serves.lmtp.plain).await?;
        for subject in subjects {
            lmtp.send_mail("sender@far.test", &[&to.name], &letter(subject)).await?.ok()?;
        }
        lmtp.quit().await
    }

    /// Waits until that user has come by `protocol` from `client`.
    async fn saw(&self, user: &User, protocol: Protocol, client: &str) -> Result<Visit> {
        let what = format!("{} comes by {} from {client}", user.name, protocol.word());
        eventually(&what, Duration::from_secs(10), async || {
            let witness = Witness::hear([&self.backend])?;
            witness.swears_one_home()?;
            let mut visits = witness.visits.iter();
            let found = visits.find(|visit| {
                (visit.protocol, visit.user.as_str()) == (protocol, &user.name) && visit.field("rip") == Some(client)
            });
            found.cloned().with_context(|| format!("{:#?}", witness.visits))
        })
        .await
    }

    /// Waits until everybody has gone again, as the server tells.
    async fn is_left(&self) -> Result {
        eventually("nobody is left", Duration::from_secs(10), async || {
            let open = Witness::hear([&self.backend])?.open();
            ensure!(open.is_empty(), "{open:?}");
            Ok(())
        })
        .await
    }
}

/// A connection that begins with a PROXY header.
async fn announced(address: SocketAddr) -> Result<Talk> {
    let mut talk = Talk::dial(address).await?;
    talk.send(PROXY).await?;
    Ok(talk)
}

/// `user` as the master user may log in.
fn by_master(user: &User) -> User {
    User { name: format!("{}*{}", user.name, MASTER.0), password: MASTER.1.to_owned() }
}

#[tokio::test]
async fn pop3_gives_mail_out_and_every_login_is_witnessed() -> Result {
    let site = Site::start().await?;
    let (ports, tls, users) = (site.backend.serves.pop3, site.authority.client()?, &site.users);
    site.deliver(&users[0], &["one", "two"]).await?;
    let ip = fresh_ip();
    let mut pop3 = Pop3::connect_from(ip, ports.plain).await?;
    ensure!(pop3.greeting == "+OK [XCLIENT] mail1 ready.", "{}", pop3.greeting);
    ensure!(pop3.list("CAPA").await?.contains(&"STLS".to_owned()));
    let wrong = User { password: "wrong".into(), ..users[0].clone() };
    ensure!(!pop3.try_log_in(&wrong).await?.positive);
    pop3.log_in(&users[0]).await?;
    ensure!(pop3.count().await? == 2);
    let (text, sent) = (pop3.retrieve(1).await?, letter("one"));
    ensure!(text.ends_with(&sent), "{text:?} is not {sent:?}");
    let visit = site.saw(&users[0], Protocol::Pop3, &ip.to_string()).await?;
    ensure!(visit.to.is_none(), "{visit}");
    pop3.quit().await?;

    let mut pop3 = Pop3::connect_tls(ports.tls, "mail.test", &tls).await?;
    pop3.command(XCLIENT).await?.ok()?;
    pop3.log_in(&users[1]).await?;
    let visit = site.saw(&users[1], Protocol::Pop3, CLIENT).await?;
    ensure!((visit.session.as_str(), visit.field("rport")) == ("announced0123456789", Some("4711")), "{visit:?}");
    pop3.quit().await?;
    let mut pop3 = Pop3::connect(ports.plain).await?.starttls("mail.test", &tls).await?;
    pop3.log_in(&by_master(&users[2])).await?;
    site.saw(&users[2], Protocol::Pop3, "127.0.0.1").await?;
    pop3.quit().await?;
    let mut pop3 = Pop3::over(announced(ports.proxied).await?).await?;
    pop3.log_in(&users[3]).await?;
    site.saw(&users[3], Protocol::Pop3, CLIENT).await?;
    drop(pop3);
    site.is_left().await
}

#[tokio::test]
async fn managesieve_keeps_scripts_and_every_login_is_witnessed() -> Result {
    let site = Site::start().await?;
    let (ports, tls, users) = (site.backend.serves.sieve, site.authority.client()?, &site.users);
    let script = "require \"fileinto\";\r\nfileinto \"Sorted\";\r\n";
    let ip = fresh_ip();
    let mut sieve = Sieve::connect_from(ip, ports.plain).await?;
    ensure!(sieve.capabilities.iter().any(|line| line == "\"XCLIENT\""), "{:?}", sieve.capabilities);
    let wrong = User { password: "wrong".into(), ..users[0].clone() };
    ensure!(sieve.try_log_in(&wrong).await?.ok().is_err());
    sieve.log_in(&users[0]).await?;
    sieve.put_script("mine", script).await?;
    sieve.activate("mine").await?;
    ensure!(sieve.get_script("mine").await? == script);
    let visit = site.saw(&users[0], Protocol::Sieve, &ip.to_string()).await?;
    ensure!(visit.to.is_none(), "{visit}");
    sieve.logout().await?;
    site.deliver(&users[0], &["to-be-sorted"]).await?;
    let mail = site.store.mail_of(&users[0].name)?;
    ensure!(mail.len() == 1 && mail[0].0 == "Sorted", "{mail:?}");

    let mut sieve = Sieve::connect(ports.plain).await?;
    sieve.command(XCLIENT).await?.ok()?;
    sieve.log_in(&users[1]).await?;
    ensure!(site.saw(&users[1], Protocol::Sieve, CLIENT).await?.session == "announced0123456789");
    sieve.logout().await?;
    // Greeted only: see `Services::sieve`.
    let sieve = Sieve::over(Talk::dial(ports.tls).await?.secure("mail.test", &tls).await?).await?;
    ensure!(!sieve.capabilities.contains(&"\"STARTTLS\"".to_owned()), "{:?}", sieve.capabilities);
    let mut sieve = Sieve::connect(ports.plain).await?.starttls("mail.test", &tls).await?;
    ensure!(!sieve.capabilities.contains(&"\"STARTTLS\"".to_owned()), "{:?}", sieve.capabilities);
    sieve.log_in(&by_master(&users[2])).await?;
    site.saw(&users[2], Protocol::Sieve, "127.0.0.1").await?;
    sieve.logout().await?;
    let mut sieve = Sieve::over(announced(ports.proxied).await?).await?;
    sieve.log_in(&users[3]).await?;
    site.saw(&users[3], Protocol::Sieve, CLIENT).await?;
    drop(sieve);
    site.is_left().await
}

#[tokio::test]
async fn submission_relays_to_the_sink_and_every_login_is_witnessed() -> Result {
    let site = Site::start().await?;
    let (ports, tls, users) = (site.backend.serves.submission, site.authority.client()?, &site.users);
    let ip = fresh_ip();
    let mut smtp = Smtp::connect_from(ip, Dialect::Smtp, ports.plain).await?;
    ensure!(smtp.greeting == "mail1 mail1 ready.", "{}", smtp.greeting);
    ensure!(smtp.extension("SIZE") == Some("41943040"), "{:?}", smtp.extensions);
    let wrong = User { password: "wrong".into(), ..users[0].clone() };
    ensure!(smtp.try_log_in(&wrong).await?.code == 535);
    smtp.log_in(&users[0]).await?;
    smtp.send_mail("user000@test", &["far@far.test"], &letter("by-data")).await?.ok()?;
    smtp.send_chunks("user000@test", &["far@far.test"], &letter("by-chunks"), 50).await?.ok()?;
    for subject in ["by-data", "by-chunks"] {
        let sunk = site.sink.mail(subject).await?;
        ensure!(sunk.text.ends_with(&letter(subject)), "{sunk:?}");
        ensure!((sunk.sender.starts_with("FROM:<user000@test>"), sunk.recipients.len()) == (true, 1), "{sunk:?}");
        let client = format!("ADDR={ip}");
        ensure!(sunk.client.contains("LOGIN=user000") && sunk.client.contains(&client), "{sunk:?}");
    }
    site.saw(&users[0], Protocol::Submission, &ip.to_string()).await?;
    smtp.quit().await?;

    let mut smtp = Smtp::connect_tls(Dialect::Smtp, ports.tls, "mail.test", &tls).await?;
    smtp.command(&format!("{XCLIENT} PROTO=ESMTP HELO=client.test")).await?.ok()?;
    smtp.hello("proxy.test").await?;
    smtp.log_in(&users[1]).await?;
    ensure!(site.saw(&users[1], Protocol::Submission, CLIENT).await?.session == "announced0123456789");
    smtp.quit().await?;
    let mut smtp = Smtp::connect(Dialect::Smtp, ports.plain).await?.starttls("mail.test", &tls).await?;
    smtp.log_in(&by_master(&users[2])).await?;
    site.saw(&users[2], Protocol::Submission, "127.0.0.1").await?;
    smtp.quit().await?;
    let mut smtp = Smtp::over(Dialect::Smtp, announced(ports.proxied).await?).await?;
    smtp.log_in(&users[3]).await?;
    site.saw(&users[3], Protocol::Submission, CLIENT).await?;
    drop(smtp);
    site.is_left().await
}

#[tokio::test]
async fn lmtp_delivers_to_the_folder_that_the_address_names_and_every_delivery_is_witnessed() -> Result {
    let site = Site::start().await?;
    let (ports, tls, users) = (site.backend.serves.lmtp, site.authority.client()?, &site.users);
    let ip = fresh_ip();
    let mut lmtp = Smtp::connect_from(ip, Dialect::Lmtp, ports.plain).await?;
    ensure!(lmtp.extension("XCLIENT").is_some_and(|words| words.contains("SESSION")), "{:?}", lmtp.extensions);
    let to = ["user000+work@test", "nobody@test", "USER001@test", "user001+home"];
    let delivery = lmtp.send_pipelined("", &to, &letter("to-many")).await?;
    let codes: Vec<u16> = delivery.recipients.iter().map(|reply| reply.code).collect();
    ensure!(codes == [250, 550, 250, 250] && delivery.outcome.len() == 3, "{delivery:?}");
    lmtp.send_chunks("sender@far.test", &["user000"], &letter("in-chunks"), 40).await?.ok()?;
    lmtp.quit().await?;
    let folders = |user: &User| -> Result<Vec<String>> {
        Ok(site.store.mail_of(&user.name)?.into_iter().map(|(mailbox, _)| mailbox).collect())
    };
    ensure!(folders(&users[0])? == ["INBOX", "work"], "{:?}", folders(&users[0])?);
    ensure!(folders(&users[1])? == ["INBOX", "home"], "{:?}", folders(&users[1])?);
    let visit = site.saw(&users[0], Protocol::Lmtp, &ip.to_string()).await?;
    ensure!(visit.field("to") == Some("user000+work@test") && visit.to.is_some_and(|to| to >= visit.from), "{visit:?}");

    let mut lmtp = Smtp::connect_tls(Dialect::Lmtp, ports.tls, "mail.test", &tls).await?;
    lmtp.command(&format!("{XCLIENT} PROTO=LMTP HELO=client.test")).await?.ok()?;
    lmtp.hello("proxy.test").await?;
    lmtp.send_mail("", &["user002"], &letter("announced")).await?.ok()?;
    lmtp.quit().await?;
    ensure!(site.saw(&users[2], Protocol::Lmtp, CLIENT).await?.session == "announced0123456789");
    let mut lmtp = Smtp::connect(Dialect::Lmtp, ports.plain).await?.starttls("mail.test", &tls).await?;
    lmtp.send_mail("", &["user003"], &letter("starttls")).await?.ok()?;
    lmtp.quit().await?;
    let mut lmtp = Smtp::over(Dialect::Lmtp, announced(ports.proxied).await?).await?;
    lmtp.send_mail("", &["user004"], &letter("proxied")).await?.ok()?;
    lmtp.quit().await?;
    let mut lmtp = Smtp::connect_unix(Dialect::Lmtp, &site.backend.serves.lmtp_socket).await?;
    lmtp.send_mail("", &["user005"], &letter("unix")).await?.ok()?;
    lmtp.quit().await?;
    site.saw(&users[3], Protocol::Lmtp, "127.0.0.1").await?;
    site.saw(&users[4], Protocol::Lmtp, CLIENT).await?;
    site.is_left().await
}

#[tokio::test]
async fn postfix_delivers_its_whole_queue_past_a_server_that_is_down() -> Result {
    if !Postfix::permitted() {
        println!("Postfix needs root: nothing is tried");
        return Ok(());
    }
    let site = Site::start().await?;
    let postfix = Postfix::start(site.dir.path(), &[fresh_address()?, site.backend.serves.lmtp.plain]).await?;
    for (number, user) in (0..20).zip(site.users.iter().cycle()) {
        let both = [format!("{}@test", user.name), format!("{}+folder@test", user.name)];
        postfix
            .take("sender@far.test", &both.each_ref().map(String::as_str), &letter(&format!("mail-{number}")))
            .await?;
    }
    postfix.drained(Duration::from_secs(30)).await?;
    ensure!(postfix.outcomes("sent")?.len() == 40, "{}", postfix.log()?);
    for (number, user) in (0..20).zip(site.users.iter().cycle()) {
        let subject = format!("\nSubject: mail-{number}\n");
        let mail = site.store.mail_of(&user.name)?;
        let found: Vec<&str> =
            mail.iter().filter(|(_, text)| text.contains(&subject)).map(|(mailbox, _)| mailbox.as_str()).collect();
        ensure!(found == ["INBOX", "folder"], "{subject}: {found:?}");
        site.saw(user, Protocol::Lmtp, "127.0.0.1").await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_worlds_mail_programs_find_their_way() -> Result {
    let site = Site::start().await?;
    let (serves, user, dir) = (&site.backend.serves, &site.users[0], site.dir.path());
    site.deliver(user, &["fetched"]).await?;
    let pop3 = serves.pop3.plain;
    let fetched = [
        programs::getmail(dir, pop3, user).await?,
        programs::fetchmail(dir, pop3, user).await?,
        programs::curl("pop3", pop3, user, "1", &[]).await?,
        programs::python(python::POPLIB, pop3, user, &[]).await?,
        programs::curl("imap", site.backend.address, user, "INBOX;MAILINDEX=1", &[]).await?,
    ];
    ensure!(fetched.iter().all(|text| text.contains("Subject: fetched")), "{fetched:#?}");
    let mirrored = programs::mbsync(&dir.join("mbsync"), site.backend.address, user).await?;
    ensure!(mirrored.len() == 1, "{mirrored:?}");

    let (submission, to) = (serves.submission.plain, "far@far.test");
    programs::swaks(submission, user, to, "by-swaks", &["--tls"]).await?;
    programs::curl_send(submission, user, to, &letter("by-curl")).await?;
    programs::python(python::SMTPLIB, submission, user, &["by-smtplib", to]).await?;
    for subject in ["by-swaks", "by-curl", "by-smtplib"] {
        site.sink.mail(subject).await?;
    }
    programs::swaks_lmtp(serves.lmtp.plain, "user000+swaks@test", "by-swaks-too", &[]).await?;
    ensure!(site.store.mail_of(&user.name)?.iter().any(|(mailbox, _)| mailbox == "swaks"));

    let sieve = serves.sieve.plain;
    let script = dir.join("script.sieve");
    std::fs::write(&script, "keep;\r\n")?;
    let script = script.display().to_string();
    programs::sieve_connect(sieve, user, &["--localsieve", &script, "--remotesieve", "kept", "--upload"]).await?;
    let listed = programs::sieve_connect(sieve, user, &["--list"]).await?;
    ensure!(listed.contains("\"kept\""), "{listed}");
    let told = programs::python(python::MANAGESIEVE, sieve, user, &[]).await?;
    ensure!(told.contains("fileinto \"Python\"") && told.contains("logout [b'OK"), "{told}");
    site.is_left().await
}

#[tokio::test]
async fn a_plan_for_protocols_gives_every_proxy_their_doors_and_every_backend_its_ports() -> Result {
    let asked = [&Protocol::BESIDE_IMAP[..], &[Protocol::Doveadm]].concat();
    let fleet = Fleet::plan().backends(1).protocols(&asked).start_without_proxies().await?;
    let config: toml::Table = fleet.proxy().read_config()?.parse()?;
    let listeners = config["listener"].as_array().context("no listeners")?;
    ensure!(listeners.len() == 6 && listeners[0].get("protocol").is_none(), "{listeners:?}");
    let (proxy, backend) = (fleet.proxy(), &fleet.backends[0]);
    for protocol in asked {
        let door = proxy.door(protocol)?.to_string();
        let mut entries = listeners.iter();
        let listener =
            entries.find(|entry| entry.get("protocol").and_then(toml::Value::as_str) == Some(protocol.word()));
        ensure!(listener.is_some_and(|entry| entry["address"].as_str() == Some(&door)), "{listeners:?}");
        let Some(ports) = backend.serves.ports(protocol) else { continue };
        let port = config["backend"]["mail1"][&format!("{}_port", protocol.word())].as_integer();
        ensure!(port == Some(ports.plain.port().into()), "{config:?}");
    }
    ensure!(proxy.door(Protocol::Imap)? == proxy.address());
    let relay: IpAddr = fleet.sink.as_ref().context("no sink")?.address.ip();
    ensure!(relay.is_loopback());
    Ok(())
}
