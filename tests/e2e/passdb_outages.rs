//! Each kind of passdb is killed and hung behind a whole proxy: who is remembered goes on logging in by every protocol, who is
//! not hears that it will pass, and all is well when the passdb is back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::routing::any;

use crate::harness::fleet::merge;
use crate::harness::passdbs::is_paused;
use crate::harness::wire::{Mode, Wire};
use crate::harness::{Dialect, Fleet, Imap, Passdb, Pop3, Protocol, Result, Smtp, Status, User, eventually};

/// Keys of a passdb that is given up soon, and tried again soon.
const SOON: &str = "cache = true\ntimeout = \"1s\"\nfailures = 3\npause = \"200ms\"\n";
/// Where a Dovecot's auth service listens beside its socket.
const AUTH_PORT: u16 = 20_555;

/// What is killed and hung.
enum Place {
    Server(Box<Passdb>),
    /// The way to it.
    Way(Wire),
}

#[derive(Clone, Copy, Debug)]
enum Outage {
    Killed,
    Hung,
}

impl Place {
    fn end(&mut self, outage: Outage) {
        match (self, outage) {
            (Self::Server(passdb), Outage::Killed) => passdb.server.kill(),
            (Self::Server(passdb), Outage::Hung) => passdb.server.hang(),
            (Self::Way(wire), Outage::Killed) => wire.set(Mode::Cut),
            (Self::Way(wire), Outage::Hung) => wire.set(Mode::Still),
        }
    }

    fn mend(&mut self, outage: Outage) {
        match (self, outage) {
            (Self::Server(passdb), Outage::Killed) => passdb.server.start(),
            (Self::Server(passdb), Outage::Hung) => passdb.server.go_on(),
            (Self::Way(wire), _) => wire.set(Mode::Open),
        }
    }
}

/// What the user is told: `None` if all is well. By LMTP mail comes for the user instead.
async fn refusal(fleet: &Fleet, protocol: Protocol, user: &User) -> Result<Option<String>> {
    let door = fleet.proxy().door(protocol)?;
    Ok(match protocol {
        Protocol::Pop3 => {
            let verdict = Pop3::connect(door).await?.try_log_in(user).await?;
            (!verdict.positive).then_some(verdict.text)
        }
        Protocol::Submission => {
            let reply = Smtp::connect(Dialect::Smtp, door).await?.try_log_in(user).await?;
            (reply.code != 235).then(|| format!("{} {}", reply.code, reply.lines.join(" ")))
        }
        Protocol::Lmtp => {
            let reply = Smtp::connect(Dialect::Lmtp, door).await?.envelope("", &[&user.name]).await?.remove(0);
            (reply.code != 250).then(|| format!("{} {}", reply.code, reply.lines.join(" ")))
        }
        _ => {
            let answer = Imap::connect(door).await?.try_login(user).await?;
            (answer.status != Status::Ok).then_some(answer.text)
        }
    })
}

/// How the protocol says that it will pass.
fn will_pass(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Pop3 => "[SYS/TEMP] ",
        Protocol::Submission => "454 4.7.0 ",
        Protocol::Lmtp => "451 4.3.0 ",
        _ => "[UNAVAILABLE] ",
    }
}

async fn is_let_in(fleet: &Fleet, protocol: Protocol, user: &User) -> Result {
    let refusal = refusal(fleet, protocol, user).await?;
    ensure!(refusal.is_none(), "{} by {}: {refusal:?}", user.name, protocol.word());
    Ok(())
}

/// Two users and a server for these protocols, with no passdb that anybody could ask yet.
async fn fleet(protocols: &[Protocol]) -> Result<Fleet> {
    let auth = format!("service auth {{\n  inet_listener clients {{\n    port = {AUTH_PORT}\n  }}\n}}\n");
    let plan = Fleet::plan().backends(1).users(2).protocols(protocols).dovecot(&auth);
    plan.start_without_proxies().await
}

