//! POP3 through the proxy: real clients, real mail servers.

use std::time::Duration;

use anyhow::ensure;

use crate::harness::address::fresh_ip;
use crate::harness::fleet::merge;
use crate::harness::letter::letter;
use crate::harness::proxy::text;
use crate::harness::witness::Visit;
use crate::harness::{
    Dovecot, Fleet, Imap, Pop3, Protocol, Result, Secured, Sieve, User, Witness, eventually, programs, python,
};

/// Puts letters into somebody's INBOX.
async fn deliver(imap: Imap, subjects: &[&str]) -> Result {
    let mut imap = imap;
    for subject in subjects {
        imap.append("INBOX", &letter(subject)).await?;
    }
    imap.logout().await
}

/// The user's last visit, once the backend's log has it.
pub(crate) async fn seen<'a>(backends: impl IntoIterator<Item = &'a Dovecot> + Clone, user: &User) -> Result<Visit> {
    eventually("the login is in the backend's log", Duration::from_secs(10), async || {
        Ok(Witness::hear(backends.clone())?.last(&user.name)?.clone())
    })
    .await
}

fn wrong(user: &User) -> User {
    User { password: "wrong".into(), ..user.clone() }
}

#[tokio::test]
async fn mail_programs_find_the_same_by_pop3_through_the_proxy() -> Result {
    let fleet = Fleet::plan().backends(1).protocols(&[Protocol::Pop3]).start().await?;
    let (user, dir) = (&fleet.users[0], &fleet.dir);
    deliver(fleet.backends[0].log_in(user).await?, &["one", "two", "three"]).await?;
    let (direct, ours) = (fleet.backends[0].serves.pop3.plain, fleet.proxy().door(Protocol::Pop3)?);
    let mut told = Vec::new();
    for (name, address) in [("theirs", direct), ("ours", ours)] {
        let dir = dir.join(name);
        told.push([
            programs::curl("pop3", address, user, "", &[]).await?,
            programs::curl("pop3", address, user, "2", &[]).await?,
            programs::curl("pop3", address, user, "", &["--request", "UIDL"]).await?,
            programs::curl("pop3", address, user, "1", &["--login-options", "AUTH=PLAIN", "--sasl-ir"]).await?,
            programs::curl("pop3", address, user, "1", &["--login-options", "AUTH=LOGIN"]).await?,
            programs::getmail(&dir, address, user).await?,
            programs::fetchmail(&dir, address, user).await?,
            programs::python(python::POPLIB, address, user, &[]).await?,
        ]);
    }
    for (theirs, ours) in told[0].iter().zip(&told[1]) {
        ensure!(theirs.contains("one") || theirs.contains("two") || theirs.contains('3'), "{theirs}");
        ensure!(lasting(theirs) == lasting(ours), "at the backend\n{theirs}\nthrough the proxy\n{ours}");
    }
    let refused = programs::curl("pop3", ours, &wrong(user), "", &[]).await.err().map(|error| error.to_string());
    ensure!(refused.as_ref().is_some_and(|error| error.contains("67")), "curl's code for a denied login: {refused:?}");
    Ok(())
}

