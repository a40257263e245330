//! Backends that send users elsewhere.

use std::sync::Arc;

use homing::app::rules;
use homing::config::{Config, FilePassdb, Master, PassdbConfig};
use homing::model::{BackendId, Protocol, Secret, Weight};
use homing::store::Store;
use homing::store::memory::Memory;

use crate::parts::{Server, Site, config, until};

const LATER: &str = "a NO [UNAVAILABLE] Your mailbox cannot be reached at the moment; try again later.\r\n";

/// New users come to the site's own server, "home"; to the other, "away", only who is sent there.
async fn two_homes() -> (Site, Server) {
    two_homes_by(Protocol::Imap).await
}

async fn two_homes_by(protocol: Protocol) -> (Site, Server) {
    two_homes_with(protocol, |_| ()).await
}

async fn two_homes_with(protocol: Protocol, change: impl FnOnce(&mut Config)) -> (Site, Server) {
    let (home, away) = (Server::open().await, Server::open().await);
    let mut config = config(home.address);
    config.listeners[0].protocol = protocol;
    let mut other = config.backends[&BackendId::new("home")].clone();
    other.port = away.address.port();
    other.weight = Weight::new(0).unwrap();
    config.backends.insert(BackendId::new("away"), other);
    for backend in config.backends.values_mut() {
        (backend.pop3.port, backend.sieve.port) = (backend.port, backend.port);
    }
    config.limits.max_referrals = 2;
    change(&mut config);
    let store: Arc<dyn Store> = Arc::new(Memory::embedded(rules(&config)));
    (Site::over(store, home, config).await, away)
}

fn refers(user: &str, to: &Server) -> String {
    format!("L NO [REFERRAL imap://{user};AUTH=*@{}/] Try there.\r\n", to.address)
}

#[tokio::test]
async fn a_user_who_is_referred_is_at_home_there_from_then_on() {
    let (site, away) = two_homes().await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    site.server.accept().await.answer_login(&refers("ann", &away)).await;
    let mut backend = away.accept().await;
    let (id, login) = backend.take_login().await;
    assert_eq!(login, ["", "ann", "secret"]);
    assert!(id.contains("\"x-proxy-ttl\" \"4\""), "{id}");
    client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
    assert_eq!(site.home("ann").await.unwrap().backend, Some(BackendId::new("away")));
    site.sessions(1).await;

    let mut second = site.client().await;
    second.log_in("ann", &away).await;
    site.server.expect_nobody().await;
    client.half_close().await;
    backend.expect_end().await;
    drop(backend);
    site.expect_ending(client.address, ["client_closed", "client", "relay", "away"]).await;
}

#[tokio::test]
async fn pop3_and_managesieve_refer_users_in_their_own_words() {
    let (pop3_offer, sieve_offer) = ("+OK\r\nSASL PLAIN\r\n.\r\n", "\"SASL\" \"PLAIN\"\r\nOK\r\n");
    for protocol in [Protocol::Pop3, Protocol::Sieve] {
        let (site, away) = two_homes_by(protocol).await;
        let (login, greeting, answers) = match protocol {
            Protocol::Pop3 => (
                "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n",
                "+OK hi\r\n",
                [
                    format!("{pop3_offer}-ERR [REFERRAL/ann@{}] Try there.\r\n", away.address),
                    format!("{pop3_offer}+OK In.\r\n"),
                ],
            ),
            _ => (
                "AUTHENTICATE \"PLAIN\" \"AGFubgBzZWNyZXQ=\"\r\n",
                sieve_offer,
                [
                    format!("NO (REFERRAL \"sieve://ann@{}\") \"Try there.\"\r\n", away.address),
                    "OK \"In.\"\r\n".to_owned(),
                ],
            ),
        };
        let mut client = site.dial().await;
        client.send(login).await;
        let mut last = None;
        for (server, answer) in [&site.server, &away].into_iter().zip(&answers) {
            let mut backend = server.accept().await;
            backend.send(format!("{greeting}{answer}")).await;
            while backend.line().await != login {}
            last = Some(backend);
        }
        let welcome = if protocol == Protocol::Pop3 { "+OK In.\r\n" } else { "OK \"In.\"\r\n" };
        while client.line().await != welcome {}
        assert_eq!(site.home("ann").await.unwrap().backend, Some(BackendId::new("away")));
        drop(last);
    }
}

