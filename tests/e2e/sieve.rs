//! ManageSieve through the proxy: real clients, real mail servers.

use std::time::Duration;

use anyhow::ensure;

use crate::harness::address::fresh_ip;
use crate::harness::fleet::merge;
use crate::harness::proxy::text;
use crate::harness::sieve::Verdict;
use crate::harness::{Fleet, Protocol, Result, Secured, Sieve, User, eventually, programs, python};
use crate::pop3::seen;

const SCRIPT: &str = "require \"fileinto\";\r\nfileinto \"Sorted\";\r\n";

#[tokio::test]
async fn mail_programs_find_the_same_by_managesieve_through_the_proxy() -> Result {
    let fleet = Fleet::plan().backends(1).protocols(&[Protocol::Sieve]).start().await?;
    let user = &fleet.users[0];
    let (direct, ours) = (fleet.backends[0].serves.sieve.plain, fleet.proxy().door(Protocol::Sieve)?);
    let mut told = Vec::new();
    for address in [direct, ours] {
        let script = fleet.dir.join("mine.sieve");
        std::fs::write(&script, SCRIPT)?;
        let file = script.display().to_string();
        told.push([
            programs::python(python::MANAGESIEVE, address, user, &[]).await?,
            programs::sieve_connect(address, user, &["--upload", "--localsieve", &file, "--remotesieve", "mine"])
                .await?,
            programs::sieve_connect(address, user, &["--activate", "--remotesieve", "mine"]).await?,
            programs::sieve_connect(address, user, &["--list"]).await?,
            programs::sieve_connect(address, user, &["--deactivate"]).await?,
            programs::sieve_connect(address, user, &["--delete", "--remotesieve", "mine"]).await?,
        ]);
    }
    ensure!(told[0][3].contains("mine"), "{told:?}");
    ensure!(told[0] == told[1], "at the backend\n{:#?}\nthrough the proxy\n{:#?}", told[0], told[1]);
    Ok(())
}

