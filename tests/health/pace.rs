//! When probes come. The clock is stopped and the probes are played, so that every time is exact.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use homing::backend::{ConnectError, Outcome, Seen, Server, Servers};
use homing::config::{BackendConfig, HealthConfig};
use homing::health::{Health, Prober, Verdict};
use homing::model::{BackendId, Protocol};
use tokio::time::{Instant, advance, sleep};

use crate::{servers, serving};

/// Notes when it is asked, and answers as it is told.
#[derive(Default)]
struct Played {
    /// Times of begin and end, by backend.
    probes: Mutex<BTreeMap<String, Vec<(Instant, Instant)>>>,
    bad: Mutex<bool>,
    /// All others are good, unless there is none.
    only: Mutex<Vec<&'static str>>,
    /// If there is one, all others are good, and take no time.
    service: Mutex<Option<Protocol>>,
    takes: Mutex<Duration>,
    /// If there is one, all others take no time.
    slow: Mutex<Option<&'static str>>,
    /// Under way, and the most there were: of all, and of one backend.
    now: Mutex<BTreeMap<String, usize>>,
    most: Mutex<(usize, usize)>,
}

#[async_trait]
impl Prober for Played {
    async fn probe(&self, server: &Server, service: Protocol, _: &HealthConfig) -> Result<Duration, ConnectError> {
        let (name, began) = (server.id.to_string(), Instant::now());
        if self.service.lock().unwrap().is_some_and(|concerned| concerned != service) {
            return Ok(Duration::ZERO);
        }
        let is_slow = self.slow.lock().unwrap().is_none_or(|slow| slow == name);
        let takes = if is_slow { *self.takes.lock().unwrap() } else { Duration::ZERO };
        {
            let mut now = self.now.lock().unwrap();
            *now.entry(name.clone()).or_default() += 1;
            let mut most = self.most.lock().unwrap();
            *most = (most.0.max(now.values().sum()), most.1.max(now[&name]));
        }
        sleep(takes).await;
        *self.now.lock().unwrap().get_mut(&name).unwrap() -= 1;
        self.probes.lock().unwrap().entry(name).or_default().push((began, Instant::now()));
        let concerned = {
            let only = self.only.lock().unwrap();
            only.is_empty() || only.contains(&server.id.as_str())
        };
        if concerned && *self.bad.lock().unwrap() { Err(lost(&server.id)) } else { Ok(takes) }
    }
}

impl Played {
    fn count(&self, backend: &str) -> usize {
        self.probes.lock().unwrap().get(backend).map_or(0, Vec::len)
    }

    /// Seconds from the end of each probe to the begin of the next.
    fn pauses(&self, backend: &str) -> Vec<f64> {
        let probes = self.probes.lock().unwrap();
        probes[backend].windows(2).map(|pair| (pair[1].0 - pair[0].1).as_secs_f64()).collect()
    }
}

fn lost(backend: &BackendId) -> ConnectError {
    ConnectError::Lost { backend: backend.clone(), source: None }
}

fn start(config: &HealthConfig, names: &[&str]) -> (Health, Arc<Played>) {
    let prober = Arc::new(Played::default());
    (Health::start(config, all(names), prober.clone()), prober)
}

fn all(names: &[&str]) -> Arc<Servers> {
    servers(&plain(names))
}

