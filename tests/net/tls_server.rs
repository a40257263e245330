//! TLS towards clients: which certificate, which version, which client.

use homing::config::{ClientAuth, TlsConfig, TlsVersion};
use homing::net::{ProxyTls, ServerTls, Stream, TlsFault};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::SignatureScheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wire::{Authority, Client, V12, V13, greet, meet, meet_with, pair, settings, was_shown};

#[tokio::test]
async fn sni_picks_by_exact_name_then_wildcard_then_the_first() {
    let authority = Authority::new("us");
    let first = authority.issue("first", "first", &["mail.example.org"]);
    let wildcard = authority.issue("wildcard", "wildcard", &["*.Example.Net", "example.net"]);
    let exact = authority.issue("exact", "exact", &["imap.example.net"]);
    let by_common_name = authority.issue("cn", "Old.Example.Com", &[]);
    let server = ServerTls::new(&settings([&first, &wildcard, &exact, &by_common_name])).unwrap();

    let client = Client::default().build();
    for (name, expected) in [
        ("mail.example.org", &first),
        ("imap.example.net", &exact),
        ("IMAP.Example.NET", &exact),
        ("pop.example.net", &wildcard),
        ("example.net", &wildcard),
        ("a.b.example.net", &first),
        ("old.example.com", &by_common_name),
        ("elsewhere.test", &first),
        ("127.0.0.1", &first),
    ] {
        let (_, facts, connection) = greet(&server, &client, name).await;
        assert!(was_shown(&connection, expected), "{name}");
        let asked = (name != "127.0.0.1").then(|| name.to_ascii_lowercase());
        assert_eq!(facts.server_name, asked, "{name}");
    }
}

#[tokio::test]
async fn a_client_gets_the_key_type_that_it_can_check() {
    let authority = Authority::new("us");
    let of = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    let ecdsa = authority.issue_for(of(&PKCS_ECDSA_P256_SHA256), "ecdsa", "mail", &["mail.test"]);
    let rsa = authority.issue_for(of(&PKCS_RSA_SHA256), "rsa", "mail", &["mail.test"]);
    let server = ServerTls::new(&settings([&ecdsa, &rsa])).unwrap();
    let old = Client { schemes: Some(vec![SignatureScheme::RSA_PSS_SHA256]), ..Client::default() }.build();
    for name in ["mail.test", "unknown.test"] {
        let (_, _, connection) = greet(&server, &Client::default().build(), name).await;
        assert!(was_shown(&connection, &ecdsa), "{name}");
        let (_, _, connection) = greet(&server, &old, name).await;
        assert!(was_shown(&connection, &rsa), "{name}");
    }
}

#[tokio::test]
async fn the_facts_name_version_and_cipher_as_the_registry_does() {
    let authority = Authority::new("us");
    let server = ServerTls::new(&settings([&authority.issue("a", "a", &["a.test"])])).unwrap();
    let (_, facts, _) = greet(&server, &Client::default().build(), "a.test").await;
    assert_eq!(facts.version, "TLSv1.3");
    assert!(facts.cipher.starts_with("TLS_AES_"), "{}", facts.cipher);
    let old = Client { versions: &V12, ..Client::default() }.build();
    let (_, facts, _) = greet(&server, &old, "a.test").await;
    assert_eq!(facts.version, "TLSv1.2");
    assert!(facts.cipher.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{}", facts.cipher);
    assert!(!facts.verified);
}

/// A ClientHello of TLS 1.1 (RFC 4346), written by hand, for no library here speaks it any more.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut body = vec![0x03, 0x02]; // the version
    body.extend([0x5a; 32]); // random
    body.extend([0]); // no session
    body.extend([0, 4, 0xc0, 0x13, 0x00, 0x2f]); // ECDHE_RSA and RSA with AES_128_CBC_SHA
    body.extend([1, 0]); // no compression
    body.extend([0, 8, 0, 10, 0, 4, 0, 2, 0, 23]); // one extension: the curve P-256
    let mut hello = vec![0x16, 0x03, 0x01];
    hello.extend((body.len() as u16 + 4).to_be_bytes());
    hello.extend([1, 0]);
    hello.extend((body.len() as u16).to_be_bytes());
    hello.extend(body);
    hello
}

#[tokio::test]
async fn tls_1_1_is_refused_with_a_fatal_alert() {
    let authority = Authority::new("us");
    let server = ServerTls::new(&settings([&authority.issue("a", "a", &["a.test"])])).unwrap();
    let (mut near, far) = pair().await;
    near.write_all(&hello_of_tls_1_1()).await.unwrap();
    let fault = server.accept(far, &[]).await.err().unwrap();
    assert!(matches!(fault, TlsFault::Outdated(_)), "{fault}");
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    let [0x15, 0x03, _, 0, 2, 2, alert] = answer[..] else { panic!("no fatal alert: {answer:02x?}") };
    assert!(matches!(alert, 40 | 70), "handshake_failure or protocol_version (RFC 8446 6.2), not {alert}");
}

#[tokio::test]
async fn a_minimum_of_1_3_refuses_1_2_and_takes_1_3() {
    let authority = Authority::new("us");
    let config = TlsConfig { min_version: TlsVersion::V13, ..settings([&authority.issue("a", "a", &["a.test"])]) };
    let server = ServerTls::new(&config).unwrap();
    let old = Client { versions: &V12, ..Client::default() }.build();
    let (served, connected) = meet(&server, &old, "a.test").await;
    assert!(matches!(served, Err(TlsFault::Outdated(_))));
    assert!(connected.is_err());
    let (_, facts, _) = greet(&server, &Client { versions: &V13, ..Client::default() }.build(), "a.test").await;
    assert_eq!(facts.version, "TLSv1.3");
}

