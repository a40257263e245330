//! Submission, where its words make a difference.

use std::time::Duration;

use homing::config::{Config, FilePassdb, PassdbConfig};
use homing::model::{BackendId, Ending, Protocol};

use crate::parts::{Peer, Server, Site};

const LOGIN: &str = "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n";
const XCLIENT: &str = "XCLIENT ADDR PORT HELO PROTO LOGIN SESSION TTL FORWARD";

/// A site that speaks submission to both sides.
async fn site() -> Site {
    Site::with(speak_submission).await
}

fn speak_submission(config: &mut Config) {
    config.name = "proxy.test".to_owned();
    config.listeners[0].protocol = Protocol::Submission;
    let backend = config.backends.get_mut(&BackendId::new("home")).unwrap();
    backend.submission.port = backend.port;
}

/// The same, with a passdb that knows ann and what `fields` say of her.
async fn site_with(fields: &str, change: impl FnOnce(&mut Config)) -> (Site, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::fs::write(&path, format!("ann:{{PLAIN}}secret::::::{fields}\n")).unwrap();
    let site = Site::with(|config| {
        speak_submission(config);
        config.passdb = vec![PassdbConfig::File(FilePassdb {
            path,
            default_scheme: "PLAIN".to_owned(),
            master: false,
            cache: false,
        })];
        change(config);
    })
    .await;
    (site, directory)
}

/// A client that has introduced itself.
async fn client(site: &Site, name: &str) -> Peer {
    let mut client = site.dial().await;
    client.expect("220 proxy.test ESMTP homing ready\r\n").await;
    client.send(format!("EHLO {name}\r\n")).await;
    client.expect("250-proxy.test\r\n").await;
    while client.line().await.starts_with("250-") {}
    client
}

/// Greets as a server that trusts the proxy, up to XCLIENT, which is refused to nobody. Gives its commands, and the name
/// of the EHLO behind them.
async fn be_told(server: &Server, keywords: &str) -> (Peer, Vec<String>, String) {
    let mut backend = server.accept().await;
    backend.send("220 home ready\r\n").await;
    let mut told = Vec::new();
    loop {
        let line = backend.line().await;
        if line.starts_with("XCLIENT ") {
            told.push(line);
            backend.send("220 home ready\r\n").await;
            continue;
        }
        let name = line.strip_prefix("EHLO ").unwrap_or_else(|| panic!("{line:?}")).trim().to_owned();
        if !told.is_empty() {
            backend.send(format!("250-home\r\n{keywords}250 AUTH PLAIN\r\n")).await;
            return (backend, told, name);
        }
        backend.send(format!("250-home\r\n250 {XCLIENT}\r\n")).await;
    }
}

/// A server up to the login, which it takes.
async fn let_in(server: &Server, keywords: &str) -> Peer {
    let mut backend = be_told(server, keywords).await.0;
    backend.expect(LOGIN).await;
    backend.send("235 2.7.0 Welcome.\r\n").await;
    backend
}

#[tokio::test]
async fn a_login_reaches_the_backend_with_name_and_address_and_what_was_pipelined_follows() {
    let site = site().await;
    let mut client = client(&site, "laptop.test").await;
    client.send(format!("{LOGIN}MAIL FROM:<ann@test>\r\nRCPT TO:<bob@test>\r\nDATA\r\n")).await;
    let (mut backend, told, name) = be_told(&site.server, "").await;
    backend.expect(LOGIN).await;
    backend.expect_silence().await;
    backend.send("235 2.7.0 Welcome.\r\n").await;
    backend.expect("MAIL FROM:<ann@test>\r\nRCPT TO:<bob@test>\r\nDATA\r\n").await;
    client.expect("235 2.7.0 Welcome.\r\n").await;
    let session = site.holding().sessions;
    assert_eq!((name.as_str(), session, told.len()), ("laptop.test", 1, 1));
    let start =
        format!("XCLIENT HELO=laptop.test PROTO=ESMTP TTL=4 PORT={} ADDR=127.0.0.1 SESSION=", client.address.port());
    assert!(told[0].starts_with(&start), "{told:?}");
    client.half_close().await;
    backend.expect_end().await;
    drop(backend);
    let line = site.expect_ending(client.address, ["client_closed", "client", "relay", "home"]).await;
    assert_eq!((line["protocol"].as_str(), line["mechanism"].as_str()), ("submission", "PLAIN"));
    assert!(told[0].contains(&format!(" SESSION={}\r\n", line["session"])), "{told:?} {line:?}");
}