fn plain<'a>(names: &[&'a str]) -> Vec<(&'a str, BackendConfig)> {
    names.iter().map(|name| (*name, BackendConfig::default())).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A little at a time, so that every task sees its hour.
async fn pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        advance(Duration::from_millis(50)).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fit_backend_is_probed_at_leisure_and_a_fleet_does_not_probe_in_step() {
    let (_health, prober) = start(&HealthConfig::default(), &["a", "b"]);
    pass(seconds(200)).await;
    for backend in ["a", "b"] {
        let pauses = prober.pauses(backend);
        assert!((36..=45).contains(&pauses.len()), "{pauses:?}");
        assert!(pauses.iter().all(|pause| (4.45..5.6).contains(pause)), "{pauses:?}");
        let (least, most) = pauses.iter().fold((9.0_f64, 0.0_f64), |(a, b), pause| (a.min(*pause), b.max(*pause)));
        assert!(most - least > 0.2, "spread: {pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_doubt_the_next_probe_comes_soon_and_certainty_ends_the_hurry() {
    let (health, prober) = start(&HealthConfig::default(), &["a"]);
    *prober.bad.lock().unwrap() = true;
    pass(seconds(30)).await;
    assert_eq!(health.failing(), [BackendId::new("a")]);
    let pauses = prober.pauses("a");
    assert!(pauses[..2].iter().all(|pause| (0.85..1.2).contains(pause)), "in doubt: {pauses:?}");
    assert!(pauses[2..].iter().all(|pause| (4.45..5.6).contains(pause)), "certain: {pauses:?}");
    let before = pauses.len();
    *prober.bad.lock().unwrap() = false;
    pass(seconds(7)).await;
    assert!(health.failing().is_empty());
    assert!((0.85..1.2).contains(&prober.pauses("a")[before + 1]), "in doubt again: {:?}", prober.pauses("a"));
}

#[tokio::test(start_paused = true)]
async fn backends_that_die_are_found_out_within_the_times_that_the_manual_names() {
    for (takes, users, within) in [(0, false, 8), (0, true, 4), (5, false, 25)] {
        for lived in 0..12 {
            // Others are looked at before the fleet is told; that costs no time.
            let (health, prober) = start(&HealthConfig::default(), &["a", "b", "c"]);
            *prober.only.lock().unwrap() = vec!["a"];
            pass(seconds(10) + lived * Duration::from_millis(500)).await; // any moment between two probes
            assert!(health.failing().is_empty());
            *prober.bad.lock().unwrap() = true;
            *prober.takes.lock().unwrap() = seconds(takes);
            let (died, backend) = (Instant::now(), BackendId::new("a"));
            while health.failing().is_empty() {
                let error = lost(&backend);
                let outcome = Outcome::Failed { error: &error, login_sent: false };
                if users {
                    health.witness().saw(Seen { backend: &backend, service: Protocol::Imap, user: "ann", outcome });
                }
                pass(Duration::from_millis(50)).await;
                assert!(died.elapsed() <= seconds(within), "{takes} {users} {lived}");
            }
        }
    }
}

/// What the fleet is told while time passes.
async fn told(health: &Health, time: Duration) -> Vec<usize> {
    let (mut changes, mut told) = (health.watch(), Vec::new());
    for _ in 0..time.as_millis() / 50 {
        pass(Duration::from_millis(50)).await;
        if changes.has_changed().unwrap() {
            told.push(changes.borrow_and_update().len());
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn what_befalls_all_backends_is_told_of_all_at_once_and_so_is_its_end() {
    for takes in [0, 5] {
        let (health, prober) = start(&HealthConfig::default(), &["a", "b", "c", "d", "e", "f"]);
        pass(seconds(60)).await;
        *prober.bad.lock().unwrap() = true;
        *prober.takes.lock().unwrap() = seconds(takes);
        assert_eq!(told(&health, seconds(60)).await, [6], "each takes {takes} s");
        *prober.bad.lock().unwrap() = false;
        *prober.takes.lock().unwrap() = Duration::ZERO;
        assert_eq!(told(&health, seconds(60)).await, [0], "each took {takes} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_befalls_one_service_of_all_backends_is_told_of_all_at_once() {
    for lived in 0..12 {
        let prober = Arc::new(Played::default());
        (*prober.service.lock().unwrap(), *prober.slow.lock().unwrap()) = (Some(Protocol::Pop3), Some("slow"));
        *prober.takes.lock().unwrap() = seconds(5);
        let servers = serving(&plain(&["quick", "slow"]), &[Protocol::Imap, Protocol::Pop3]);
        let health = Health::start(&HealthConfig::default(), servers, prober.clone());
        pass(seconds(60) + lived * seconds(1)).await;
        *prober.bad.lock().unwrap() = true;
        assert_eq!(told(&health, seconds(60)).await, [2], "{lived}: that IMAP is well says nothing of POP3");
        *prober.bad.lock().unwrap() = false;
        assert_eq!(told(&health, seconds(60)).await, [0], "{lived}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_known_to_hang_does_not_hold_up_the_word_about_another() {
    for lived in 0..12 {
        let (health, prober) = start(&HealthConfig::default(), &["a", "b", "hung"]);
        (*prober.only.lock().unwrap(), *prober.slow.lock().unwrap()) = (vec!["hung"], Some("hung"));
        (*prober.bad.lock().unwrap(), *prober.takes.lock().unwrap()) = (true, seconds(5));
        pass(seconds(60) + lived * Duration::from_millis(500)).await;
        assert_eq!(health.failing(), [BackendId::new("hung")]);
        *prober.only.lock().unwrap() = vec!["a", "hung"];
        let died = Instant::now();
        while health.failing().len() < 2 {
            pass(Duration::from_millis(50)).await;
            assert!(died.elapsed() <= seconds(8), "{lived}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_certain_keeps_no_other_from_being_told_of_for_ever() {
    let config = HealthConfig { fall: 20, ..HealthConfig::default() };
    let (health, prober) = start(&config, &["a", "doubtful"]);
    pass(seconds(10)).await;
    let doubtful = prober.clone();
    let flapping = async move {
        loop {
            doubtful.only.lock().unwrap().clear();
            pass(seconds(15)).await; // not for as long as 20 bad probes take
            *doubtful.only.lock().unwrap() = vec!["a"];
            pass(Duration::from_millis(1200)).await;
        }
    };
    *prober.bad.lock().unwrap() = true;
    let failing = async {
        while health.failing() != [BackendId::new("a")] {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = flapping => {}
        told = tokio::time::timeout(seconds(300), failing) => told.unwrap(),
    }
}

#[tokio::test]
async fn of_two_who_change_the_backends_at_once_the_second_brings_the_newest() {
    let (health, _) = start(&HealthConfig::default(), &["old"]);
    let in_force = Mutex::new(all(&["old"]));
    let latest = || in_force.lock().unwrap().clone();
    let ((entered, is_in), (done, is_done)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let (handle, is_done) = (tokio::runtime::Handle::current(), Mutex::new(is_done));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _runtime = handle.enter();
            health.follow(|| {
                let read = latest();
                entered.send(()).unwrap();
                // The other one could be done by now, were it let in.
                let _ = is_done.lock().unwrap().recv_timeout(Duration::from_millis(200));
                read
            });
        });
        is_in.recv().unwrap();
        *in_force.lock().unwrap() = all(&["new"]);
        health.follow(latest);
        done.send(()).unwrap();
    });
    assert_eq!(opinions(&health), ["new"]);
}

fn opinions(health: &Health) -> Vec<String> {
    health.opinions().iter().map(|opinion| opinion.backend.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_users_failure_brings_the_next_probe_forward_but_not_in_a_flood() {
    let (health, prober) = start(&HealthConfig { interval: seconds(60), ..HealthConfig::default() }, &["a"]);
    pass(seconds(10)).await;
    assert_eq!(prober.count("a"), 1);
    let (backend, error) = (BackendId::new("a"), lost(&BackendId::new("a")));
    for number in 0..100 {
        let outcome = Outcome::Failed { error: &error, login_sent: false };
        let user = number.to_string();
        health.witness().saw(Seen { backend: &backend, service: Protocol::Imap, user: &user, outcome });
        pass(Duration::from_millis(50)).await;
    }
    assert!((4..=8).contains(&prober.count("a")), "{} in 5 s", prober.count("a"));
    assert!(health.failing().is_empty(), "the probes were good");
}

#[tokio::test(start_paused = true)]
async fn no_backend_is_probed_twice_at_once_nor_more_than_allowed_together() {
    let names: Vec<String> = (0..20).map(|number| format!("b{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = HealthConfig { concurrency: 3, interval: seconds(1), ..HealthConfig::default() };
    let (health, prober) = start(&config, &names);
    *prober.takes.lock().unwrap() = seconds(2);
    let backend = BackendId::new("b7");
    let error = lost(&backend);
    for _ in 0..60 {
        let outcome = Outcome::Failed { error: &error, login_sent: false };
        health.witness().saw(Seen { backend: &backend, service: Protocol::Imap, user: "u", outcome });
        health.update(&config, || all(&names));
        pass(seconds(1)).await;
    }
    assert_eq!(*prober.most.lock().unwrap(), (3, 1));
    assert!(names.iter().all(|name| prober.count(name) >= 2), "every one has its turn");
}

#[tokio::test(start_paused = true)]
async fn backends_come_and_go_while_it_runs_and_those_that_stay_keep_their_record() {
    let config = HealthConfig::default();
    let (health, prober) = start(&config, &["gone", "stays"]);
    *prober.bad.lock().unwrap() = true;
    pass(seconds(10)).await;
    let mut changes = health.watch();
    assert_eq!(health.failing().len(), 2);
    health.update(&config, || all(&["new", "stays"]));
    assert!(changes.has_changed().unwrap(), "the fleet is told of it");
    assert_eq!(*changes.borrow_and_update(), [BackendId::new("stays")]);
    let count = prober.count("gone");
    pass(seconds(20)).await;
    assert_eq!(prober.count("gone"), count);
    assert_eq!(health.failing(), [BackendId::new("new"), BackendId::new("stays")]);
    assert!(health.opinions().iter().all(|opinion| opinion.backend.as_str() != "gone"));
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_in_force_at_once() {
    let (health, prober) = start(&HealthConfig { interval: seconds(600), ..HealthConfig::default() }, &["a"]);
    pass(seconds(10)).await;
    assert_eq!(prober.count("a"), 1);
    *prober.bad.lock().unwrap() = true;
    health.update(&HealthConfig { fall: 1, ..HealthConfig::default() }, || all(&["a"]));
    pass(seconds(2)).await;
    assert_eq!(health.failing(), [BackendId::new("a")], "600 s were not waited for, and one was enough");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_not_to_be_probed_is_not_and_is_never_failing() {
    let (health, prober) = start(&HealthConfig::default(), &["a"]);
    *prober.bad.lock().unwrap() = true;
    pass(seconds(20)).await;
    assert_eq!(health.failing(), [BackendId::new("a")]);
    let silent = servers(&[("a", BackendConfig { probe: false, ..BackendConfig::default() })]);
    health.update(&HealthConfig::default(), || silent);
    let (count, opinion) = (prober.count("a"), health.opinions().pop().unwrap());
    assert!(health.failing().is_empty() && opinion.verdict == Verdict::Fit && !opinion.probed);
    pass(seconds(60)).await;
    assert_eq!(prober.count("a"), count);
    health.update(&HealthConfig::default(), || all(&["a"]));
    pass(seconds(60)).await;
    assert_eq!(health.failing(), [BackendId::new("a")], "probed again");
}

#[tokio::test(start_paused = true)]
async fn probes_end_with_the_proxy() {
    for stop in [true, false] {
        let (health, prober) = start(&HealthConfig::default(), &["a"]);
        *prober.bad.lock().unwrap() = true;
        pass(seconds(20)).await;
        let count = prober.count("a");
        if stop {
            health.stop();
            assert_eq!(health.failing(), [BackendId::new("a")], "the last word stands");
        } else {
            drop(health);
        }
        pass(seconds(60)).await;
        assert_eq!(prober.count("a"), count);
    }
}
