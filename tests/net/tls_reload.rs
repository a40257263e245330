//! TLS towards clients over time: resumed sessions, and files that change.

use homing::config::{ClientAuth, TlsConfig};
use homing::net::{ServerTls, TlsFault};
use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::wire::{Authority, Client, V12, V13, exchange, greet, meet, settings, was_shown, write};

fn resumed(connection: &TlsStream<TcpStream>) -> bool {
    connection.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[tokio::test]
async fn sessions_resume_in_both_versions_and_across_a_reload() {
    let authority = Authority::new("us");
    let config = settings([&authority.issue("a", "a", &["a.test"])]);
    for versions in [&V12, &V13] {
        let server = ServerTls::new(&config).unwrap();
        let client = Client { versions, ..Client::default() }.build();
        assert!(!resumed(&greet(&server, &client, "a.test").await.2));
        assert!(resumed(&greet(&server, &client, "a.test").await.2));
        server.reload(&config).unwrap();
        assert!(resumed(&greet(&server, &client, "a.test").await.2));
    }
}

#[tokio::test]
async fn a_new_rule_for_client_certificates_voids_the_tickets_given_before() {
    let (us, clients) = (Authority::new("us"), Authority::new("clients"));
    let open = settings([&us.issue("a", "a", &["a.test"])]);
    let strict = TlsConfig { client_auth: ClientAuth::Require, client_ca: Some(clients.pem()), ..open.clone() };
    let server = ServerTls::new(&open).unwrap();
    for versions in [&V12, &V13] {
        server.reload(&open).unwrap();
        let anonymous = Client { versions, ..Client::default() }.build();
        greet(&server, &anonymous, "a.test").await;
        server.reload(&strict).unwrap();
        assert!(matches!(meet(&server, &anonymous, "a.test").await.0, Err(TlsFault::Handshake(_))));
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_while_a_session_lives() {
    let authority = Authority::new("us");
    let old = authority.issue("a", "old", &["a.test"]);
    let server = ServerTls::new(&settings([&old])).unwrap();
    let (mut stream, _, mut connection) = greet(&server, &Client::default().build(), "a.test").await;
    assert!(was_shown(&connection, &old));

    let new = authority.issue("a", "new", &["a.test"]); // into the same files
    server.reload(&settings([&new])).unwrap();
    exchange(&mut stream, &mut connection).await;
    assert!(was_shown(&greet(&server, &Client::default().build(), "a.test").await.2, &new));
}

#[tokio::test]
async fn no_handshake_fails_while_files_are_reloaded() {
    let authority = Authority::new("us");
    let both = [authority.issue("a", "one", &["a.test"]), authority.issue("b", "two", &["a.test"])];
    let server = ServerTls::new(&settings([&both[0]])).unwrap();
    let handshakes = async {
        for _ in 0..40 {
            let (_, _, connection) = greet(&server, &Client::default().build(), "a.test").await;
            assert!(both.iter().any(|issued| was_shown(&connection, issued)));
        }
    };
    let reloads = async {
        for round in 0..200 {
            server.reload(&settings([&both[round % 2]])).unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(handshakes, reloads);
}

#[tokio::test]
async fn a_bad_file_leaves_the_old_certificate_in_force_and_is_named() {
    let authority = Authority::new("us");
    let good = authority.issue("a", "good", &["a.test"]);
    let other = authority.issue("b", "other", &["a.test"]);
    let server = ServerTls::new(&settings([&good])).unwrap();

    let with = |change: fn(&Authority, &mut homing::config::Certificate)| {
        let mut config = settings([&good]);
        change(&authority, &mut config.certificates[0]);
        config
    };
    write(&authority.path("empty"), "");
    write(&authority.path("broken"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write(
        &authority.path("locked"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let faults = [
        (with(|at, files| files.certificate = at.path("missing")), "missing", "must exist"),
        (with(|at, files| files.certificate = at.path("empty")), "empty", "BEGIN CERTIFICATE"),
        (with(|at, files| files.certificate = at.path("broken")), "broken", "X.509"),
        (with(|at, files| files.key = at.path("missing")), "missing", "must exist"),
        (with(|at, files| files.key = at.path("locked")), "locked", "passphrase"),
        (with(|at, files| files.key = at.path("b.key")), "b.key", "is not the key of"),
    ];
    assert!(other.files.key.exists());
    for (config, file, remedy) in faults {
        let fault = server.reload(&config).unwrap_err();
        let text = fault.to_string();
        assert!(matches!(&fault, TlsFault::File { path, .. } if path.ends_with(file)), "{text}");
        assert!(text.contains(remedy), "{text}");
        assert!(ServerTls::new(&config).is_err());
        assert!(was_shown(&greet(&server, &Client::default().build(), "a.test").await.2, &good));
    }
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let authority = Authority::new("us");
    let good = settings([&authority.issue("a", "a", &["a.test"])]);
    let refused = |config: &TlsConfig| matches!(ServerTls::new(config), Err(TlsFault::Settings(_)));
    assert!(refused(&TlsConfig::default()));
    assert!(refused(&TlsConfig { client_auth: ClientAuth::Request, ..good.clone() }));
    assert!(!refused(&good));
}