#[tokio::test]
async fn what_does_not_fit_in_512_bytes_is_told_in_a_second_command() {
    let note = "n".repeat(180);
    let (site, _directory) = site_with(&format!("forward_note={note} forward_x=1"), |_| ()).await;
    let name = "h".repeat(255);
    let mut client = client(&site, &name).await;
    client.send(LOGIN).await;
    let (mut backend, told, again) = be_told(&site.server, "").await;
    assert_eq!((told.len(), again.as_str()), (2, name.as_str()));
    assert!(told.iter().all(|command| command.len() <= 512), "{told:?}");
    assert!(told[0].starts_with(&format!("XCLIENT HELO={name} PROTO=ESMTP TTL=4 ")), "{told:?}");
    // base64 of `note=nnn...`, in a command of its own
    assert!(told[1].starts_with("XCLIENT FORWARD=bm90ZT1ubm5u"), "{told:?}");
    backend.expect(LOGIN).await;
    backend.send("235 OK\r\n").await;
    client.expect("235 OK\r\n").await;
}

#[tokio::test]
async fn a_backend_without_logins_takes_our_word_for_a_user_whose_password_was_checked_here() {
    let noauth = |config: &mut Config| {
        config.backends.values_mut().for_each(|backend| backend.submission_noauth = true);
    };
    for (fields, change) in [("proxy_noauth", (|_| ()) as fn(&mut Config)), ("pool=default", noauth)] {
        let (site, _directory) = site_with(fields, change).await;
        let mut client = client(&site, "laptop").await;
        client.send("AUTH PLAIN AGFubgB3cm9uZw==\r\n").await;
        client.expect("535 5.7.8 Wrong user name or password.\r\n").await;
        client.send(format!("{LOGIN}NOOP\r\n")).await;
        let (mut backend, told, _) = be_told(&site.server, "").await;
        assert!(told[0].starts_with("XCLIENT HELO=laptop PROTO=ESMTP LOGIN=ann TTL=4 "), "{told:?}");
        client.expect("235 2.7.0 Logged in.\r\n").await;
        backend.expect("NOOP\r\n").await;
    }
}

