//! Backends that do not behave, or are not what they should be.

use std::time::Duration;

use homing::config::BackendConfig;
use homing::model::{BackendId, Protocol};

use crate::parts::{Peer, Site, until};

const UNAVAILABLE: &str = "a NO [UNAVAILABLE] Your mailbox cannot be reached at the moment; try again later.\r\n";

fn backend(config: &mut homing::config::Config) -> &mut BackendConfig {
    config.backends.get_mut(&BackendId::new("home")).unwrap()
}

/// Logs in at a backend that says `words` instead of what it should, then closes or is silent.
async fn meets(site: &Site, words: &str, closes: bool) -> Peer {
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    let mut server = site.server.accept().await;
    server.send(words).await;
    if closes {
        server.half_close().await;
    }
    // What the proxy said is of no interest, but that it closes is; and until the server has, nobody is told.
    while !server.line().await.is_empty() {}
    drop(server);
    client.expect(UNAVAILABLE).await;
    site.sessions(0).await;
    client.send("b LOGOUT\r\n").await;
    client.expect("* BYE Logging out.\r\nb OK Logout completed.\r\n").await;
    client.expect_end().await;
    client
}

#[tokio::test]
async fn whatever_a_backend_says_instead_the_client_gets_a_temporary_failure() {
    let site = Site::with(|config| backend(config).login_timeout = Duration::from_millis(300)).await;
    let ok = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n";
    for (words, closes) in [
        (String::new(), true),                                                  // closes without a word
        (String::new(), false),                                                 // says nothing
        ("* BYE full\r\n".to_owned(), true),                                    // turns us away
        ("* PREAUTH hi\r\n".to_owned(), false),                                 // knows us already
        ("220 smtp.example.org ESMTP\r\n".to_owned(), false),                   // another protocol
        ("\0\u{1}\u{2}\r\n".repeat(10), false),                                 // nonsense
        ("* OK cut".to_owned(), true),                                          // a cut line
        ("x".repeat(20_000), false),                                            // a line without end
        (format!("{ok}* OK {{5}}\r\n"), false),                                 // a literal
        (format!("{ok}L OK"), true),                                            // cut in the answer
        (format!("{ok}Z9 OK what\r\n"), false),                                 // answers what nobody asked
        ("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\r\n".to_owned(), false), // takes no password
    ] {
        let client = meets(&site, &words, closes).await;
        site.expect_ending(client.address, ["client_closed", "client", "preauth", "backend_unavailable"]).await;
    }
}

#[tokio::test]
async fn a_backend_that_refuses_connections_is_a_temporary_failure() {
    let site = Site::with(|config| backend(config).port = 1).await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    client.expect(UNAVAILABLE).await;
    let session =
        |line: &crate::parts::Line| line["message"] == "login refused" && line["client"] == client.address.to_string();
    let refused = site.lines(session).pop().unwrap();
    assert_eq!((refused["refusal"].as_str(), refused["phase"].as_str()), ("backend_unavailable", "connect"));
    let warned = site.lines(|line| line.get("session") == refused.get("session") && line["level"] == "WARN");
    assert!(warned[0]["error"].contains("127.0.0.1:1: Connection refused"), "{warned:?}");
}

#[tokio::test]
async fn a_backend_that_closes_before_it_has_answered_is_asked_again() {
    let site = Site::with(|config| backend(config).retry_budget = Duration::from_secs(10)).await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    drop(site.server.accept().await);
    site.server.accept().await.send("* BYE too many\r\n").await;
    site.server.accept().await.take_login().await;
    client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
}

#[tokio::test]
async fn i1_a_login_that_is_given_up_counts_until_the_backend_has_closed() {
    let site = Site::with(|config| {
        backend(config).login_timeout = Duration::from_secs(3);
        config.limits.close_timeout = Duration::from_secs(60);
    })
    .await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    let mut server = site.server.accept().await;
    server.read_login().await;
    server.expect_end().await; // its time is over, and the proxy has closed its side
    assert_eq!(site.holding().sessions, 1);
    client.expect_silence().await;
    drop(server);
    client.expect(UNAVAILABLE).await;
    site.sessions(0).await;
}

#[tokio::test]
async fn a_backend_that_hangs_at_the_close_is_reset_in_the_end() {
    let site = Site::with(|config| config.limits.close_timeout = Duration::from_millis(200)).await;
    let mut client = site.client().await;
    let mut server = client.log_in("ann", &site.server).await;
    let address = client.reset();
    server.expect_end().await;
    site.expect_ending(address, ["client_lost", "client", "relay", "home"]).await;
    site.sessions(0).await;
}

#[tokio::test]
async fn a_backend_that_leads_back_to_this_proxy_is_found_out() {
    let site = Site::start().await;
    let mut looped = site.config.clone();
    let mut back = backend(&mut looped).clone();
    back.port = site.address().port();
    backend(&mut looped).drain = true;
    looped.backends.insert(BackendId::new("back"), back);
    site.proxy.reload(looped).await.unwrap();
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    client.expect(UNAVAILABLE).await;
    let found =
        site.lines(|line| line.get("error").is_some_and(|error| error.contains("is this proxy's own listener")));
    assert!(found.iter().any(|line| line["level"] == "ERROR" && line["error"].contains(&site.address().to_string())));
}

#[tokio::test]
async fn a_ttl_that_a_client_names_shortens_the_way_and_never_lengthens_it() {
    let site = Site::start().await;
    for (given, announced) in [("2", Some("1")), ("99", Some("4")), ("nonsense", Some("4")), ("0", None)] {
        let mut client = site.client().await;
        client.send(format!("i ID (\"X-Proxy-TTL\" \"{given}\")\r\na LOGIN ann secret\r\n")).await;
        client.expect("* ID (\"name\" \"homing\")\r\ni OK ID completed.\r\n").await;
        let Some(announced) = announced else {
            client.expect(UNAVAILABLE).await;
            site.server.expect_nobody().await;
            continue;
        };
        let (id, _) = site.server.accept().await.take_login().await;
        assert!(id.contains(&format!("\"x-proxy-ttl\" \"{announced}\"")), "{given}: {id}");
        assert_eq!(id.to_lowercase().matches("x-proxy-ttl").count(), 1);
        client.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
    }
}

#[tokio::test]
async fn a_name_is_tried_at_all_its_addresses() {
    // localhost is ::1 first on many systems, and the server listens on 127.0.0.1 alone.
    let site = Site::with(|config| backend(config).host = "localhost".to_owned()).await;
    let mut client = site.client().await;
    client.log_in("ann", &site.server).await;
    until("the session is counted", || site.holding().sessions == 1).await;
}

#[test]
fn a_host_of_the_passdb_is_found_by_name_and_by_any_spelling_of_its_address() {
    let mut config = crate::parts::config("[2001:db8::1]:143".parse().unwrap());
    let named = |config: &homing::config::Config, host: &str, port| {
        let servers = homing::backend::Servers::new(&config.backends, config.served()).unwrap();
        servers.named(host, Protocol::Imap, port).is_some()
    };
    for host in ["home", "2001:db8::1", "[2001:db8::1]", "[2001:DB8:0::1]"] {
        assert!(named(&config, host, None), "{host}");
    }
    assert!(named(&config, "[2001:db8::1]", Some(143)) && !named(&config, "[2001:db8::1]", Some(1143)));
    backend(&mut config).host = "Mail.Example.Org".to_owned();
    assert!(named(&config, "mail.example.org", None) && !named(&config, "mail2.example.org", None));
}
