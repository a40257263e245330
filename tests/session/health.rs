//! What a proxy finds out about its backends, by probes and by the logins of its users, and whom it tells.

use std::time::Duration;

use homing::admin;
use homing::admin::wire::{Client, Status};
use homing::config::{Config, HealthConfig};
use homing::health::{Opinion, Traffic, Verdict};
use homing::model::{BackendId, Protocol};
use tokio::process::Command;

use crate::admin::door;
use crate::parts::{Server, Site, until};

fn opinion(site: &Site) -> Opinion {
    let opinion = site.proxy.health().opinions().pop().unwrap();
    assert_eq!((opinion.backend.as_str(), opinion.service), ("home", Protocol::Imap));
    opinion
}

/// Probes come often, and the backend's port is one where nobody listens.
fn refused(config: &mut Config) {
    let home = config.backends.get_mut(&BackendId::new("home")).unwrap();
    (home.port, home.probe) = (1, true);
    config.health = HealthConfig {
        interval: Duration::from_millis(50),
        fast_interval: Duration::from_millis(10),
        ..HealthConfig::default()
    };
}

async fn is(site: &Site, verdict: Verdict) {
    until("the opinion", || opinion(site).verdict == verdict).await;
}

/// Logs in at a backend that answers with these words.
async fn meets(site: &Site, words: &str) {
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    site.server.accept().await.answer_login(words).await;
    client.expect_start("a ").await;
}

#[tokio::test]
async fn every_attempt_of_a_user_is_counted_as_what_it_was() {
    let site = Site::start().await;
    meets(&site, "L OK [CAPABILITY IMAP4rev1] in\r\n").await;
    meets(&site, "L NO [AUTHENTICATIONFAILED] wrong\r\n").await;
    meets(&site, "L NO [UNAVAILABLE] later\r\n").await;
    meets(&site, "* BYE no more\r\n").await;
    meets(&site, "Z OK nonsense\r\n").await;
    let counted = opinion(&site).traffic;
    assert_eq!(counted, Traffic { logins: 1, refused: 1, postponed: 2, failures: 1 });
    assert_eq!(opinion(&site).error_rate.unwrap().attempts, 4, "a wrong password is no attempt");

    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    site.server.accept().await.send("* BYE full\r\n").await;
    client.expect_start("a NO [UNAVAILABLE]").await;
    assert_eq!(opinion(&site).traffic.failures, 2);
    assert!(opinion(&site).last_failure.unwrap().words.contains("turned the connection away"));
}

#[tokio::test]
async fn a_client_that_leaves_while_the_backend_thinks_says_nothing_about_the_backend() {
    let site = Site::start().await;
    let mut client = site.client().await;
    client.send("a LOGIN ann secret\r\n").await;
    let mut server = site.server.accept().await;
    server.read_login().await;
    let address = client.reset();
    server.expect_end().await;
    drop(server);
    site.expect_ending(address, ["client_lost", "client", "connect", "none"]).await;
    assert_eq!(opinion(&site).traffic, Traffic::default());
    assert!(opinion(&site).last_failure.is_none());
}

#[tokio::test]
async fn probes_begin_with_the_proxy_and_operators_see_what_they_found() {
    let site = Site::with(refused).await;
    is(&site, Verdict::Failing).await;
    assert_eq!(site.proxy.health().failing(), [BackendId::new("home")]);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let _open = admin::open(&socket, door(&site)).await.unwrap();
    let status: Status = Client::new(&socket).get("/v1/status").await.unwrap();
    let [health] = &status.health[..] else { panic!("{:?}", status.health) };
    assert_eq!((health.backend.as_str(), health.service.as_str()), ("home", "imap"));
    assert!(health.health == "failing" && health.probed && health.bad_probes >= 3, "{health:?}");
    let error = health.last_error.as_deref().unwrap();
    assert!(error.contains("127.0.0.1:1: Connection refused"), "{error}");

    let shown = Command::new(env!("CARGO_BIN_EXE_homing")).args(["status", "--socket"]).arg(&socket).output().await;
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    let (_, table) = shown.split_once("as this proxy finds them").unwrap_or_else(|| panic!("{shown}"));
    assert!(table.contains("failing") && table.contains("Connection"), "{shown}");
}

#[tokio::test]
async fn a_reload_takes_probes_away_and_brings_them_to_new_backends() {
    let site = Site::with(refused).await;
    is(&site, Verdict::Failing).await;
    let mut config = site.config.clone();
    config.backends.get_mut(&BackendId::new("home")).unwrap().probe = false;
    let changes = site.proxy.reload(config.clone()).await.unwrap();
    assert_eq!(changes.applied, ["backend.home.probe"]);
    assert!(site.proxy.health().failing().is_empty() && !opinion(&site).probed);

    let other = Server::open().await;
    let mut entry = config.backends[&BackendId::new("home")].clone();
    (entry.port, entry.probe) = (other.address.port(), true);
    config.backends.insert(BackendId::new("another"), entry);
    config.health.fall = 1;
    let changes = site.proxy.reload(config).await.unwrap();
    assert_eq!(changes.applied, ["backend.another", "health.fall"]);
    let mut probe = other.accept().await;
    probe.send("* BYE full\r\n").await;
    until("one was enough", || site.proxy.health().failing() == [BackendId::new("another")]).await;
    let mut probe = other.accept().await;
    probe.send("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n").await;
    probe.expect("Q LOGOUT\r\n").await;
    probe.expect_end().await;
    assert_eq!(site.holding().sessions, 0, "a probe is nobody's session");
}

#[tokio::test]
async fn probes_end_with_the_proxy() {
    let site = Site::with(refused).await;
    is(&site, Verdict::Failing).await;
    site.proxy.stop().await;
    let before = opinion(&site);
    // Ten intervals: can miss a fault, never invent one.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(opinion(&site).bad, before.bad);
}
