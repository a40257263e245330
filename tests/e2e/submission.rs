//! Submission through the proxy: real clients, real mail servers, and a sink behind them.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::harness::address::{fresh_address, fresh_ip};
use crate::harness::fleet::merge;
use crate::harness::letter::letter;
use crate::harness::proxy::text;
use crate::harness::witness::Visit;
use crate::harness::{
    Dialect, Fleet, Imap, Postfix, Protocol, Result, Secured, Smtp, User, Witness, eventually, programs, python,
};

const FAR: &str = "far@far.test";

fn wrong(user: &User) -> User {
    User { password: "wrong".into(), ..user.clone() }
}

/// The user's visit, once the backend has written of it: its log may be a little late.
async fn seen(user: &User, hear: impl Fn() -> Result<Witness>) -> Result<Visit> {
    let what = format!("{} is in the log", user.name);
    eventually(&what, Duration::from_secs(10), async || hear()?.last(&user.name).cloned()).await
}

async fn connect(fleet: &Fleet) -> Result<Smtp> {
    Smtp::connect_from(fresh_ip(), Dialect::Smtp, fleet.proxy().door(Protocol::Submission)?).await
}

#[tokio::test]
async fn mail_programs_submit_through_the_proxy_as_they_do_at_the_backend() -> Result {
    let fleet = Fleet::plan().backends(1).protocols(&[Protocol::Submission]).start().await?;
    let (user, sink) = (&fleet.users[0], fleet.sink.as_ref().context("no sink")?);
    let (direct, ours) = (fleet.backends[0].serves.submission.plain, fleet.proxy().door(Protocol::Submission)?);
    let mut told = Vec::new();
    for (name, address) in [("theirs", direct), ("ours", ours)] {
        let subject = |program: &str| format!("{name}-{program}");
        told.push(programs::python(python::SMTPLIB, address, user, &[&subject("smtplib"), FAR]).await?);
        programs::swaks(address, user, FAR, &subject("swaks"), &[]).await?;
        programs::swaks(address, user, FAR, &subject("swaks-login"), &["--auth", "LOGIN"]).await?;
        programs::swaks(address, user, FAR, &subject("swaks-pipelined"), &["--pipeline"]).await?;
        programs::curl_send(address, user, FAR, &letter(&subject("curl"))).await?;
        for program in ["smtplib", "swaks", "swaks-login", "swaks-pipelined", "curl"] {
            let mail = sink.mail(&subject(program)).await?;
            ensure!(mail.recipients[0].starts_with("TO:<far@far.test>"), "{mail:?}");
            ensure!(mail.client.contains(&format!("LOGIN={}", user.name)), "{mail:?}");
        }
    }
    ensure!(told[0].contains("refused {}") && told[0] == told[1], "{told:#?}");
    let refused = programs::swaks(ours, &wrong(user), FAR, "never", &[]).await.err().map(|error| error.to_string());
    ensure!(refused.as_ref().is_some_and(|error| error.contains("28")), "swaks' code for a denied login: {refused:?}");
    Ok(())
}

#[tokio::test]
async fn mails_go_by_data_and_in_chunks_and_dots_and_bytes_are_as_they_were() -> Result {
    let fleet = Fleet::plan().backends(1).protocols(&[Protocol::Submission]).start().await?;
    let (user, sink) = (&fleet.users[0], fleet.sink.as_ref().context("no sink")?);
    let mut smtp = connect(&fleet).await?;
    ensure!(smtp.greeting == "proxy1 ESMTP homing ready", "{}", smtp.greeting);
    smtp.log_in(user).await?;
    let again = smtp.try_log_in(user).await?;
    ensure!(again.code == 503, "a second AUTH: {again:?}");
    smtp.send_mail("user000@test", &[FAR], &letter("by-data")).await?.ok()?;
    smtp.send_chunks("user000@test", &[FAR], &letter("by-chunks"), 7).await?.ok()?;
    smtp.send_pipelined("user000@test", &[FAR, "second@far.test"], &letter("pipelined")).await?.ok()?;
    let large = format!("{}{}", letter("large"), format!("{}\r\n", "x".repeat(900)).repeat(3000));
    smtp.send_chunks("user000@test", &[FAR], &large, 300_000).await?.ok()?;
    for (subject, sent) in [
        ("by-data", letter("by-data")),
        ("by-chunks", letter("by-chunks")),
        ("pipelined", letter("pipelined")),
        ("large", large),
    ] {
        let mail = sink.mail(subject).await?;
        ensure!(mail.text.ends_with(&sent), "{subject}: {} bytes for {}", mail.text.len(), sent.len());
    }
    smtp.quit().await?;
    fleet.empty().await
}

