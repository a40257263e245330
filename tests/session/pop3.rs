//! POP3, where its words make a difference.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homing::config::Config;
use homing::model::{BackendId, Protocol};

use crate::parts::{Peer, Server, Site};

/// A site that speaks POP3 to both sides.
async fn site() -> Site {
    Site::with(speak_pop3).await
}

fn speak_pop3(config: &mut Config) {
    config.listeners[0].protocol = Protocol::Pop3;
    let backend = config.backends.get_mut(&BackendId::new("home")).unwrap();
    backend.pop3.port = backend.port;
}

async fn client(site: &Site) -> Peer {
    let mut client = site.dial().await;
    client.expect("+OK [XCLIENT] homing ready\r\n").await;
    client
}

/// Greets as a server that trusts the proxy, reads up to the login and says `words`. Gives XCLIENT and who logs in.
async fn answer(server: &Server, words: &str) -> (Peer, String, String) {
    let mut backend = server.accept().await;
    backend.send("+OK [XCLIENT] ready\r\n").await;
    backend.expect("CAPA\r\n").await;
    let xclient = backend.expect_start("XCLIENT ").await;
    let login = backend.expect_start("AUTH PLAIN ").await;
    let login = STANDARD.decode(login["AUTH PLAIN ".len()..].trim()).unwrap();
    backend.send(format!("+OK\r\nTOP\r\nEXPIRE 30\r\nSASL PLAIN\r\n.\r\n+OK Updated\r\n{words}")).await;
    (backend, xclient, String::from_utf8(login).unwrap())
}

#[tokio::test]
async fn a_login_reaches_the_backend_with_the_clients_address_and_what_was_pipelined_follows() {
    let site = site().await;
    let mut client = client(&site).await;
    client.send("USER Ann\r\nPASS  se cret\r\nSTAT\r\nRETR 1\r\n").await;
    let (mut backend, xclient, login) = answer(&site.server, "").await;
    client.expect("+OK Send the password.\r\n").await;
    backend.expect_silence().await;
    backend.send("+OK Logged in.\r\n").await;
    backend.expect("STAT\r\nRETR 1\r\n").await;
    client.expect("+OK Logged in.\r\n").await;
    assert_eq!(login, "\0ann\0 se cret");
    let SocketAddr::V4(address) = client.address else { panic!("an IPv4 address") };
    for field in [&format!("ADDR={}", address.ip()), &format!("PORT={}", address.port()), "TTL=4", "SESSION="] {
        assert!(xclient.contains(&format!(" {field}")), "{xclient}");
    }
    client.half_close().await;
    backend.expect_end().await;
    drop(backend);
    let line = site.expect_ending(client.address, ["client_closed", "client", "relay", "home"]).await;
    assert_eq!((line["protocol"].as_str(), line["mechanism"].as_str()), ("pop3", "command"));
}

#[tokio::test]
async fn what_backends_offer_is_shown_to_the_next_client() {
    let site = site().await;
    let mut first = client(&site).await;
    first.send("AUTH PLAIN AGFubgBzZWNyZXQ=\r\n").await;
    answer(&site.server, "-ERR [AUTH] no\r\n").await;
    first.expect("-ERR [AUTH] no\r\n").await;
    let mut second = client(&site).await;
    second.send("CAPA\r\nQUIT\r\n").await;
    second.expect("+OK Capabilities follow.\r\nTOP\r\nEXPIRE 30\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n").await;
    second.expect("USER\r\nSASL PLAIN LOGIN\r\n.\r\n+OK Logging out.\r\n").await;
    second.expect_end().await;
}

#[tokio::test]
async fn a_backend_that_closes_is_a_temporary_failure_and_one_that_is_full_says_so_itself() {
    let site = Site::with(|config| {
        speak_pop3(config);
        config.backends.get_mut(&BackendId::new("home")).unwrap().login_timeout = Duration::from_secs(5);
    })
    .await;
    let mut client = client(&site).await;
    client.send("AUTH PLAIN AGFubgBzZWNyZXQ=\r\n").await;
    drop(site.server.accept().await);
    client.expect("-ERR [SYS/TEMP] Your mailbox cannot be reached at the moment; try again later.\r\n").await;
    client.send("AUTH PLAIN AGFubgBzZWNyZXQ=\r\n").await;
    answer(&site.server, "-ERR [IN-USE] Too many.\r\n").await;
    client.expect("-ERR [IN-USE] Too many.\r\n").await;
    let address = client.address.to_string();
    let refused = site.lines(|line| line["message"] == "login refused" && line["client"] == address);
    assert!(refused.iter().all(|line| line["refusal"] == "backend_unavailable"), "{refused:?}");
    site.sessions(0).await;
}

#[tokio::test]
async fn a_proxy_that_goes_down_ends_a_session_without_a_word() {
    let site = site().await;
    let mut client = client(&site).await;
    client.send("AUTH PLAIN AGFubgBzZWNyZXQ=\r\n").await;
    let (mut backend, ..) = answer(&site.server, "+OK Hi.\r\n").await;
    client.expect("+OK Hi.\r\n").await;
    let talk = async {
        backend.expect_end().await;
        drop(backend);
    };
    tokio::join!(site.proxy.stop(), talk);
    client.expect_end().await;
}

#[tokio::test]
async fn a_client_that_asks_for_utf_8_before_its_login_has_it_at_its_backend() {
    let site = site().await;
    let greet = "+OK ready\r\n+OK\r\nUTF8 USER\r\nSASL PLAIN\r\n.\r\n";
    let mut first = client(&site).await;
    first.send("UTF8\r\nUSER ann\r\nPASS secret\r\n").await;
    first.expect("-ERR This command is not offered; see CAPA.\r\n+OK Send the password.\r\n").await;
    let mut backend = site.server.accept().await;
    backend.send(greet).await;
    backend.expect("CAPA\r\n").await;
    backend.expect_start("AUTH PLAIN ").await;
    backend.send("+OK In.\r\n").await;
    first.expect("+OK In.\r\n").await;

    let mut second = client(&site).await;
    second.send("UTF8\r\nUSER ann\r\nPASS secret\r\n").await;
    second.expect("+OK UTF8 enabled.\r\n+OK Send the password.\r\n").await;
    let mut backend = site.server.accept().await;
    backend.send(greet).await;
    backend.expect("CAPA\r\nUTF8\r\n").await;
    backend.send("+OK UTF8 enabled\r\n").await;
    backend.expect_start("AUTH PLAIN ").await;
    backend.send("+OK In.\r\n").await;
    second.expect("+OK In.\r\n").await;
}
