//! What backends see of probes: as little as can be, in good order.

use homing::config::{HealthConfig, Master, ProbeLogin};
use homing::model::Secret;

use crate::backend::{Backend, Manner};
use crate::{opinion, quick, until, watch};

/// What a backend is told by two good probes at least.
async fn told(
    manner: Manner,
    config: HealthConfig,
    change: impl FnOnce(&mut homing::config::BackendConfig),
) -> Vec<String> {
    let backend = Backend::start(manner).await;
    let mut entry = backend.entry();
    change(&mut entry);
    let health = watch("told", entry, &config);
    until("two good probes", || opinion(&health).good >= 2).await;
    health.stop();
    backend.lines()
}

#[tokio::test]
async fn a_probe_says_logout_and_nothing_else() {
    let lines = told(Manner::Good, quick(), |_| ()).await;
    assert!(lines.len() >= 2 && lines.iter().all(|line| line == "Q LOGOUT"), "{lines:?}");
}

#[tokio::test]
async fn a_listener_that_expects_a_proxy_header_gets_one_that_speaks_of_no_client() {
    let lines = told(Manner::Proxied, quick(), |entry| entry.announce.proxy = true).await;
    assert_eq!(lines[..2], ["local: true", "Q LOGOUT"]);
}

#[tokio::test]
async fn a_probe_that_logs_in_says_no_id_and_logs_out_at_once() {
    let password = Some(Secret::new(b"secret".to_vec()).into());
    let login = Some(ProbeLogin { user: "probe".to_owned(), password });
    let lines = told(Manner::Good, HealthConfig { login, ..quick() }, |_| ()).await;
    assert_eq!(lines[..2], ["L AUTHENTICATE PLAIN AHByb2JlAHNlY3JldA==", "Q LOGOUT"]);
}

#[tokio::test]
async fn without_a_password_of_its_own_the_probe_user_is_logged_in_by_the_master() {
    let login = Some(ProbeLogin { user: "probe".to_owned(), password: None });
    let password = Secret::new(b"secret".to_vec()).into();
    let master = Some(Master { user: "boss".to_owned(), password });
    let lines = told(Manner::Good, HealthConfig { login, ..quick() }, |entry| entry.master = master).await;
    assert_eq!(lines[..2], ["L AUTHENTICATE PLAIN cHJvYmUAYm9zcwBzZWNyZXQ=", "Q LOGOUT"]);
}
