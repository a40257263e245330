//! How clients come in: PROXY headers, TLS.

use std::net::SocketAddr;
use std::time::Duration;

use homing::config::{Certificate, Config, ListenerTls};
use homing::net::{OutgoingProxyHeader, ProxyTls, ServerTls, emit_proxy_header};

use crate::parts::{BALANCER, Peer, Site};

const CLIENT: &str = "192.0.2.7";

/// Writes a certificate and its key.
pub(crate) fn certificate(directory: &std::path::Path, name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["mail.test".to_owned()]).unwrap();
    let file = |end: &str| directory.join(format!("{name}.{end}"));
    let (certificate, key) = (file("pem"), file("key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Certificate { certificate, key }
}

/// A listener behind a load balancer, that takes no password in plaintext.
fn behind_a_balancer(config: &mut Config) {
    let listener = &mut config.listeners[0];
    listener.proxy_protocol = true;
    listener.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    listener.plaintext_login = false;
}

fn header(port: u16, tls: Option<&ProxyTls>, name: &[u8]) -> Vec<u8> {
    emit_proxy_header(&OutgoingProxyHeader {
        source: SocketAddr::new(CLIENT.parse().unwrap(), port),
        destination: BALANCER.parse().unwrap(),
        tls,
        authority: Some("imap.example.org"),
        unique_id: name,
    })
}

#[tokio::test]
async fn a_trusted_header_says_who_the_client_is_and_that_it_has_tls() {
    let site = Site::with(behind_a_balancer).await;
    let tls = ProxyTls { version: Some("TLSv1.3".to_owned()), ..ProxyTls::default() };
    let mut client = site.dial().await;
    let greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN";
    client.send([&header(4001, Some(&tls), b"lb-4711")[..], b"a LOGIN ann secret\r\n"].concat()).await;
    client.expect_start(greeting).await;
    let mut server = site.server.accept().await;
    let (id, _) = server.take_login().await;
    for pair in [
        "\"x-session-id\" \"lb-4711\"",
        "\"x-originating-ip\" \"192.0.2.7\"",
        "\"x-originating-port\" \"4001\"",
        "\"x-connected-ip\" \"198.51.100.1\"",
        "\"x-client-transport\" \"TLS\"",
        "\"x-connected-name\" \"imap.example.org\"",
    ] {
        assert!(id.contains(pair), "{pair}: {id}");
    }
    drop(server);
    let client = SocketAddr::new(CLIENT.parse().unwrap(), 4001);
    let line = site.expect_ending(client, ["backend_closed", "backend", "relay", "home"]).await;
    assert_eq!([&line["session"], &line["tls"], &line["local"]], ["lb-4711", "TLSv1.3", "198.51.100.1:143"]);
}

#[tokio::test]
async fn a_header_without_tls_does_not_make_a_password_safe_nor_a_wild_name_a_session_id() {
    let site = Site::with(behind_a_balancer).await;
    let mut client = site.dial().await;
    client.send([&header(4002, None, b"a\r\nb \"")[..], b"a LOGIN ann secret\r\nb LOGOUT\r\n"].concat()).await;
    client.expect_start("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID LOGINDISABLED").await;
    client.expect_start("a NO [PRIVACYREQUIRED]").await;
    client.expect_start("* BYE").await;
    let client = SocketAddr::new(CLIENT.parse().unwrap(), 4002);
    let line = site.expect_ending(client, ["client_closed", "client", "preauth", "none"]).await;
    assert_eq!(line["session"].len(), 16, "{line:?}");
}

#[tokio::test]
async fn a_health_check_with_local_is_greeted_under_its_own_address() {
    let site = Site::with(behind_a_balancer).await;
    let mut check = site.dial().await;
    check.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await;
    check.expect_start("* OK").await;
    check.half_close().await;
    check.expect_end().await;
    let line = site.expect_ending(check.address, ["client_closed", "client", "preauth", "none"]).await;
    assert_eq!(line["level"], "DEBUG");
    // One that only connects and closes is no fault either.
    let mut check = site.dial().await;
    check.half_close().await;
    check.expect_end().await;
    let line = site.expect_ending(check.address, ["client_closed", "client", "header", "none"]).await;
    assert_eq!(line["level"], "DEBUG");
}

#[tokio::test]
async fn a_header_that_is_missing_late_or_from_a_stranger_closes_the_connection() {
    let site = Site::with(behind_a_balancer).await;
    let ending = ["header_fault", "client", "header", "none"];
    let mut missing = site.dial().await;
    missing.send("a LOGIN ann secret\r\n").await;
    assert!(site.expect_ending(missing.address, ending).await["detail"].contains("no PROXY header came first"));
    let site = Site::with(|config| {
        behind_a_balancer(config);
        config.listeners[0].proxy_timeout = Duration::from_millis(200);
    })
    .await;
    let late = site.dial().await;
    assert!(site.expect_ending(late.address, ending).await["detail"].contains("proxy_timeout"));

    let site = Site::with(|config| {
        behind_a_balancer(config);
        config.listeners[0].trusted_networks = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut stranger = site.dial().await;
    stranger.send(header(4003, None, b"")).await;
    let line = site.expect_ending(stranger.address, ending).await;
    assert_eq!(line["detail"], "127.0.0.1 is not in trusted_networks");
}

#[tokio::test]
async fn starttls_makes_a_password_safe_and_the_backend_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::with(|config| {
        config.listeners[0].tls = ListenerTls::StartTls;
        config.listeners[0].plaintext_login = false;
        config.tls.certificates = vec![certificate(directory.path(), "a")];
    })
    .await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    client.expect_start("a NO [PRIVACYREQUIRED]").await;
    client.send("b STARTTLS\r\n").await;
    client.expect("b OK Begin TLS negotiation now.\r\n").await;
    client.start_tls().await;
    client.send("c LOGIN ann secret\r\nd NOOP\r\n").await;
    let mut server = site.server.accept().await;
    let (id, _) = server.take_login().await;
    assert!(id.contains("\"x-client-transport\" \"TLS\"") && id.contains("\"x-connected-name\" \"mail.test\""), "{id}");
    client.expect("c OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
    server.expect("d NOOP\r\n").await;
    drop(server);
    client.expect_end().await;
    let line = site.expect_ending(client.address, ["backend_closed", "backend", "relay", "home"]).await;
    assert_eq!(line["tls"], "TLSv1.3");
}

#[tokio::test]
async fn what_fails_before_tls_is_up_is_told_by_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::with(|config| {
        config.listeners[0].tls = ListenerTls::StartTls;
        config.tls.certificates = vec![certificate(directory.path(), "a")];
        config.limits.tls_timeout = Duration::from_millis(200);
    })
    .await;
    let mut injector = site.client().await;
    injector.send("a STARTTLS\r\nb LOGIN eve secret\r\n").await;
    injector.expect("* BYE Nothing may be sent behind STARTTLS before TLS is on.\r\n").await;
    injector.expect_end().await;
    let line = site.expect_ending(injector.address, ["client_fault", "client", "preauth", "none"]).await;
    assert_eq!(line["detail"], "plaintext behind STARTTLS");

    let begin = async || {
        let mut client: Peer = site.client().await;
        client.send("a STARTTLS\r\n").await;
        client.expect_start("a OK").await;
        client
    };
    let mut plain = begin().await;
    plain.send("b LOGIN ann secret\r\n").await;
    let line = site.expect_ending(plain.address, ["tls_failed", "client", "tls", "none"]).await;
    assert!(line["detail"].contains("plaintext"), "{line:?}");
    let silent = begin().await;
    let line = site.expect_ending(silent.address, ["tls_failed", "client", "tls", "none"]).await;
    assert!(line["detail"].contains("limits.tls_timeout"), "{line:?}");
}

#[tokio::test]
async fn a_backend_with_starttls_and_a_proxy_header_gets_both_before_any_password() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificate(directory.path(), "backend");
    let config = homing::config::TlsConfig { certificates: vec![files.clone()], ..Default::default() };
    let tls = ServerTls::new(&config).unwrap();
    let site = Site::with(|config| {
        let backend = config.backends.values_mut().next().unwrap();
        backend.tls = homing::config::BackendTls::StartTls;
        backend.tls_ca = Some(files.certificate.clone());
        backend.tls_name = Some("mail.test".to_owned());
        backend.announce.proxy = true;
    })
    .await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    let mut server = site.server.accept().await;
    let header = server.header().await;
    assert_eq!(header.source, Some(client.address));
    assert_eq!(header.destination, Some(site.address()));
    assert_eq!(header.tls, None);
    server.send("* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\r\n").await;
    server.expect("S STARTTLS\r\n").await;
    server.send("S OK go\r\n").await;
    server.accept_tls(&tls).await;
    server.expect("C CAPABILITY\r\n").await;
    server.send("* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\nC OK\r\n").await;
    server.expect_start("L AUTHENTICATE PLAIN ").await;
    server.send("L OK [CAPABILITY IMAP4rev1] in\r\n").await;
    client.expect("a OK [CAPABILITY IMAP4rev1] in\r\n").await;
    drop(server);
    let line = site.end_of(client.address).await;
    assert_eq!(header.unique_id.unwrap(), line["session"].as_bytes());
}