/// Without what getmail and fetchmail say of the day and of whom they have asked, and the words to USER, which are ours.
fn lasting(told: &str) -> String {
    let passing = ["From ", "Received:", "\tby ", "\tfor ", "  by ", "  for ", "Delivered-To:", "  getmail6 ", "user "];
    let lines = told.lines().filter(|line| !passing.iter().any(|start| line.starts_with(start)));
    lines.filter(|line| !line.contains("+0000")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_true_client_arrives_by_xclient_under_our_session_name() -> Result {
    let fleet = Fleet::plan().protocols(&[Protocol::Pop3]).start().await?;
    let user = &fleet.users[0];
    let door = fleet.proxy().door(Protocol::Pop3)?;
    let mut pop3 = Pop3::connect_from(fresh_ip(), door).await?;
    let address = pop3.local_address()?;
    pop3.log_in(user).await?;
    pop3.quit().await?;
    let ending = fleet.proxy().ending_of(&user.name).await?;
    let visit = seen(&fleet.backends, user).await?;
    ensure!(visit.protocol == Protocol::Pop3 && visit.session == text(&ending, "session"), "{visit:?} {ending}");
    ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
    ensure!(visit.field("rport") == Some(&address.port().to_string()), "{visit:?}");
    ensure!(text(&ending, "client") == address.to_string() && text(&ending, "protocol") == "pop3", "{ending}");
    Ok(())
}

#[tokio::test]
async fn the_true_client_arrives_by_proxy_header() -> Result {
    let mut fleet = Fleet::plan().backends(1).protocols(&[Protocol::Pop3]).start_without_proxies().await?;
    let proxied = fleet.backends[0].serves.pop3.proxied.port();
    fleet.reconfigure(|config| {
        let more = format!("[backend.mail1]\npop3_port = {proxied}\nannounce_proxy = true\nannounce_xclient = false");
        merge(config, more.parse().unwrap());
    })?;
    fleet.proxies[0].start().await?;
    let user = &fleet.users[0];
    let mut pop3 = Pop3::connect_from(fresh_ip(), fleet.proxy().door(Protocol::Pop3)?).await?;
    let address = pop3.local_address()?;
    pop3.log_in(user).await?;
    pop3.quit().await?;
    let visit = seen(&fleet.backends, user).await?;
    ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
    ensure!(visit.field("rport") == Some(&address.port().to_string()), "{visit:?}");
    Ok(())
}

#[tokio::test]
async fn clients_come_under_tls_and_so_do_we_to_the_backend() -> Result {
    for road in ["starttls", "implicit"] {
        let site = Secured::start(Protocol::Pop3, road).await?;
        let (user, tls) = (&site.fleet.users[0], site.authority.client()?);
        let [by_command, at_once] = site.fleet.proxy().addresses[..] else { panic!("two listeners") };
        let mut pop3 = Pop3::connect(by_command).await?;
        let refused = pop3.command(&format!("USER {}", user.name)).await?;
        ensure!(!refused.positive && !pop3.list("CAPA").await?.contains(&"USER".to_owned()), "{refused:?}");
        let mut pop3 = pop3.starttls("mail.test", &tls).await?;
        let address = pop3.local_address()?;
        ensure!(!pop3.list("CAPA").await?.contains(&"STLS".to_owned()));
        pop3.log_in(user).await?;
        pop3.quit().await?;
        let visit = seen([&site.backend], user).await?;
        ensure!(visit.field("rport") == Some(&address.port().to_string()), "{visit:?}");
        let mut pop3 = Pop3::connect_tls(at_once, "mail.test", &tls).await?;
        pop3.log_in(user).await?;
        pop3.quit().await?;
        programs::curl("pop3", by_command, user, "", &["--ssl-reqd", "--insecure"]).await?;
        programs::curl("pop3s", at_once, user, "", &["--insecure"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn i1_a_user_has_one_home_by_every_protocol_and_every_spelling() -> Result {
    let protocols = [Protocol::Pop3, Protocol::Sieve];
    let plan = Fleet::plan().proxies(2).protocols(&protocols).dovecot("auth_username_format = %Ln\n");
    let fleet = plan.config("[fleet]\naffinity_key = \"{local}\"").start().await?;
    for (number, user) in fleet.users.iter().enumerate() {
        let spelt = |name: String| User { name, password: user.password.clone() };
        let proxy = |turn: usize| &fleet.proxies[(number + turn) % 2];
        let mut imap = Imap::connect(proxy(0).address()).await?;
        let mut pop3 = Pop3::connect(proxy(1).door(Protocol::Pop3)?).await?;
        let mut sieve = Sieve::connect(proxy(2).door(Protocol::Sieve)?).await?;
        // Each begins with another protocol: whichever comes first binds.
        for turn in 0..3 {
            match (number + turn) % 3 {
                0 => drop(imap.login(&spelt(user.name.to_uppercase())).await?),
                1 => drop(pop3.log_in(&spelt(format!("{}@test", user.name))).await?),
                _ => drop(sieve.log_in(&spelt(format!("{}@Test", user.name.to_uppercase()))).await?),
            }
        }
        let mut again = Pop3::connect(proxy(3).door(Protocol::Pop3)?).await?;
        again.log_in(user).await?;
        eventually("all four logins are in the logs", Duration::from_secs(10), async || {
            let visits: Vec<_> = fleet.witness()?.visits.into_iter().filter(|visit| visit.user == user.name).collect();
            ensure!(visits.len() == 4, "{visits:#?}");
            Ok(())
        })
        .await?;
        ensure!(fleet.witness()?.backends_of(&user.name).len() == 1, "{:#?}", fleet.witness()?.visits);
        again.quit().await?;
        imap.logout().await?;
        pop3.quit().await?;
        sieve.logout().await?;
    }
    let homes: std::collections::BTreeSet<_> = fleet.witness()?.visits.into_iter().map(|visit| visit.backend).collect();
    ensure!(homes.len() == 3, "all backends have users: {homes:?}");
    fleet.witness()?.swears_one_home()?;
    fleet.empty().await
}

#[tokio::test]
async fn a_wrong_password_and_a_dead_backend_are_told_apart() -> Result {
    let plan = Fleet::plan().backends(1).protocols(&[Protocol::Pop3]);
    let mut fleet = plan.config("[backend.mail1]\nretry_budget = \"500ms\"\n[health]\nfall = 1000").start().await?;
    let (user, door) = (fleet.users[0].clone(), fleet.proxy().door(Protocol::Pop3)?);
    let mut pop3 = Pop3::connect(door).await?;
    let refused = pop3.try_log_in(&wrong(&user)).await?;
    ensure!(!refused.positive && refused.text.starts_with("[AUTH] "), "{refused:?}");
    pop3.log_in(&user).await?;
    pop3.quit().await?;
    fleet.backends[0].kill();
    let mut pop3 = Pop3::connect(door).await?;
    let refused = pop3.try_log_in(&user).await?;
    ensure!(!refused.positive && refused.text.starts_with("[SYS/TEMP] "), "{refused:?}");
    pop3.quit().await
}

#[tokio::test]
async fn a_kick_ends_pop3_sessions_like_any_other() -> Result {
    let fleet = Fleet::plan().protocols(&[Protocol::Pop3]).start().await?;
    let user = &fleet.users[0];
    let mut pop3 = Pop3::connect(fleet.proxy().door(Protocol::Pop3)?).await?;
    pop3.log_in(user).await?;
    let mut imap = fleet.proxy().log_in(user).await?;
    let kicked = fleet.proxy().admin(&["user", "kick", &user.name]).await?;
    ensure!(kicked.status.success(), "{kicked:?}");
    ensure!(pop3.lost().await?.is_empty(), "POP3 has no word for it");
    imap.lost().await?;
    eventually("the session has ended", Duration::from_secs(10), async || {
        let endings = fleet.proxy().endings()?;
        let pop3 = endings.iter().find(|line| text(line, "protocol") == "pop3");
        ensure!(pop3.is_some_and(|line| text(line, "ending") == "kicked"), "{endings:?}");
        Ok(())
    })
    .await?;
    fleet.empty().await
}