/// RFC 4467, 4468: a draft that lies in the mailbox goes out without passing the client again.
#[tokio::test]
async fn a_draft_in_the_mailbox_is_sent_by_its_url() -> Result {
    let dovecot = "imap_urlauth_host = mail.test\nimap_metadata = yes\nmail_attribute_dict = file:%h/attributes\n";
    let fleet = Fleet::plan().protocols(&[Protocol::Submission]).dovecot(dovecot).start().await?;
    let (user, sink) = (&fleet.users[0], fleet.sink.as_ref().context("no sink")?);
    let mut imap = fleet.proxy().log_in(user).await?;
    imap.append("INBOX", &letter("by-url")).await?;
    let draft = format!("imap://{0}@mail.test/INBOX/;UID=1;urlauth=submit+{0}", user.name);
    let answer = imap.command(&format!("GENURLAUTH \"{draft}\" INTERNAL")).await?.ok()?;
    let url =
        answer.line("GENURLAUTH ").and_then(|line| line.split(' ').next_back()).context("no URL")?.trim_matches('"');
    let mut smtp = connect(&fleet).await?;
    smtp.log_in(user).await?;
    smtp.envelope("user000@test", &[FAR]).await?;
    smtp.command(&format!("BURL {url} LAST")).await?.ok()?;
    ensure!(sink.mail("by-url").await?.text.contains("Dear reader,"));
    smtp.quit().await?;
    imap.logout().await
}

#[tokio::test]
async fn clients_are_shown_what_the_backends_offer_once_one_was_seen() -> Result {
    let fleet = Fleet::plan().backends(2).protocols(&[Protocol::Submission]).start().await?;
    eventually("the probes have seen the backends", Duration::from_secs(10), async || {
        let smtp = connect(&fleet).await?;
        ensure!(smtp.extension("SIZE") == Some("41943040"), "{:?}", smtp.extensions);
        Ok(())
    })
    .await?;
    let (smtp, address) = (connect(&fleet).await?, fleet.backends[0].serves.submission.plain);
    let direct = Smtp::connect(Dialect::Smtp, address).await?;
    let kept = |extensions: &[String]| {
        let ours = |line: &&String| !["AUTH", "STARTTLS", "XCLIENT"].iter().any(|word| line.starts_with(word));
        extensions.iter().filter(ours).cloned().collect::<Vec<_>>()
    };
    ensure!(kept(&smtp.extensions) == kept(&direct.extensions), "{:?} {:?}", smtp.extensions, direct.extensions);
    ensure!(direct.extension("XCLIENT").is_some_and(|words| words.contains("ADDR")), "{:?}", direct.extensions);
    ensure!(smtp.extension("XCLIENT") == Some("TTL"), "{:?}", smtp.extensions);
    for word in ["PIPELINING", "8BITMIME", "CHUNKING", "BURL", "ENHANCEDSTATUSCODES"] {
        ensure!(smtp.extension(word).is_some(), "{word}: {:?}", smtp.extensions);
    }
    ensure!(smtp.extension("AUTH") == Some("PLAIN LOGIN"), "{:?}", smtp.extensions);
    Ok(())
}

#[tokio::test]
async fn the_true_client_and_its_name_arrive_by_xclient_under_our_session_name() -> Result {
    let fleet = Fleet::plan().protocols(&[Protocol::Submission]).start().await?;
    let (user, sink) = (&fleet.users[0], fleet.sink.as_ref().context("no sink")?);
    let mut smtp = connect(&fleet).await?;
    let address = smtp.local_address()?;
    smtp.log_in(user).await?;
    smtp.send_mail("user000@test", &[FAR], &letter("announced")).await?.ok()?;
    smtp.quit().await?;
    let ending = fleet.proxy().ending_of(&user.name).await?;
    let visit = seen(user, || fleet.witness()).await?;
    ensure!(visit.protocol == Protocol::Submission && visit.session == text(&ending, "session"), "{visit:?} {ending}");
    ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
    ensure!(visit.field("rport") == Some(&address.port().to_string()), "{visit:?}");
    ensure!(text(&ending, "client") == address.to_string() && text(&ending, "protocol") == "submission", "{ending}");
    // What the backend was told it tells its own relay, and writes into the mail.
    let mail = sink.mail("announced").await?;
    ensure!(mail.client.contains(&format!("ADDR={}", address.ip())), "{mail:?}");
    ensure!(mail.client.contains("HELO=client.test"), "{mail:?}");
    Ok(())
}

