//! Backends that are of no use, each in its own way: found out, with the reason in words, and believed again once they
//! are well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homing::config::{BackendTls, HealthConfig, ProbeLogin};
use homing::health::{Health, Verdict, Visitor};
use homing::model::{BackendId, Secret};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backend::{Backend, Manner, entry};
use crate::{PATIENCE, is, log, opinion, quick, until, watch};

/// Manner, and a part of what the operator is told.
type Case = (&'static str, Manner, &'static str);

const OK: &str = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n";

/// For backends that answer: however busy this machine is, they are not found too slow.
fn patient() -> HealthConfig {
    HealthConfig { timeout: PATIENCE, ..quick() }
}

fn log_in(config: HealthConfig) -> HealthConfig {
    let password = Some(Secret::new(b"secret".to_vec()).into());
    HealthConfig { login: Some(ProbeLogin { user: "probe".to_owned(), password }), ..config }
}

/// Each is found failing for its reason, and fit again once it is well.
async fn are_found_out(cases: Vec<Case>, config: HealthConfig) {
    log::keep();
    let mut all = JoinSet::new();
    for (name, manner, words) in cases {
        let config = config.clone();
        all.spawn(async move {
            let backend = Backend::start(manner.clone()).await;
            let health = watch(name, backend.entry(), &config);
            assert_eq!(opinion(&health).verdict, Verdict::Fit, "nothing is known yet");
            let found = is(&health, Verdict::Failing).await;
            assert!(found.bad >= config.fall, "{name}: {found:?}");
            let said = found.last_failure.unwrap().words;
            assert!(said.contains(words), "{name}, {manner:?}: {said}");
            assert_eq!(health.failing(), [BackendId::new(name)]);
            backend.becomes(Manner::Good);
            let found = is(&health, Verdict::Fit).await;
            assert!(found.good >= config.rise && found.last_probe.is_some(), "{name}: {found:?}");
            assert!(health.failing().is_empty());
            let lines = log::about(name);
            assert_eq!(lines.len(), 2, "one line for each change: {lines:#?}");
            assert!(lines[0].starts_with("WARN") && lines[0].contains(words), "{lines:?}");
            assert!(lines[1].starts_with("INFO") && lines[1].contains("fit again"), "{lines:?}");
        });
    }
    while let Some(outcome) = all.join_next().await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn whatever_a_backend_keeps_us_waiting_for_it_is_found_out_in_time_and_believed_when_it_is_well() {
    let cases = vec![
        ("hangs", Manner::Silent, "no greeting within 1s"),
        ("dribbles", Manner::Dribbling(Duration::from_millis(50)), "no greeting within 1s"),
        ("late", Manner::Late(Duration::from_secs(5)), "no greeting within 1s"),
        ("mute-after-greeting", Manner::Saying("* OK hi\r\n"), "no answer before the login within 1s"),
    ];
    are_found_out(cases, quick()).await;
    let cases = vec![("mute-at-login", Manner::SilentAtLogin, "no answer to the login within 1s")];
    are_found_out(cases, log_in(quick())).await;
}

#[tokio::test]
async fn whatever_a_backend_says_instead_of_a_greeting_it_is_found_out_and_believed_when_it_is_well() {
    let endless: &'static str = Box::leak("x".repeat(40_000).into_boxed_str());
    let cases = vec![
        ("resets", Manner::Resetting, "closed before"),
        ("closes", Manner::SayingAndClosing(""), "closed before"),
        ("cuts", Manner::SayingAndClosing("* OK cu"), "closed before"),
        ("turns-away", Manner::SayingAndClosing("* BYE full\r\n"), "turned the connection away"),
        ("preauth", Manner::Saying("* PREAUTH hi\r\n"), "PREAUTH"),
        ("other-protocol", Manner::Saying("220 mail ESMTP\r\n"), "not this protocol"),
        ("garbage", Manner::Saying("\0\u{1}\u{2}\r\n"), "not this protocol"),
        ("endless", Manner::Saying(endless), "line too long"),
        ("closes-after-greeting", Manner::SayingAndClosing("* OK hi\r\n"), "closed before"),
        (
            "takes-nobody",
            Manner::Saying("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\r\n"),
            "does not offer AUTH=PLAIN",
        ),
    ];
    are_found_out(cases, patient()).await;
}

#[tokio::test]
async fn a_backend_that_lies_is_found_out_by_a_probe_that_logs_in() {
    let cases = vec![
        ("never-now", Manner::AtLogin("L NO [UNAVAILABLE] later\r\n"), "[UNAVAILABLE] later"),
        ("bye-at-login", Manner::AtLogin("* BYE no more\r\n"), "no more"),
        ("nonsense-at-login", Manner::AtLogin("Z OK what\r\n"), "nothing that was asked"),
        ("closes-at-login", Manner::ClosingAtLogin, "closed before"),
    ];
    are_found_out(cases, log_in(patient())).await;
}

#[tokio::test]
async fn a_backend_that_refuses_the_probes_login_is_fit_and_the_operator_is_told_once_what_to_correct() {
    log::keep();
    let backend = Backend::start(Manner::AtLogin("L NO [AUTHENTICATIONFAILED] wrong\r\n")).await;
    let health = watch("refuses-probes", backend.entry(), &HealthConfig { fall: 1, ..log_in(patient()) });
    until("ten good probes", || opinion(&health).good >= 10).await;
    let found = opinion(&health);
    assert!(found.verdict == Verdict::Fit && health.failing().is_empty(), "{found:?}");
    assert!(found.last_failure.unwrap().words.contains("[AUTHENTICATIONFAILED] wrong"));
    let lines = log::about("refuses-probes");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("WARN") && lines[0].contains("probe_password in [health]"), "{lines:?}");
    backend.becomes(Manner::ClosingAtLogin);
    is(&health, Verdict::Failing).await;
}

