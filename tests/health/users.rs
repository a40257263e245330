//! What the logins of users say of a backend. The clock is stopped; probes are all good or all bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use homing::backend::{ConnectError, Outcome, Seen, Server};
use homing::config::{BackendConfig, HealthConfig};
use homing::health::{ErrorRate, Health, Prober, Traffic};
use homing::model::{BackendId, Protocol};
use tokio::time::sleep;

use crate::{opinion, servers};

struct Probes {
    good: AtomicBool,
}

#[async_trait]
impl Prober for Probes {
    async fn probe(&self, server: &Server, _: Protocol, _: &HealthConfig) -> Result<Duration, ConnectError> {
        if self.good.load(Ordering::Relaxed) { Ok(Duration::ZERO) } else { Err(slow(&server.id)) }
    }
}

fn slow(backend: &BackendId) -> ConnectError {
    ConnectError::Slow { backend: backend.clone(), awaited: "answer to the login", limit: Duration::from_secs(30) }
}

struct Site {
    health: Health,
    probes: Arc<Probes>,
}

fn site() -> Site {
    let probes = Arc::new(Probes { good: AtomicBool::new(true) });
    let health = Health::start(&HealthConfig::default(), servers(&[("a", BackendConfig::default())]), probes.clone());
    Site { health, probes }
}

impl Site {
    fn saw(&self, user: &str, outcome: Outcome<'_>) {
        let backend = BackendId::new("a");
        self.health.witness().saw(Seen { backend: &backend, service: Protocol::Imap, user, outcome });
    }

    fn failed(&self, user: &str, login_sent: bool) {
        self.saw(user, Outcome::Failed { error: &slow(&BackendId::new("a")), login_sent });
    }

    fn is_failing(&self) -> bool {
        !self.health.failing().is_empty()
    }
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_greets_well_and_fails_every_login_is_failing_until_it_is_given_another_chance() {
    let site = site();
    for (user, pause) in [("ann", 3), ("bob", 3), ("eve", 0)] {
        assert!(!site.is_failing());
        site.failed(user, true);
        pass(pause).await;
    }
    assert!(site.is_failing());
    let found = opinion(&site.health);
    assert!(found.logins_failing && found.bad == 0, "{found:?}");
    assert!(found.last_failure.unwrap().words.contains("no answer to the login within 30s"));
    pass(25).await;
    assert!(site.is_failing(), "good probes that do not log in prove nothing for a while");
    pass(15).await;
    assert!(!site.is_failing());
}

#[tokio::test(start_paused = true)]
async fn one_user_whose_logins_fail_is_no_failure_of_the_server() {
    let site = site();
    for _ in 0..1000 {
        site.failed("ann", true);
        pass(1).await;
    }
    assert!(!site.is_failing());
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_breaks_many_logins_off_at_once_is_no_failure_of_the_server() {
    let site = site();
    for number in 0..1000 {
        site.failed(&number.to_string(), true);
    }
    pass(10).await;
    site.saw("ann", Outcome::LoggedIn);
    for number in 0..1000 {
        site.failed(&number.to_string(), false); // the connects of the next one
        pass(1).await;
    }
    assert!(!site.is_failing());
}

#[tokio::test(start_paused = true)]
async fn wrong_passwords_and_temporary_refusals_are_counted_and_never_make_a_backend_failing() {
    let site = site();
    for number in 0..100 {
        let user = number.to_string();
        site.saw(&user, Outcome::Refused);
        site.saw(&user, Outcome::Postponed);
        pass(1).await;
    }
    assert!(!site.is_failing());
    assert_eq!(opinion(&site.health).traffic, Traffic { logins: 0, refused: 100, postponed: 100, failures: 0 });
}

#[tokio::test(start_paused = true)]
async fn users_who_get_in_prove_more_than_probes_that_do_not() {
    let site = site();
    site.probes.good.store(false, Ordering::Relaxed); // as with a probe user whose password has expired
    for _ in 0..60 {
        site.saw("ann", Outcome::LoggedIn);
        pass(1).await;
        assert!(!site.is_failing(), "{:?}", opinion(&site.health));
    }
    pass(60).await;
    assert!(site.is_failing(), "nobody vouches for it");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_users_who_get_in_counts_no_more_than_one_for_a_failing_backend() {
    let site = site();
    site.probes.good.store(false, Ordering::Relaxed);
    pass(30).await;
    assert!(site.is_failing());
    (0..100).for_each(|_| site.saw("ann", Outcome::LoggedIn));
    assert!(site.is_failing());
    site.probes.good.store(true, Ordering::Relaxed);
    pass(10).await;
    assert!(!site.is_failing());
}

#[tokio::test(start_paused = true)]
async fn the_error_rate_is_that_of_the_last_seconds_and_wrong_passwords_do_not_dilute_it() {
    let (site, backend) = (site(), BackendId::new("a"));
    assert_eq!(site.health.error_rate(&backend), None);
    (0..2).for_each(|_| site.saw("ann", Outcome::LoggedIn));
    (0..50).for_each(|_| site.saw("ann", Outcome::Refused));
    site.saw("ann", Outcome::Postponed);
    site.failed("ann", false);
    assert_eq!(site.health.error_rate(&backend), Some(ErrorRate { rate: 0.5, attempts: 4 }));
    pass(11).await;
    assert_eq!(site.health.error_rate(&backend), None);
    assert_eq!(site.health.error_rate(&BackendId::new("unknown")), None);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_of_the_table_is_nobodys_business() {
    let (site, stranger) = (site(), BackendId::new("stranger"));
    let outcome = Outcome::Failed { error: &slow(&stranger), login_sent: true };
    site.health.witness().saw(Seen { backend: &stranger, service: Protocol::Imap, user: "ann", outcome });
    assert_eq!(opinion(&site.health).traffic, Traffic::default());
    assert_eq!(site.health.opinions().len(), 1);
}
