//! The ways in: TLS, and the socket of this machine.

use homing::config::{BackendTls, ListenAddress, ListenerTls, SocketMode, TlsConfig};
use homing::net::ServerTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{OFFERS, Post, envelope, go_on, greet, take};
use crate::front::certificate;

#[tokio::test]
async fn starttls_protects_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificate(directory.path(), "a");
    let tls = ServerTls::new(&TlsConfig { certificates: vec![files.clone()], ..TlsConfig::default() }).unwrap();
    let post = Post::with(|config| {
        config.listeners[0].tls = ListenerTls::StartTls;
        config.tls.certificates = vec![files];
        for backend in config.backends.values_mut() {
            (backend.lmtp.tls, backend.tls_verify) = (BackendTls::StartTls, false);
        }
    })
    .await;
    let mut client = post.client().await;
    client.send("STARTTLS\r\n").await;
    client.expect_start("220 2.0.0 ").await;
    client.start_tls().await;
    client.send("LHLO mx\r\n").await;
    let mut said = String::new();
    while said.is_empty() || said.starts_with("250-") {
        said = client.expect_start("250").await;
        assert!(!said.contains("STARTTLS"));
    }
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
    let mut a = greet(&post.site.server, "250-a\r\n250 STARTTLS\r\n").await;
    a.expect("STARTTLS\r\n").await;
    a.send("220 go\r\n").await;
    a.accept_tls(&tls).await;
    a.expect_start("LHLO ").await;
    a.send(OFFERS).await;
    take(&mut a, "ann@x").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
}

#[tokio::test]
async fn mail_comes_by_a_unix_socket_that_only_its_owner_may_open() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lmtp");
    let post = Post::with(|config| {
        let mut local = config.listeners[0].clone();
        (local.address, local.mode) = (ListenAddress::Unix(path.clone()), Some(SocketMode(0o620)));
        config.listeners.push(local);
    })
    .await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"LHLO mx\r\nMAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nDATA\r\n").await.unwrap();
    let mut a = envelope(&post.site.server, "ann@x").await;
    go_on(&mut a).await;
    client.write_all(b"hello\r\n.\r\nQUIT\r\n").await.unwrap();
    a.expect("hello\r\n.\r\n").await;
    a.send("250 saved\r\n").await;
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    let codes: Vec<_> = said.lines().map(|line| &line[..4]).filter(|code| !code.ends_with('-')).collect();
    assert_eq!(codes, ["220 ", "250 ", "250 ", "250 ", "354 ", "250 ", "221 "], "{said}");
    drop(a);
    post.site.proxy.stop().await;
    assert!(!path.exists(), "the name is given up");
}