#[tokio::test]
async fn a_user_may_have_another_name_there_and_is_the_same_user() {
    let (site, away) = two_homes().await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    site.server.accept().await.answer_login(&refers("a%6en", &away)).await;
    assert_eq!(away.accept().await.take_login().await.1[1], "ann");
    client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
}

#[tokio::test]
async fn nobody_is_referred_to_a_server_that_the_table_lacks() {
    let (site, away) = two_homes().await;
    let outside = Server::open().await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    site.server.accept().await.answer_login(&refers("ann", &outside)).await;
    client.expect(LATER).await;
    outside.expect_nobody().await;
    away.expect_nobody().await;
    site.sessions(0).await;
    let port = outside.address.port().to_string();
    let said = site.lines(|line| line["level"] == "ERROR" && line.get("port") == Some(&port));
    assert!(said[0]["message"].ends_with("not in the fleet's table"), "{said:?}");
}

#[tokio::test]
async fn who_is_referred_under_another_name_must_know_the_password_of_that_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::fs::write(&path, "ann:{PLAIN}secret\n").unwrap();
    let (site, away) = two_homes_with(Protocol::Imap, |config| {
        config.passdb = vec![PassdbConfig::File(FilePassdb {
            path,
            default_scheme: "PLAIN".to_owned(),
            master: false,
            cache: false,
        })];
        for backend in config.backends.values_mut() {
            let password = Arc::new(Secret::new(b"master's".to_vec()));
            backend.master = Some(Master { user: "boss".to_owned(), password });
        }
    })
    .await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    site.server.accept().await.answer_login(&refers("bob", &away)).await;
    assert_eq!(away.accept().await.take_login().await.1, ["", "bob", "secret"]);
    client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
}

#[tokio::test]
async fn referrals_without_end_are_a_temporary_failure() {
    let (site, away) = two_homes().await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    site.server.accept().await.answer_login(&refers("ann", &away)).await;
    away.accept().await.answer_login(&refers("ann", &site.server)).await;
    site.server.accept().await.answer_login(&refers("ann", &away)).await;
    client.expect(LATER).await;
    away.expect_nobody().await;
    site.sessions(0).await;
    let session = client.address.to_string();
    let refused = site.lines(|line| line["message"] == "login refused" && line["client"] == session);
    assert_eq!(refused[0]["refusal"], "backend_unavailable");
}

#[tokio::test]
async fn i1_a_user_with_live_sessions_is_not_split_by_a_referral() {
    let (site, away) = two_homes().await;
    let mut first = site.client().await;
    let mut server = first.log_in("ann", &site.server).await;
    let mut second = site.client().await;
    second.send("a LOGIN ann secret\r\n").await;
    for _ in 0..3 {
        site.server.accept().await.answer_login(&refers("ann", &away)).await;
    }
    second.expect(LATER).await;
    away.expect_nobody().await;
    assert_eq!(site.home("ann").await.unwrap().backend, Some(BackendId::new("home")));

    // Once the old home is left, the way is free.
    first.half_close().await;
    server.expect_end().await;
    drop(server);
    until("the old home is left", || site.holding().sessions == 0).await;
    second.send("a LOGIN ann secret\r\n").await;
    site.server.accept().await.answer_login(&refers("ann", &away)).await;
    away.accept().await.take_login().await;
    second.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
    assert_eq!(site.home("ann").await.unwrap().backend, Some(BackendId::new("away")));
}