#[tokio::test]
async fn a_backend_without_the_tls_that_it_should_have_is_found_out() {
    for (tls, words) in [(BackendTls::Implicit, "TLS failed"), (BackendTls::StartTls, "does not offer STARTTLS")] {
        let backend = Backend::start(Manner::Good).await;
        let mut entry = backend.entry();
        (entry.tls, entry.tls_verify) = (tls, false);
        let health = watch("untls", entry, &patient());
        let said = is(&health, Verdict::Failing).await.last_failure.unwrap().words;
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_backend_that_refuses_connections_is_found_out_and_believed_when_it_listens() {
    // An address that no other test binds.
    let address: SocketAddr = "127.83.7.1:0".parse().unwrap();
    let address = TcpListener::bind(address).await.unwrap().local_addr().unwrap();
    let health = watch("refuses", entry(address), &patient());
    let said = is(&health, Verdict::Failing).await.last_failure.unwrap().words;
    assert!(said.contains(&format!("{address}: Connection refused")), "{said}");
    let _backend = Backend::at(address, Manner::Good).await;
    is(&health, Verdict::Fit).await;
}

/// A listener whose backlog is full: further SYNs are dropped, as by a machine that is gone.
async fn swallowing() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    let more = || timeout(Duration::from_secs(1), TcpStream::connect(listener.local_addr().unwrap()));
    // Twice in a row: once may be this machine.
    let mut in_vain = 0;
    while in_vain < 2 {
        match more().await {
            Ok(connected) => (in_vain, _) = (0, waiting.push(connected.unwrap())),
            Err(_) => in_vain += 1,
        }
        assert!(waiting.len() < 100, "this backlog has no end");
    }
    (listener, waiting)
}

#[tokio::test]
async fn a_backend_that_swallows_connects_is_found_out_and_believed_when_it_answers() {
    let (listener, waiting) = swallowing().await;
    let health = watch("swallows", entry(listener.local_addr().unwrap()), &quick());
    let said = is(&health, Verdict::Failing).await.last_failure.unwrap().words;
    assert!(said.contains("no connection within 1s"), "{said}");
    drop(waiting);
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, OK.as_bytes()).await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
    is(&health, Verdict::Fit).await;
    serving.abort();
}

#[tokio::test]
async fn a_backend_that_is_slow_but_within_its_time_is_fit() {
    let backend = Backend::start(Manner::Late(Duration::from_secs(1))).await;
    // With a fall of 1, a single probe that gives up would show.
    let config = HealthConfig { timeout: PATIENCE, fall: 1, ..quick() };
    let health = watch("busy", backend.entry(), &config);
    let mut changes = health.watch();
    changes.mark_unchanged();
    until("two good probes", || opinion(&health).good >= 2).await;
    assert!(!changes.has_changed().unwrap() && health.failing().is_empty());
    let took = opinion(&health).last_probe.unwrap();
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_hung_backend_holds_up_no_probe_of_another() {
    let (hung, well) = (Backend::start(Manner::Silent).await, Backend::start(Manner::Good).await);
    let config = HealthConfig { timeout: PATIENCE * 10, ..quick() };
    let servers = crate::servers(&[("a-hung", hung.entry()), ("b-well", well.entry())]);
    let health = Health::start(&config, servers, Arc::new(Visitor::default()));
    until("five good probes", || health.opinions()[1].good >= 5).await;
    assert_eq!((health.opinions()[0].good, health.opinions()[0].bad), (0, 0));
}

#[tokio::test]
async fn a_backend_that_is_this_proxy_itself_is_failing() {
    let backend = Backend::start(Manner::Good).await;
    let visitor = Visitor::default();
    visitor.beware_of(vec![backend.address]);
    let servers = crate::servers(&[("self", backend.entry())]);
    let health = Health::start(&quick(), servers, Arc::new(visitor));
    let said = is(&health, Verdict::Failing).await.last_failure.unwrap().words;
    assert!(said.contains("this proxy's own listener"), "{said}");
    assert!(backend.lines().is_empty());
}
