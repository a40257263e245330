//! Administering mailboxes over the HTTP API, with mail servers whose every word the test says.

use std::time::Duration;

use homing::config::Config;
use homing::model::Ending;

use crate::administration::administer;
use crate::parts::{Peer, Server, Site, until};

/// A door for doveadm; the backend has an HTTP API that the test plays.
async fn site(change: impl FnOnce(&mut Config)) -> (Site, Server) {
    let home = Server::open().await;
    let site = Site::with(|config| {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"doveadm\"\ntls = \"none\"\n[doveadm]\npassword = \"pw\"\n\
             [backend.home]\nhost = \"127.0.0.1\"\ndoveadm = \"http://{}\"\ndoveadm_password = \"inner\"\n",
            home.address
        );
        administer(config, &text);
        change(config);
    })
    .await;
    (site, home)
}

/// Posts this body.
async fn post(site: &Site, body: &str) -> Peer {
    let mut client = site.dial().await;
    let head = "POST /doveadm/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ZG92ZWFkbTpwdw==\r\n";
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    client
}

/// Reads a head, up to the empty line.
async fn head(peer: &mut Peer) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match peer.line().await {
            line if line == "\r\n" => return lines,
            line => lines.push(line),
        }
    }
}

/// The next request to the mail server, with its body.
async fn asked(server: &Server) -> (Peer, String) {
    let mut peer = server.accept().await;
    let lines = head(&mut peer).await;
    assert!(lines.iter().any(|line| line.eq_ignore_ascii_case("authorization: Basic ZG92ZWFkbTppbm5lcg==\r\n")));
    assert!(lines.iter().any(|line| line.eq_ignore_ascii_case("proxy-ttl: 4\r\n")), "{lines:?}");
    let body = peer.line_to(']', 2).await;
    (peer, body)
}

/// The next piece of a body.
async fn chunk(client: &mut Peer) -> String {
    let size = usize::from_str_radix(client.line().await.trim(), 16).unwrap();
    let text = client.bytes(size + 2).await;
    text[..size].to_owned()
}

#[tokio::test]
async fn a_result_reaches_the_client_as_it_comes_and_the_session_is_counted_until_the_server_has_closed() {
    let (site, home) = site(|_| ()).await;
    let mut client = post(&site, "[[\"fetch\",{\"user\":\"Ann\"},\"t\"]]").await;
    let (mut server, body) = asked(&home).await;
    assert_eq!(body, "[[\"fetch\",{\"user\":\"ann\"},\"homing\"]]");
    assert_eq!(site.holding().sessions, 1);
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n[[\"doveadmResponse\",[{\"text\":\"begun").await;
    assert!(head(&mut client).await[0].contains("200"));
    let mut said = String::new();
    while !said.ends_with("begun") {
        said += &chunk(&mut client).await;
    }
    assert_eq!(said, "[[\"doveadmResponse\",[{\"text\":\"begun");
    // No server but one that breaks off ends like that; the client must not take it for the end.
    drop(server);
    client.expect_end().await;
    site.sessions(0).await;
}

#[tokio::test]
async fn a_whole_answer_ends_the_connection_to_the_server_and_not_the_clients() {
    let (site, home) = site(|_| ()).await;
    let mut client = post(&site, "[[\"search\",{\"user\":\"ann\"},\"t\\\"1\"],[\"search\",{},\"2\"]]").await;
    let (mut server, _) = asked(&home).await;
    let answer = "[[\"doveadmResponse\",[{\"uid\":\"1\"}],\"homing\"]]";
    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())).await;
    server.expect_end().await;
    assert_eq!(site.holding().sessions, 1, "the server may still be at the mailbox");
    drop(server);
    head(&mut client).await;
    let mut said = String::new();
    loop {
        match chunk(&mut client).await {
            text if text.is_empty() => break,
            text => said += &text,
        }
    }
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said[0], serde_json::json!(["doveadmResponse", [{ "uid": "1" }], "t\"1"]));
    assert_eq!(said[1][1]["exitCode"], 64);
    site.sessions(0).await;
}

#[tokio::test]
async fn a_kick_ends_a_call_in_order_and_frees_its_session_only_then() {
    let (site, home) = site(|config| config.limits.kick_deadline = Duration::from_millis(50)).await;
    let mut client = post(&site, "[[\"forceResync\",{\"user\":\"ann\"},\"t\"]]").await;
    let (mut server, _) = asked(&home).await;
    site.proxy.fleet().shards()[0].ledger.close_all(Ending::Kicked);
    server.expect_end().await;
    assert_eq!(site.holding().sessions, 1, "the server may still be at the mailbox");
    drop(server);
    head(&mut client).await;
    let mut said = String::new();
    while !said.contains("being moved") {
        said += &chunk(&mut client).await;
    }
    assert!(said.contains("\"exitCode\":75"), "{said}");
    site.sessions(0).await;
}

#[tokio::test]
async fn a_client_that_goes_ends_its_call_and_the_session_is_counted_until_the_server_has_closed() {
    let (site, home) = site(|_| ()).await;
    let client = post(&site, "[[\"forceResync\",{\"user\":\"ann\"},\"t\"]]").await;
    let (mut server, _) = asked(&home).await;
    drop(client);
    server.expect_end().await;
    assert_eq!(site.holding().sessions, 1);
    drop(server);
    site.sessions(0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_waited_for_longer_than_a_silent_server() {
    let (site, home) = site(|config| {
        config.doveadm.silence = Duration::from_millis(300);
        config.limits.close_timeout = Duration::from_millis(100);
    })
    .await;
    let client = post(&site, "[[\"fetch\",{\"user\":\"ann\"},\"t\"]]").await;
    let (mut server, _) = asked(&home).await;
    server.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[[\"doveadmResponse\",\"").await;
    let mut server = server.into_tcp();
    let long = [b'x'; 64 * 1024];
    while tokio::io::AsyncWriteExt::write_all(&mut server, &long).await.is_ok() {}
    drop(server);
    site.sessions(0).await;
    let lost = |line: &crate::parts::Line| line.get("ending").is_some_and(|ending| ending == "client_lost");
    until("the end of the client's connection", || !site.lines(lost).is_empty()).await;
    drop(client);
}