#[tokio::test]
async fn each_listener_has_its_own_alpn() {
    let authority = Authority::new("us");
    let server = ServerTls::new(&settings([&authority.issue("a", "a", &["a.test"])])).unwrap();
    let imap = Client { alpn: &["imap"], ..Client::default() }.build();
    let web = Client { alpn: &["h2"], ..Client::default() }.build();
    let silent = Client::default().build();
    let alpn = async |offered: &'static [&'static str], client| {
        meet_with(&server, offered, client, "a.test").await.0.map(|(_, facts)| facts.alpn)
    };
    assert_eq!(alpn(&["imap"], &imap).await.unwrap().as_deref(), Some("imap"));
    assert_eq!(alpn(&["imap"], &silent).await.unwrap(), None);
    assert!(matches!(alpn(&["imap"], &web).await, Err(TlsFault::Handshake(_))));
    assert_eq!(alpn(&[], &web).await.unwrap(), None);
    assert_eq!(alpn(&["pop3", "imap"], &imap).await.unwrap().as_deref(), Some("imap"));
}

#[tokio::test]
async fn a_requested_certificate_may_be_missing_but_not_wrong() {
    let (us, clients, strangers) = (Authority::new("us"), Authority::new("clients"), Authority::new("strangers"));
    let config = TlsConfig {
        client_auth: ClientAuth::Request,
        client_ca: Some(clients.pem()),
        ..settings([&us.issue("a", "a", &["a.test"])])
    };
    let server = ServerTls::new(&config).unwrap();
    let known = Client::showing(&clients.issue("alice", "alice", &[])).build();
    let stranger = Client::showing(&strangers.issue("mallory", "alice", &[])).build();

    let (_, facts, _) = greet(&server, &known, "a.test").await;
    assert_eq!((facts.verified, facts.client_subject.as_deref()), (true, Some("alice")));
    let told = ProxyTls::from(&facts);
    assert_eq!((told.version.as_deref(), told.cipher.as_deref()), (Some("TLSv1.3"), Some(facts.cipher)));
    assert_eq!((told.verified, told.common_name.as_deref()), (true, Some("alice")));
    // A resumed session knows it from its ticket.
    let (_, facts, _) = greet(&server, &known, "a.test").await;
    assert_eq!((facts.verified, facts.client_subject.as_deref()), (true, Some("alice")));
    let (_, facts, _) = greet(&server, &Client::default().build(), "a.test").await;
    assert_eq!((facts.verified, facts.client_subject), (false, None));
    assert!(matches!(meet(&server, &stranger, "a.test").await.0, Err(TlsFault::Handshake(_))));
}

#[tokio::test]
async fn a_required_certificate_must_be_there() {
    let (us, clients) = (Authority::new("us"), Authority::new("clients"));
    let config = TlsConfig {
        client_auth: ClientAuth::Require,
        client_ca: Some(clients.pem()),
        ..settings([&us.issue("a", "a", &["a.test"])])
    };
    let server = ServerTls::new(&config).unwrap();
    for versions in [&V12, &V13] {
        let anonymous = Client { versions, ..Client::default() }.build();
        assert!(matches!(meet(&server, &anonymous, "a.test").await.0, Err(TlsFault::Handshake(_))));
        let known = Client { versions, ..Client::showing(&clients.issue("bob", "bob", &[])) }.build();
        assert_eq!(greet(&server, &known, "a.test").await.1.client_subject.as_deref(), Some("bob"));
    }
}

#[tokio::test]
async fn plaintext_on_a_tls_port_is_called_by_its_name() {
    let authority = Authority::new("us");
    let server = ServerTls::new(&settings([&authority.issue("a", "a", &["a.test"])])).unwrap();
    for words in [&b"a001 CAPABILITY\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"] {
        let (mut near, far) = pair().await;
        near.write_all(words).await.unwrap();
        assert!(matches!(server.accept(far, &[]).await, Err(TlsFault::NotTls)));
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_the_handshake_is_not_a_failed_handshake() {
    let authority = Authority::new("us");
    let server = ServerTls::new(&settings([&authority.issue("a", "a", &["a.test"])])).unwrap();
    for words in [&b""[..], b"\x16\x03\x01"] {
        let (mut near, far) = pair().await;
        near.write_all(words).await.unwrap();
        drop(near);
        assert!(matches!(server.accept(far, &[]).await, Err(TlsFault::Closed)));
    }
}

#[tokio::test]
async fn closing_without_notice_is_an_end_and_half_closing_leaves_the_other_half() {
    let authority = Authority::new("us");
    let server = ServerTls::new(&settings([&authority.issue("a", "a", &["a.test"])])).unwrap();
    let client = Client::default().build();

    let (mut stream, _, connection) = greet(&server, &client, "a.test").await;
    drop(connection); // tokio-rustls says no close_notify by itself
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);

    let (mut stream, _, mut connection) = greet(&server, &client, "a.test").await;
    connection.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    stream.write_all(b"* BYE\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut last_words = String::new();
    connection.read_to_string(&mut last_words).await.unwrap();
    assert_eq!(last_words, "* BYE\r\n");
}

#[tokio::test]
async fn a_stream_told_to_reset_ends_in_a_reset() {
    let (mut near, far) = pair().await;
    let stream = Stream::Plain(far);
    stream.reset_on_drop();
    drop(stream);
    assert_eq!(near.read(&mut [0; 8]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