/// The first user is remembered by all protocols, the second is not.
async fn survives(mut fleet: Fleet, mut place: Place, passdb: &str, protocols: &[Protocol]) -> Result {
    let passdb: toml::Table = format!("{passdb}{SOON}").parse()?;
    fleet.reconfigure(|config| merge(config, passdb.clone()))?;
    fleet.proxies[0].start().await?;
    let (known, other) = (&fleet.users[0], &fleet.users[1]);
    for protocol in protocols {
        eventually("the first login", Duration::from_secs(30), async || is_let_in(&fleet, *protocol, known).await)
            .await?;
    }
    eventually("all answers are noted", Duration::from_secs(30), async || {
        let notes = fleet.redis.keys().await?.into_iter().filter(|key| key.contains(":note:")).count();
        ensure!(notes == protocols.len(), "{notes}");
        Ok(())
    })
    .await?;
    for outage in [Outage::Killed, Outage::Hung] {
        place.end(outage);
        for protocol in protocols {
            is_let_in(&fleet, *protocol, known).await?;
            let told = refusal(&fleet, *protocol, other).await?.unwrap_or_default();
            ensure!(told.starts_with(will_pass(*protocol)), "{outage:?}, {}: {told:?}", protocol.word());
        }
        eventually("it is left alone", Duration::from_secs(30), async || {
            refusal(&fleet, Protocol::Imap, other).await?;
            ensure!(is_paused(fleet.proxy()).await?);
            Ok(())
        })
        .await?;
        place.mend(outage);
        eventually("it is asked again", Duration::from_secs(60), async || {
            is_let_in(&fleet, Protocol::Imap, other).await?;
            ensure!(!is_paused(fleet.proxy()).await?);
            Ok(())
        })
        .await?;
        eventually("the second user is forgotten", Duration::from_secs(30), async || {
            let output = fleet.proxy().admin(&["auth", "flush", &other.name]).await?;
            ensure!(String::from_utf8_lossy(&output.stdout).trim() == "forgot 1 record", "{output:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

const ALL: [Protocol; 4] = [Protocol::Imap, Protocol::Pop3, Protocol::Submission, Protocol::Lmtp];

async fn server_survives(start: impl FnOnce(&[User]) -> Passdb) -> Result {
    let fleet = fleet(&ALL).await?;
    let passdb = start(&fleet.users);
    let config = passdb.config.clone();
    survives(fleet, Place::Server(Box::new(passdb)), &config, &ALL).await
}

#[tokio::test]
async fn openldap_is_killed_and_hangs_and_who_is_remembered_goes_on() -> Result {
    server_survives(Passdb::openldap).await
}

#[tokio::test]
async fn postgresql_is_killed_and_hangs_and_who_is_remembered_goes_on() -> Result {
    server_survives(Passdb::postgresql).await
}

#[tokio::test]
async fn mariadb_is_killed_and_hangs_and_who_is_remembered_goes_on() -> Result {
    server_survives(Passdb::mariadb).await
}

#[tokio::test]
async fn dovecots_auth_service_is_cut_off_and_hangs_and_who_is_remembered_goes_on() -> Result {
    // Mail by LMTP would need its lookup socket, which is no TCP.
    let protocols = &ALL[..3];
    let fleet = fleet(protocols).await?;
    let wire = Wire::to(SocketAddr::new(fleet.backends[0].address.ip(), AUTH_PORT)).await?;
    let config = format!("[[passdb]]\nkind = \"dovecot\"\nauth_socket = \"tcp://{}\"\n", wire.address);
    survives(fleet, Place::Way(wire), &config, protocols).await
}

#[tokio::test]
async fn a_web_service_is_cut_off_and_hangs_and_who_is_remembered_goes_on() -> Result {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let service = listener.local_addr()?;
    let answer = any(async || ([("Content-Type", "application/json")], "{\"ok\": true}"));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/auth", answer)).await });
    let wire = Wire::to(service).await?;
    let config = format!("[[passdb]]\nkind = \"http\"\nurl = \"http://{}/auth\"\nformat = \"json\"\n", wire.address);
    survives(fleet(&ALL).await?, Place::Way(wire), &config, &ALL).await
}

#[tokio::test]
async fn a_file_of_passwords_is_replaced_while_users_log_in() -> Result {
    let mut fleet = fleet(&[]).await?;
    let path = fleet.dir.join("passwords");
    let write = |users: &[&User]| {
        let lines: String = users.iter().map(|user| format!("{}:{{PLAIN}}{}\n", user.name, user.password)).collect();
        let new = path.with_extension("new");
        std::fs::write(&new, lines)?;
        anyhow::Ok(std::fs::rename(new, &path)?)
    };
    let (first, second) = (fleet.users[0].clone(), fleet.users[1].clone());
    write(&[&first])?;
    let config = format!("[[passdb]]\nkind = \"file\"\npath = \"{}\"\n", path.display());
    fleet.reconfigure(|config_of| merge(config_of, config.parse().unwrap()))?;
    fleet.proxies[0].start().await?;
    for (is_there, is_not) in [(&first, &second), (&second, &first), (&first, &second)] {
        write(&[is_there])?;
        eventually("the new file is read", Duration::from_secs(30), async || {
            is_let_in(&fleet, Protocol::Imap, is_there).await?;
            let told = refusal(&fleet, Protocol::Imap, is_not).await?.unwrap_or_default();
            ensure!(told.starts_with("[AUTHENTICATIONFAILED] "), "{told:?}");
            Ok(())
        })
        .await?;
    }
    // What was read last stays in force while there is none.
    std::fs::remove_file(&path)?;
    eventually("it is missed", Duration::from_secs(30), async || {
        is_let_in(&fleet, Protocol::Imap, &first).await?;
        ensure!(fleet.proxy().log()?.contains("passwords"));
        Ok(())
    })
    .await
}