#[tokio::test]
async fn the_true_client_arrives_by_proxy_header() -> Result {
    let mut fleet = Fleet::plan().backends(1).protocols(&[Protocol::Submission]).start_without_proxies().await?;
    let proxied = fleet.backends[0].serves.submission.proxied.port();
    fleet.reconfigure(|config| {
        let more =
            format!("[backend.mail1]\nsubmission_port = {proxied}\nannounce_proxy = true\nannounce_xclient = false");
        merge(config, more.parse().unwrap());
    })?;
    fleet.proxies[0].start().await?;
    let user = &fleet.users[0];
    let mut smtp = connect(&fleet).await?;
    let address = smtp.local_address()?;
    smtp.log_in(user).await?;
    smtp.quit().await?;
    let visit = seen(user, || fleet.witness()).await?;
    ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
    ensure!(visit.field("rport") == Some(&address.port().to_string()), "{visit:?}");
    Ok(())
}

#[tokio::test]
async fn clients_come_under_tls_and_so_do_we_to_the_backend() -> Result {
    for road in ["starttls", "implicit"] {
        let site = Secured::start(Protocol::Submission, road).await?;
        let (user, tls) = (&site.fleet.users[0], site.authority.client()?);
        let [by_command, at_once] = site.fleet.proxy().addresses[..] else { panic!("two listeners") };
        let mut smtp = Smtp::connect(Dialect::Smtp, by_command).await?;
        let refused = smtp.try_log_in(user).await?;
        ensure!(refused.code == 523 && smtp.extension("AUTH").is_none(), "{refused:?} {:?}", smtp.extensions);
        ensure!(smtp.command("MAIL FROM:<user000@test>").await?.code == 530);
        let mut smtp = smtp.starttls("mail.test", &tls).await?;
        let address = smtp.local_address()?;
        ensure!(smtp.extension("STARTTLS").is_none() && smtp.extension("AUTH").is_some(), "{:?}", smtp.extensions);
        smtp.log_in(user).await?;
        smtp.send_mail("user000@test", &[FAR], &letter("starttls")).await?.ok()?;
        smtp.quit().await?;
        let visit = seen(user, || site.witness()).await?;
        ensure!(visit.field("rport") == Some(&address.port().to_string()), "{visit:?}");
        let mut smtp = Smtp::connect_tls(Dialect::Smtp, at_once, "mail.test", &tls).await?;
        smtp.log_in(user).await?;
        smtp.send_chunks("user000@test", &[FAR], &letter("implicit"), 40).await?.ok()?;
        smtp.quit().await?;
        programs::swaks(by_command, user, FAR, "swaks-starttls", &["--tls"]).await?;
        programs::swaks(at_once, user, FAR, "swaks-implicit", &["--tls-on-connect"]).await?;
        let file = site.fleet.dir.join("by-curl");
        for (address, scheme, tls) in [(by_command, "smtp", "starttls"), (at_once, "smtps", "implicit")] {
            std::fs::write(&file, letter(&format!("curl-{tls}")))?;
            let upload = ["--upload-file", &file.display().to_string()].map(str::to_owned);
            let mut more = vec!["--ssl-reqd", "--insecure", "--mail-from", "user000@test", "--mail-rcpt", FAR];
            more.extend(upload.iter().map(String::as_str));
            programs::curl(scheme, address, user, "client.test", &more).await?;
            let told = [&format!("smtplib-{tls}"), FAR, tls];
            let told = programs::python(python::SMTPLIB_TLS, address, user, &told).await?;
            ensure!(told.contains("login 235") && told.contains("refused {}"), "{told}");
        }
        let programs = ["swaks", "curl", "smtplib"].iter();
        let subjects = programs.flat_map(|program| ["starttls", "implicit"].map(|tls| format!("{program}-{tls}")));
        for subject in subjects.chain(["starttls", "implicit"].map(str::to_owned)) {
            let subject = subject.as_str();
            site.sink.mail(subject).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn i1_a_user_submits_where_the_mailbox_is_open() -> Result {
    let plan = Fleet::plan().proxies(2).protocols(&[Protocol::Submission]).dovecot("auth_username_format = %Ln\n");
    let fleet = plan.config("[fleet]\naffinity_key = \"{local}\"").start().await?;
    for (number, user) in fleet.users.iter().enumerate() {
        let spelt = |name: String| User { name, password: user.password.clone() };
        let proxy = |turn: usize| &fleet.proxies[(number + turn) % 2];
        let mut imap = Imap::connect(proxy(0).address()).await?;
        let mut smtp = Smtp::connect(Dialect::Smtp, proxy(1).door(Protocol::Submission)?).await?;
        // Whichever comes first binds.
        for turn in 0..2 {
            match (number + turn) % 2 {
                0 => drop(imap.login(&spelt(user.name.to_uppercase())).await?),
                _ => drop(smtp.log_in(&spelt(format!("{}@Test", user.name))).await?),
            }
        }
        eventually("both logins are in the logs, of one backend", Duration::from_secs(10), async || {
            let witness = fleet.witness()?;
            ensure!(witness.visits.iter().filter(|visit| visit.user == user.name).count() == 2, "{:?}", witness.visits);
            ensure!(witness.backends_of(&user.name).len() == 1, "{:?}", witness.visits);
            Ok(())
        })
        .await?;
        imap.logout().await?;
        smtp.quit().await?;
    }
    fleet.witness()?.swears_one_home()?;
    fleet.empty().await
}

#[tokio::test]
async fn a_wrong_password_and_a_dead_backend_are_told_apart() -> Result {
    let plan = Fleet::plan().backends(1).protocols(&[Protocol::Submission]);
    let mut fleet = plan.config("[backend.mail1]\nretry_budget = \"500ms\"\n[health]\nfall = 1000").start().await?;
    let user = fleet.users[0].clone();
    let mut smtp = connect(&fleet).await?;
    let refused = smtp.try_log_in(&wrong(&user)).await?;
    ensure!((refused.code, refused.lines.len()) == (535, 1) && refused.lines[0].starts_with("5.7.8 "), "{refused:?}");
    smtp.log_in(&user).await?;
    smtp.quit().await?;
    fleet.backends[0].kill();
    let mut smtp = connect(&fleet).await?;
    let refused = smtp.try_log_in(&user).await?;
    ensure!(refused.code == 454, "{refused:?}");
    smtp.quit().await
}

#[tokio::test]
async fn a_kick_ends_submission_sessions_with_a_word() -> Result {
    let fleet = Fleet::plan().protocols(&[Protocol::Submission]).start().await?;
    let user = &fleet.users[0];
    let mut smtp = connect(&fleet).await?;
    smtp.log_in(user).await?;
    let kicked = fleet.proxy().admin(&["user", "kick", &user.name]).await?;
    ensure!(kicked.status.success(), "{kicked:?}");
    let said = smtp.reply().await?;
    ensure!(said.code == 421 && said.lines[0].starts_with("4.3.2 "), "{said:?}");
    smtp.closed().await?;
    ensure!(text(&fleet.proxy().ending_of(&user.name).await?, "ending") == "kicked");
    fleet.empty().await
}

#[tokio::test]
async fn a_postfix_that_knows_no_passwords_takes_the_proxys_word() -> Result {
    if !Postfix::permitted() {
        println!("Postfix needs root: nothing is tried");
        return Ok(());
    }
    let mut fleet = Fleet::plan().backends(0).protocols(&[Protocol::Submission]).start_without_proxies().await?;
    let (user, known) = (fleet.users[0].clone(), fleet.dir.join("known"));
    std::fs::write(&known, format!("{}:{{PLAIN}}{}\n", user.name, user.password))?;
    // It has nowhere to bring the mail: what it has taken stays in its queue.
    let postfix = Postfix::start(fleet.dir.path(), &[fresh_address()?]).await?;
    let (host, port) = (postfix.address.ip(), postfix.address.port());
    let more = format!(
        "passdb = [{{ kind = \"file\", path = {known:?} }}]\n[backend.mta]\nhost = \"{host}\"\nprobe = false\n\
         submission_port = {port}\nsubmission_noauth = true\n"
    );
    let more: toml::Table = more.parse()?;
    fleet.reconfigure(|config| merge(config, more.clone()))?;
    fleet.proxies[0].start().await?;
    let mut smtp = connect(&fleet).await?;
    let address = smtp.local_address()?;
    let refused = smtp.try_log_in(&wrong(&user)).await?;
    ensure!(refused.code == 535, "{refused:?}");
    smtp.log_in(&user).await?;
    smtp.send_mail("user000@test", &[FAR], &letter("on-our-word")).await?.ok()?;
    smtp.quit().await?;
    let told = format!("[{}]", address.ip());
    let login = format!("sasl_username={}", user.name);
    eventually("Postfix tells for whom it has taken the mail", Duration::from_secs(10), async || {
        let log = postfix.log()?;
        ensure!(log.lines().any(|line| line.contains(&told) && line.contains(&login)), "{log}");
        Ok(())
    })
    .await?;
    ensure!(postfix.queued()?.len() == 1, "{}", postfix.log()?);
    Ok(())
}
