//! Logins that go well, and refusals by the backend.

use std::sync::Arc;
use std::time::Duration;

use homing::config::{FilePassdb, Master, PassdbConfig};
use homing::model::Secret;

use crate::parts::{Site, until};

#[tokio::test]
async fn a_login_reaches_the_backend_with_the_clients_address_and_leaves_one_line() {
    let site = Site::start().await;
    let mut client = site.client().await;
    client.send("i ID (\"name\" \"mutt\")\r\na LOGIN Ann secret\r\n").await;
    client.expect("* ID (\"name\" \"homing\")\r\ni OK ID completed.\r\n").await;
    let mut server = site.server.accept().await;
    let (id, login) = server.take_login().await;
    assert_eq!(login, ["", "ann", "secret"]);
    client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
    client.send("b NOOP\r\n").await;
    server.expect("b NOOP\r\n").await;
    server.send("b OK done\r\n").await;
    client.expect("b OK done\r\n").await;
    client.half_close().await;
    server.expect_end().await;
    drop(server);
    client.expect_end().await;

    let line = site.expect_ending(client.address, ["client_closed", "client", "relay", "home"]).await;
    for (field, value) in [
        ("user", "ann"),
        ("key", "ann"),
        ("protocol", "imap"),
        ("mechanism", "command"),
        ("tls", "none"),
        ("in_bytes", "8"),
        ("out_bytes", "11"),
        ("local", &site.address().to_string()),
        ("backend_address", &site.server.address.to_string()),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    for (field, value) in [
        ("x-session-id", line["session"].as_str()),
        ("x-originating-ip", "127.0.0.1"),
        ("x-originating-port", &client.address.port().to_string()),
        ("x-connected-port", &site.address().port().to_string()),
        ("x-proxy-ttl", "4"),
        ("x-client-transport", "insecure"),
        ("name", "mutt"),
    ] {
        assert!(id.contains(&format!("\"{field}\" \"{value}\"")), "{field} {value}: {id}");
    }
    assert!(site.lines(|line| line.values().any(|value| value.contains("secret"))).is_empty());
    site.sessions(0).await;
}

#[tokio::test]
async fn bytes_behind_the_login_reach_the_backend_after_its_ok_and_not_before() {
    let site = Site::start().await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\nb SELECT INBOX\r\nc IDLE\r\n").await;
    let mut server = site.server.accept().await;
    server.read_login().await;
    server.expect_silence().await;
    server.send("I OK done\r\nL OK [CAPABILITY IMAP4rev1] in\r\n* 3 EXISTS\r\n").await;
    server.expect("b SELECT INBOX\r\nc IDLE\r\n").await;
    client.expect("a OK [CAPABILITY IMAP4rev1] in\r\n* 3 EXISTS\r\n").await;
}

#[tokio::test]
async fn one_byte_at_a_time_is_as_good_as_whole_lines() {
    let site = Site::start().await;
    let mut client = site.client().await;
    for byte in b"a LOGIN {3}\r\n" {
        client.send([*byte]).await;
    }
    client.expect("+ OK\r\n").await;
    for byte in b"ann secret\r\nb NOOP\r\n" {
        client.send([*byte]).await;
    }
    let mut server = site.server.accept().await;
    assert_eq!(server.take_login().await.1[1], "ann");
    client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
    server.expect("b NOOP\r\n").await;
}

#[tokio::test]
async fn a_client_that_closes_its_side_behind_its_commands_gets_every_answer() {
    let site = Site::start().await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\nb FETCH 1 BODY[]\r\nc LOGOUT\r\n").await;
    client.half_close().await;
    let mut server = site.server.accept().await;
    server.take_login().await;
    server.expect("b FETCH 1 BODY[]\r\nc LOGOUT\r\n").await;
    server.expect_end().await;
    server.send("* 1 FETCH\r\nb OK\r\n* BYE\r\nc OK\r\n").await;
    drop(server);
    client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n* 1 FETCH\r\nb OK\r\n* BYE\r\nc OK\r\n").await;
    client.expect_end().await;
    site.expect_ending(client.address, ["client_closed", "client", "relay", "home"]).await;
}

#[tokio::test]
async fn the_backends_refusal_comes_in_the_clients_tag_and_leaves_no_binding() {
    let site = Site::start().await;
    let mut client = site.client().await;
    client.send("x1 LOGIN ann wrong\r\n").await;
    let mut server = site.server.accept().await;
    server.answer_login("L NO [AUTHENTICATIONFAILED] Not you.\r\n").await;
    client.expect("x1 NO [AUTHENTICATIONFAILED] Not you.\r\n").await;
    site.sessions(0).await;
    until("everything is declared", || site.holding().dirty == 0).await;
    assert_eq!(site.home("ann").await, None);

    let mut server = client.log_in("ann", &site.server).await;
    assert_eq!(site.home("ann").await.unwrap().sessions, 1);
    server.send("* BYE see you\r\n").await;
    drop(server);
    client.expect("* BYE see you\r\n").await;
    site.expect_ending(client.address, ["backend_closed", "backend", "relay", "home"]).await;
}

#[tokio::test]
async fn a_client_that_is_refused_too_often_is_told_so_and_closed() {
    let site = Site::with(|config| config.limits.failures = 2).await;
    let mut client = site.client().await;
    for last in [false, true] {
        client.send("a LOGIN ann wrong\r\n").await;
        let mut server = site.server.accept().await;
        server.answer_login("L NO no\r\n").await;
        client.expect("a NO no\r\n").await;
        if last {
            client.expect("* BYE Too many failed logins; connect again later.\r\n").await;
        }
    }
    client.expect_end().await;
    let line = site.expect_ending(client.address, ["too_many_failures", "client", "connect", "bad_credentials"]).await;
    assert_eq!((line["message"].as_str(), line["level"].as_str()), ("no login", "INFO"));
}

#[tokio::test]
async fn a_second_session_joins_the_first_and_both_are_counted_until_the_backend_has_closed() {
    let site = Site::start().await;
    let (mut one, mut two) = (site.client().await, site.client().await);
    let mut first = one.log_in("ann", &site.server).await;
    let mut second = two.log_in("ANN", &site.server).await;
    site.sessions(2).await;
    one.half_close().await;
    first.expect_end().await;
    two.half_close().await;
    second.expect_end().await;
    // The clients have gone; the backend has not closed.
    assert_eq!(site.holding().sessions, 2);
    drop((first, second));
    site.sessions(0).await;
}

#[tokio::test]
async fn a_passdb_decides_about_name_password_and_host() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let site = Site::with(|config| {
        config.passdb = vec![PassdbConfig::File(FilePassdb {
            path: path.clone(),
            default_scheme: "PLAIN".to_owned(),
            master: false,
            cache: false,
        })];
        config.backends.values_mut().next().unwrap().retry_budget = Duration::ZERO;
    })
    .await;
    let outside = crate::parts::Server::open().await;
    let users = format!(
        "ann:{{PLAIN}}secret::::::destuser=anna pass=other master=boss\nbob:{{PLAIN}}secret::::::host=[127.0.0.1] port={}\n",
        outside.address.port()
    );
    std::fs::write(&path, users).unwrap();
    site.proxy.reload(site.config.clone()).await.unwrap();

    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    let mut server = site.server.accept().await;
    assert_eq!(server.take_login().await.1, ["anna", "boss", "other"]);
    client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
    assert_eq!(site.home("anna").await.unwrap().backend.unwrap().as_str(), "home");
    drop((client, server));
    site.sessions(0).await;

    // A host that the table lacks is obeyed and never stored; the session still ends when the proxy does.
    let mut client = site.client().await;
    let mut server = client.log_in("bob", &outside).await;
    assert_eq!(site.home("bob").await, None);
    let (client, ()) = tokio::join!(
        async {
            client.expect_start("* BYE [UNAVAILABLE]").await;
            server.expect_end().await;
            drop(server);
            client
        },
        site.proxy.stop()
    );
    site.expect_ending(client.address, ["shutdown", "proxy", "relay", "127.0.0.1"]).await;
}