#[tokio::test]
async fn clients_are_told_what_the_backends_can_do_once_one_was_seen() -> Result {
    let fleet = Fleet::plan().protocols(&[Protocol::Sieve]).start().await?;
    let door = fleet.proxy().door(Protocol::Sieve)?;
    let direct = Sieve::connect(fleet.backends[0].serves.sieve.plain).await?;
    let theirs = direct.capabilities.iter().find(|line| line.starts_with("\"SIEVE\"")).cloned().unwrap_or_default();
    eventually("what the backends can do is known", Duration::from_secs(15), async || {
        let ours = Sieve::connect(door).await?;
        ensure!(ours.capabilities.contains(&theirs), "{:?}", ours.capabilities);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_true_client_arrives_by_xclient_under_our_session_name() -> Result {
    let fleet = Fleet::plan().protocols(&[Protocol::Sieve]).start().await?;
    let user = &fleet.users[0];
    let mut sieve = Sieve::connect_from(fresh_ip(), fleet.proxy().door(Protocol::Sieve)?).await?;
    let address = sieve.local_address()?;
    sieve.log_in(user).await?;
    sieve.put_script("mine", SCRIPT).await?;
    ensure!(sieve.get_script("mine").await? == SCRIPT);
    sieve.logout().await?;
    let ending = fleet.proxy().ending_of(&user.name).await?;
    let visit = seen(&fleet.backends, user).await?;
    ensure!(visit.protocol == Protocol::Sieve && visit.session == text(&ending, "session"), "{visit:?} {ending}");
    ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
    ensure!(text(&ending, "client") == address.to_string() && text(&ending, "protocol") == "sieve", "{ending}");
    Ok(())
}

#[tokio::test]
async fn the_true_client_arrives_by_proxy_header() -> Result {
    let mut fleet = Fleet::plan().backends(1).protocols(&[Protocol::Sieve]).start_without_proxies().await?;
    let proxied = fleet.backends[0].serves.sieve.proxied.port();
    fleet.reconfigure(|config| {
        let more = format!("[backend.mail1]\nsieve_port = {proxied}\nannounce_proxy = true\nannounce_xclient = false");
        merge(config, more.parse().unwrap());
    })?;
    fleet.proxies[0].start().await?;
    let user = &fleet.users[0];
    let mut sieve = Sieve::connect_from(fresh_ip(), fleet.proxy().door(Protocol::Sieve)?).await?;
    let address = sieve.local_address()?;
    sieve.log_in(user).await?;
    sieve.logout().await?;
    let visit = seen(&fleet.backends, user).await?;
    ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
    Ok(())
}

#[tokio::test]
async fn clients_come_under_tls_and_so_do_we_to_the_backend() -> Result {
    let site = Secured::start(Protocol::Sieve, "starttls").await?;
    let (user, tls) = (&site.fleet.users[0], site.authority.client()?);
    let [by_command, at_once] = site.fleet.proxy().addresses[..] else { panic!("two listeners") };
    let mut sieve = Sieve::connect(by_command).await?;
    ensure!(sieve.capabilities.contains(&"\"SASL\" \"\"".to_owned()), "{:?}", sieve.capabilities);
    let refused = sieve.try_log_in(user).await?;
    ensure!(refused.verdict == Verdict::No && refused.text.starts_with("(ENCRYPT-NEEDED) "), "{refused:?}");
    let mut sieve = sieve.starttls("mail.test", &tls).await?;
    ensure!(!sieve.capabilities.contains(&"\"STARTTLS\"".to_owned()), "{:?}", sieve.capabilities);
    let address = sieve.local_address()?;
    sieve.log_in(user).await?;
    sieve.put_script("mine", SCRIPT).await?;
    sieve.logout().await?;
    let visit = seen([&site.backend], user).await?;
    ensure!(visit.field("rip") == Some(&address.ip().to_string()), "{visit:?}");
    let mut sieve =
        Sieve::over(crate::harness::talk::Talk::dial(at_once).await?.secure("mail.test", &tls).await?).await?;
    sieve.log_in(user).await?;
    sieve.logout().await?;
    let listed = programs::sieve_connect(by_command, user, &["--list"]).await?;
    ensure!(listed.contains("mine"), "{listed}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_a_dead_backend_are_told_apart() -> Result {
    let plan = Fleet::plan().backends(1).protocols(&[Protocol::Sieve]);
    let mut fleet = plan.config("[backend.mail1]\nretry_budget = \"500ms\"\n[health]\nfall = 1000").start().await?;
    let (user, door) = (fleet.users[0].clone(), fleet.proxy().door(Protocol::Sieve)?);
    let mut sieve = Sieve::connect(door).await?;
    let refused = sieve.try_log_in(&User { password: "wrong".into(), ..user.clone() }).await?;
    ensure!(refused.verdict == Verdict::No && !refused.text.starts_with('('), "{refused:?}");
    sieve.log_in(&user).await?;
    sieve.logout().await?;
    fleet.backends[0].kill();
    let mut sieve = Sieve::connect(door).await?;
    let refused = sieve.try_log_in(&user).await?;
    ensure!(refused.verdict == Verdict::No && refused.text.starts_with("(TRYLATER) "), "{refused:?}");
    sieve.logout().await
}

#[tokio::test]
async fn a_kick_ends_managesieve_sessions_with_a_bye() -> Result {
    let fleet = Fleet::plan().protocols(&[Protocol::Sieve]).start().await?;
    let user = &fleet.users[0];
    let mut sieve = Sieve::connect(fleet.proxy().door(Protocol::Sieve)?).await?;
    sieve.log_in(user).await?;
    let kicked = fleet.proxy().admin(&["user", "kick", &user.name]).await?;
    ensure!(kicked.status.success(), "{kicked:?}");
    let last = String::from_utf8(sieve.lost().await?)?;
    ensure!(last.starts_with("BYE (TRYLATER) "), "{last:?}");
    fleet.empty().await
}