#[tokio::test]
async fn nobody_comes_in_where_nobody_would_have_checked_the_password() {
    let backend_decides = Site::with(|config| {
        speak_submission(config);
        config.backends.values_mut().for_each(|backend| backend.submission_noauth = true);
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::fs::write(&path, "ann:::::::nopassword proxy_noauth\n").unwrap();
    let any_password = Site::with(|config| {
        speak_submission(config);
        config.passdb = vec![PassdbConfig::File(FilePassdb {
            path,
            default_scheme: "PLAIN".to_owned(),
            master: false,
            cache: false,
        })];
    })
    .await;
    for site in [backend_decides, any_password] {
        let mut client = client(&site, "laptop").await;
        client.send(LOGIN).await;
        client.expect("454 4.7.0 Your mail server cannot be reached at the moment; try again later.\r\n").await;
        site.server.expect_nobody().await;
        site.sessions(0).await;
        client.send("QUIT\r\n").await;
        client.expect("221 2.0.0 Bye.\r\n").await;
        let line = site.end_of(client.address).await;
        let said = site.lines(|said| said["level"] == "ERROR" && said.get("session") == line.get("session"));
        assert!(said[0]["message"].starts_with("nobody would check the password"), "{said:?}");
    }
}

#[tokio::test]
async fn what_backends_offer_is_shown_to_the_next_client() {
    let site = site().await;
    let mut first = client(&site, "one").await;
    first.send(LOGIN).await;
    let _backend = let_in(&site.server, "250-SIZE 1000\r\n250-STARTTLS\r\n250-DSN\r\n250-XCLIENT ADDR\r\n").await;
    first.expect("235 2.7.0 Welcome.\r\n").await;
    let mut second = site.dial().await;
    second.send("EHLO two\r\n").await;
    second.expect("220 proxy.test ESMTP homing ready\r\n").await;
    second.expect("250-proxy.test\r\n250-SIZE 1000\r\n250-DSN\r\n250-AUTH PLAIN LOGIN\r\n250 XCLIENT TTL\r\n").await;
}

#[tokio::test]
async fn a_backend_that_is_down_is_a_temporary_failure_and_one_that_refuses_says_so_itself() {
    let site = site().await;
    let mut client = client(&site, "laptop").await;
    for words in ["", "421 4.3.2 Too busy\r\n", "554 5.3.2 Never\r\n"] {
        client.send(LOGIN).await;
        let mut backend = site.server.accept().await;
        backend.send(words).await;
        backend.half_close().await;
        while !backend.line().await.is_empty() {}
        drop(backend);
        client.expect("454 4.7.0 Your mail server cannot be reached at the moment; try again later.\r\n").await;
        if words.is_empty() {
            // Three refusals would be too many.
            client = self::client(&site, "laptop").await;
        }
    }
    let mut client = self::client(&site, "laptop").await;
    for (theirs, ours) in [
        ("535-5.7.8 No,\r\n535 5.7.8 not you.\r\n", "535 5.7.8 not you.\r\n"),
        ("421 4.3.2 Full\r\n", "454 4.3.2 Full\r\n"),
    ] {
        client.send(LOGIN).await;
        let mut backend = be_told(&site.server, "").await.0;
        backend.expect(LOGIN).await;
        backend.send(theirs).await;
        client.expect(ours).await;
    }
    site.sessions(0).await;
}

#[tokio::test]
async fn a_user_who_is_kicked_hears_421() {
    let site = site().await;
    let mut client = client(&site, "laptop").await;
    client.send(LOGIN).await;
    let mut backend = let_in(&site.server, "").await;
    client.expect("235 2.7.0 Welcome.\r\n").await;
    site.proxy.fleet().shards()[0].ledger.close_all(Ending::Kicked);
    client.expect("421 4.3.2 Your mailbox has moved; connect again.\r\n").await;
    backend.expect_end().await;
    drop(backend);
    site.expect_ending(client.address, ["kicked", "proxy", "relay", "home"]).await;
}

#[tokio::test]
async fn a_proxy_that_goes_down_says_421_to_everybody() {
    let site = site().await;
    let (mut idle, mut inside) = (client(&site, "one").await, client(&site, "two").await);
    inside.send(LOGIN).await;
    let mut backend = let_in(&site.server, "").await;
    inside.expect("235 2.7.0 Welcome.\r\n").await;
    let talk = async {
        for client in [&mut idle, &mut inside] {
            client.expect("421 4.3.2 This server is going down; connect again.\r\n").await;
        }
        backend.expect_end().await;
        drop(backend);
    };
    tokio::join!(site.proxy.stop(), talk);
}

#[tokio::test]
async fn a_probe_introduces_itself_by_the_name_of_this_proxy() {
    let site = Site::with(|config| {
        speak_submission(config);
        config.health.fast_interval = Duration::from_millis(100);
        config.backends.values_mut().for_each(|backend| backend.probe = true);
    })
    .await;
    let mut backend = site.server.accept().await;
    backend.send("220 home ready\r\n").await;
    backend.expect("EHLO proxy.test\r\n").await;
}