/// What the backend hears of logins with a name and a password that nobody here knows, where it has a master user.
async fn heard_of_the_unproven(users: Option<&str>) -> (Site, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let site = Site::with(|config| {
        if let Some(users) = users {
            std::fs::write(&path, users).unwrap();
            let default_scheme = "PLAIN".to_owned();
            config.passdb = vec![PassdbConfig::File(FilePassdb { path, default_scheme, master: false, cache: false })];
        }
        let password = Arc::new(Secret::new(b"master's".to_vec()));
        config.backends.values_mut().next().unwrap().master = Some(Master { user: "boss".to_owned(), password });
    })
    .await;
    (site, directory)
}

#[tokio::test]
async fn whom_nobody_has_checked_is_not_let_in_by_the_backends_master_user() {
    for users in [None, Some("ann:::::::nopassword\n")] {
        let (site, _directory) = heard_of_the_unproven(users).await;
        let mut client = site.client().await;
        client.send("a LOGIN ann guess\r\n").await;
        assert_eq!(site.server.accept().await.take_login().await.1, ["", "ann", "guess"], "{users:?}");
        client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
    }
    let (site, _directory) = heard_of_the_unproven(None).await;
    let mut client = site.client().await;
    client.send("a AUTHENTICATE PLAIN YW5uAGV2ZQB4\r\n").await; // eve as ann
    assert_eq!(site.server.accept().await.take_login().await.1, ["ann", "eve", "x"]);
}

#[tokio::test]
async fn a_passdbs_password_is_not_for_whom_nobody_has_checked() {
    let (site, _directory) = heard_of_the_unproven(Some("ann:::::::nopassword pass=other\n")).await;
    let mut client = site.client().await;
    client.send("a LOGIN ann guess\r\n").await;
    client.expect_start("a NO [UNAVAILABLE]").await;
    site.server.expect_nobody().await;
}

#[tokio::test]
async fn the_affinity_key_is_what_the_template_makes_of_the_name_at_the_backend() {
    let site = Site::with(|config| {
        config.fleet.affinity_key = homing::model::KeyTemplate::parse("{domain}", true, None).unwrap();
        config.limits.sessions_per_key = 1;
    })
    .await;
    let mut client = site.client().await;
    let _server = client.log_in("ann@Example.org", &site.server).await;
    assert_eq!(site.home("example.org").await.unwrap().sessions, 1);
    let mut other = site.client().await;
    other.send("a LOGIN bob@example.org secret\r\n").await;
    other.expect_start("a NO [LIMIT]").await;
}
