//! A changed configuration under a running proxy: all of it or nothing.

use homing::config::{BackendTls, Config, ListenerTls, TlsConfig};
use homing::model::{BackendId, Weight};

use crate::front::certificate;
use crate::parts::{Server, Site};

fn broken(directory: &std::path::Path) -> std::path::PathBuf {
    let path = directory.join("broken.pem");
    std::fs::write(&path, "no certificate").unwrap();
    path
}

/// A reload that must fail, and after which logins go where they went.
async fn refused(site: &Site, change: impl FnOnce(&mut Config)) -> String {
    let mut config = site.config.clone();
    config.limits.connections = 1;
    let _guest = site.client().await; // with the new limit nobody else could come in
    change(&mut config);
    let why = site.proxy.reload(config).await.err().unwrap().to_string();
    assert!(why.starts_with("reload refused, the configuration in force is unchanged"), "{why}");
    let mut client = site.client().await;
    client.log_in("ann", &site.server).await;
    why
}

#[tokio::test]
async fn any_file_that_cannot_be_used_leaves_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let broken = broken(directory.path());
    let site = Site::with(|config| {
        config.listeners[0].tls = ListenerTls::StartTls;
        config.tls.certificates = vec![certificate(directory.path(), "a")];
    })
    .await;
    let why = refused(&site, |config| {
        let backend = config.backends.get_mut(&BackendId::new("home")).unwrap();
        (backend.tls, backend.tls_ca) = (BackendTls::Implicit, Some(broken.clone()));
    })
    .await;
    assert!(why.contains("[backend.home]") && why.contains("broken.pem"), "{why}");
    let why = refused(&site, |config| config.tls.certificates[0].key = broken.clone()).await;
    assert!(why.contains("broken.pem"), "{why}");
    let why = refused(&site, |config| config.tls = TlsConfig::default()).await;
    assert!(why.contains("[[tls.certificate]]"), "{why}");
    // And the certificate that was there still serves.
    let mut client = site.client().await;
    client.send("a STARTTLS\r\n").await;
    client.expect_start("a OK").await;
    client.start_tls().await;
    client.send("b NOOP\r\n").await;
    client.expect_start("b OK").await;
}

#[tokio::test]
async fn a_backend_that_gets_another_address_must_get_another_name() {
    let (site, elsewhere) = (Site::start().await, Server::open().await);
    let home = BackendId::new("home");
    for host in ["127.0.0.1", "127.0.0.9"] {
        let why = refused(&site, |config| {
            let backend = config.backends.get_mut(&home).unwrap();
            (backend.host, backend.port) = (host.to_owned(), elsewhere.address.port());
        })
        .await;
        assert!(why.contains("[backend.home] has another address"), "{why}");
    }
}

#[tokio::test]
async fn certificates_where_there_were_none_are_checked_and_wait_for_a_listener() {
    let directory = tempfile::tempdir().unwrap();
    let broken = broken(directory.path());
    let site = Site::start().await;
    let with = |certificate: &std::path::Path, directory: &std::path::Path| {
        let mut files = self::certificate(directory, "b");
        files.certificate = certificate.to_owned();
        files
    };
    refused(&site, |config| config.tls.certificates = vec![with(&broken, directory.path())]).await;
    let mut config = site.config.clone();
    config.tls.certificates = vec![certificate(directory.path(), "b")];
    site.proxy.reload(config).await.unwrap();
    site.client().await;
}

#[tokio::test]
async fn what_can_change_changes_without_touching_a_session() {
    let site = Site::start().await;
    let mut old = site.client().await;
    let mut server = old.log_in("ann", &site.server).await;

    let other = Server::open().await;
    let mut config = site.config.clone();
    let mut added = config.backends[&BackendId::new("home")].clone();
    added.port = other.address.port();
    config.backends.insert(BackendId::new("other"), added);
    config.backends.get_mut(&BackendId::new("home")).unwrap().weight = Weight::new(0).unwrap();
    config.limits.commands = 3;
    let changes = site.proxy.reload(config).await.unwrap();
    assert_eq!(changes.applied, ["backend.home.weight", "backend.other", "limits.commands"]);
    assert!(changes.needs_restart.is_empty());

    old.send("b NOOP\r\n").await;
    server.expect("b NOOP\r\n").await;
    let mut new = site.client().await;
    for _ in 0..3 {
        new.send("c NOOP\r\n").await;
        new.expect_start("c OK").await;
    }
    new.send("c NOOP\r\n").await;
    new.expect_start("* BYE Too many commands").await;
    // The fleet's table has followed: new users go to the other backend.
    let mut new = site.client().await;
    new.log_in("bob", &other).await;
}
