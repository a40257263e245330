//! ManageSieve, where its words make a difference.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homing::config::Config;
use homing::model::{BackendId, Protocol};

use crate::parts::{Peer, Site};

const CAPABILITIES: &str = "\"IMPLEMENTATION\" \"Pigeonhole\"\r\n\"SIEVE\" \"fileinto date\"\r\n\"SASL\" \"PLAIN\"\r\n\
                            \"STARTTLS\"\r\n\"VERSION\" \"1.0\"\r\n\"XCLIENT\"\r\n";
const LOGIN: &str = "AUTHENTICATE \"PLAIN\" \"AGFubgBzZWNyZXQ=\"\r\n";

/// A site that speaks ManageSieve to both sides.
async fn site(change: impl FnOnce(&mut Config)) -> Site {
    Site::with(|config| {
        config.listeners[0].protocol = Protocol::Sieve;
        let backend = config.backends.get_mut(&BackendId::new("home")).unwrap();
        backend.sieve.port = backend.port;
        change(config);
    })
    .await
}

fn greeting(implementation: &str, extensions: &str) -> String {
    format!(
        "\"IMPLEMENTATION\" \"{implementation}\"\r\n\"SIEVE\" \"{extensions}\"\r\n\"VERSION\" \"1.0\"\r\n\
         \"SASL\" \"PLAIN LOGIN\"\r\n\"XCLIENT\"\r\nOK \"homing ready\"\r\n"
    )
}

async fn client(site: &Site) -> Peer {
    let mut client = site.dial().await;
    client.expect(&greeting("homing", "fileinto envelope vacation")).await;
    client
}

/// Greets as a server that trusts the proxy, and reads up to the login. Gives XCLIENT and who logs in.
async fn read_login(site: &Site) -> (Peer, String, String) {
    let mut backend = site.server.accept().await;
    backend.send(format!("{CAPABILITIES}OK \"ready\"\r\n")).await;
    let xclient = backend.expect_start("XCLIENT ").await;
    let login = backend.expect_start("AUTHENTICATE \"PLAIN\" ").await;
    let login = STANDARD.decode(login["AUTHENTICATE \"PLAIN\" ".len()..].trim().trim_matches('"')).unwrap();
    (backend, xclient, String::from_utf8(login).unwrap())
}

#[tokio::test]
async fn a_login_reaches_the_backend_with_the_clients_address_and_what_was_pipelined_follows() {
    let site = site(|_| ()).await;
    let mut client = client(&site).await;
    client.send(format!("{LOGIN}PUTSCRIPT \"x\" {{5+}}\r\nkeep;\r\n")).await;
    let (mut backend, xclient, login) = read_login(&site).await;
    backend.expect_silence().await;
    backend.send("OK \"Updated\"\r\nOK (WARNINGS) \"Logged in.\"\r\n").await;
    backend.expect("PUTSCRIPT \"x\" {5+}\r\nkeep;\r\n").await;
    client.expect("OK (WARNINGS) \"Logged in.\"\r\n").await;
    assert_eq!(login, "\0ann\0secret");
    for field in [format!("ADDR={}", client.address.ip()), format!("PORT={}", client.address.port()), "TTL=4".into()] {
        assert!(xclient.contains(&format!(" {field}")), "{xclient}");
    }
    client.half_close().await;
    backend.expect_end().await;
    drop(backend);
    let line = site.expect_ending(client.address, ["client_closed", "client", "relay", "home"]).await;
    assert_eq!((line["protocol"].as_str(), line["mechanism"].as_str()), ("sieve", "PLAIN"));
}

#[tokio::test]
async fn nothing_of_the_backends_capabilities_comes_to_the_client_however_they_come() {
    let site = site(|_| ()).await;
    let listed = format!("{CAPABILITIES}OK \"These were mine.\"\r\n");
    let updated = "OK \"Updated\"\r\n";
    for before in [format!("{updated}{listed}"), listed.clone(), format!("{updated}{listed}{listed}")] {
        for piece in [usize::MAX, 1, 50] {
            let mut client = site.dial().await;
            client.send(format!("{LOGIN}NOOP \"now\"\r\n")).await;
            let (mut backend, ..) = read_login(&site).await;
            for bytes in before.as_bytes().chunks(piece.min(before.len())) {
                backend.send(bytes).await;
            }
            backend.expect_silence().await; // what the client sent waits for the answer to the login
            backend.send("OK \"Logged in.\"\r\n").await;
            backend.expect("NOOP \"now\"\r\n").await;
            backend.send("OK (TAG \"now\") \"Done.\"\r\n").await;
            while client.line().await != "OK \"homing ready\"\r\n" {}
            client.expect("OK \"Logged in.\"\r\nOK (TAG \"now\") \"Done.\"\r\n").await;
        }
    }
}

#[tokio::test]
async fn clients_are_told_what_backends_offer_and_what_the_operator_wants() {
    let site = site(|config| config.sieve.implementation = Some("Mail".to_owned())).await;
    let mut first = site.dial().await;
    first.expect(&greeting("Mail", "fileinto envelope vacation")).await;
    first.send(LOGIN).await;
    let (mut backend, ..) = read_login(&site).await;
    backend.send("OK\r\nNO \"Wrong.\"\r\n").await;
    first.expect("NO \"Wrong.\"\r\n").await;
    site.dial().await.expect(&greeting("Mail", "fileinto date")).await;

    let mut changed = site.config.clone();
    changed.sieve.implementation = None;
    changed.sieve.extensions = vec!["copy".to_owned()];
    site.proxy.reload(changed).await.unwrap();
    site.dial().await.expect(&greeting("Pigeonhole", "copy")).await;
}

#[tokio::test]
async fn a_proxy_that_goes_down_says_so_to_whoever_is_logged_in() {
    let site = site(|_| ()).await;
    let mut client = client(&site).await;
    client.send(LOGIN).await;
    let (mut backend, ..) = read_login(&site).await;
    backend.send("OK\r\nOK \"Hi.\"\r\n").await;
    client.expect("OK \"Hi.\"\r\n").await;
    let talk = async {
        backend.expect_end().await;
        drop(backend);
    };
    tokio::join!(site.proxy.stop(), talk);
    client.expect("BYE (TRYLATER) \"This server is going down; connect again.\"\r\n").await;
    client.expect_end().await;
}
