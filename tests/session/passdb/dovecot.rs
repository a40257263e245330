//! A real Dovecot 2.3.

use homing::auth::Chain;
use homing::config::{AuthConfig, RemoteKeys};
use homing::model::{Protocol, Refusal};
use rustix::process::Signal;

use super::parts::{Dovecot, eventually, find, log_in, soon};
use crate::parts::Site;

const USERS: &str = "ann:geheim:1:1::/tmp::proxy=y host=mail.test hostip=127.0.0.7 port=1143 destuser=anna \
                     proxy_timeout=3 director_tag=eu forward_x=1 user_alias=ann2 ssl=any-cert\n\
                     bob:geheim:1:1::/tmp::proxy=y master=root pass=other\n\
                     gone:geheim:1:1::/tmp::nologin=y reason=Moved\n\
                     net:geheim:1:1::/tmp::allow_nets=10.0.0.0/8\n";

#[tokio::test]
async fn a_real_dovecot_checks_passwords_for_each_service_and_its_fields_arrive() {
    let dovecot = Dovecot::start(USERS).await;
    dovecot.users(Protocol::Pop3, "ann:andere::::::host=10.0.0.9\n");
    let chain = Chain::open(&[dovecot.passdb(RemoteKeys::default())], &AuthConfig::default(), 1).await;
    let grant =
        log_in(&chain, Protocol::Imap, "ann", "geheim").await.unwrap_or_else(|why| panic!("{why:?} {}", dovecot.log()));
    assert_eq!((grant.user.as_str(), grant.unproven), ("ann", false));
    assert_eq!((grant.fields.host.as_deref(), grant.fields.port), (Some("mail.test"), Some(1143)));
    assert_eq!(grant.fields.hostip, Some("127.0.0.7".parse().unwrap()));
    assert_eq!(grant.fields.destuser.as_deref(), Some("anna"));
    assert_eq!(grant.fields.pool.as_ref().map(|pool| pool.as_str()), Some("eu"));
    assert_eq!(grant.fields.forward, [("x".to_owned(), "1".to_owned())]);
    let bob = log_in(&chain, Protocol::Imap, "bob", "geheim").await.unwrap().fields;
    assert_eq!((bob.master.as_deref(), bob.pass.as_ref().unwrap().expose()), (Some("root"), &b"other"[..]));
    let pop3 = log_in(&chain, Protocol::Pop3, "ann", "andere").await.unwrap();
    assert_eq!(pop3.fields.host.as_deref(), Some("10.0.0.9"));
    for (service, user, password, refusal) in [
        (Protocol::Pop3, "ann", "geheim", Refusal::BadCredentials),
        (Protocol::Imap, "ann", "andere", Refusal::BadCredentials),
        (Protocol::Imap, "nobody", "geheim", Refusal::BadCredentials),
        (Protocol::Imap, "gone", "geheim", Refusal::Forbidden),
        (Protocol::Imap, "gone", "falsch", Refusal::BadCredentials),
    ] {
        let refused = log_in(&chain, service, user, password).await.unwrap_err();
        assert_eq!(refused.refusal, refusal, "{user} {password}");
        assert_eq!(refused.words.as_deref(), (refusal == Refusal::Forbidden).then_some("Moved"));
    }
    assert!(log_in(&chain, Protocol::Imap, "net", "geheim").await.is_err());
}

#[tokio::test]
async fn a_real_dovecot_looks_up_whose_mail_comes_and_lists_its_users() {
    let dovecot = Dovecot::start(USERS).await;
    dovecot.users(Protocol::Lmtp, "ann:*::::::proxy=y host=10.0.0.24 port=24 nologin=y\n");
    let chain = Chain::open(&[dovecot.passdb(RemoteKeys::default())], &AuthConfig::default(), 1).await;
    let grant = find(&chain, "ann").await.unwrap_or_else(|why| panic!("{why:?} {}", dovecot.log())).unwrap();
    assert_eq!((grant.fields.host.as_deref(), grant.fields.port), (Some("10.0.0.24"), Some(24)));
    assert!(find(&chain, "nobody").await.unwrap().is_none());
    let names = chain.list(&homing::model::SessionId::new("s")).await.unwrap().unwrap();
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["ann", "bob", "gone", "net"]);
}

#[tokio::test]
async fn whom_dovecot_does_not_know_the_next_source_may_know() {
    let dovecot = Dovecot::start(USERS).await;
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "ann:{PLAIN}hier\neve:{PLAIN}hier\n").unwrap();
    let file = homing::config::FilePassdb { path: users.path().to_owned(), ..Default::default() };
    let passdb = [dovecot.passdb(RemoteKeys::default()), homing::config::PassdbConfig::File(file)];
    let chain = Chain::open(&passdb, &AuthConfig::default(), 1).await;
    assert_eq!(log_in(&chain, Protocol::Imap, "eve", "hier").await.unwrap().user.as_str(), "eve");
    let refused = log_in(&chain, Protocol::Imap, "ann", "hier").await.unwrap_err();
    assert_eq!(refused.refusal, Refusal::BadCredentials, "the first that knows the user decides");
}

#[tokio::test]
async fn a_dovecot_that_is_killed_or_hangs_makes_temporary_failures_until_it_is_back() {
    let mut dovecot = Dovecot::start(USERS).await;
    let chain = Chain::open(&[dovecot.passdb(soon())], &AuthConfig::default(), 1).await;
    eventually(&chain, "bob", "geheim").await;
    let refused = async |times: usize| {
        for _ in 0..times {
            let refused = log_in(&chain, Protocol::Imap, "bob", "geheim").await.unwrap_err();
            assert_eq!(refused.refusal, Refusal::PassdbUnavailable);
        }
    };
    dovecot.signal(Signal::STOP);
    refused(3).await;
    assert!(chain.stats()[0].paused, "the breaker is open");
    assert_eq!(find(&chain, "bob").await.unwrap_err(), Refusal::PassdbUnavailable, "nothing is known about anybody");
    dovecot.signal(Signal::CONT);
    eventually(&chain, "bob", "geheim").await;
    assert!(!chain.stats()[0].paused);
    dovecot.kill();
    refused(3).await;
    dovecot.launch().await;
    eventually(&chain, "bob", "geheim").await;
    // An auth process of its own accord: the connection that it had is gone, and nobody notices.
    assert!(
        std::process::Command::new("doveadm")
            .arg("-c")
            .arg(dovecot.config_path())
            .arg("reload")
            .status()
            .unwrap()
            .success()
    );
    eventually(&chain, "bob", "geheim").await;
}

#[tokio::test]
async fn clients_hear_a_dovecots_reason_and_its_absence_in_their_own_protocol() {
    let mut dovecot = Dovecot::start(USERS).await;
    let always_asked = RemoteKeys { cache: false, ..soon() };
    let site = Site::with(|config| config.passdb = vec![dovecot.passdb(always_asked)]).await;
    let mut client = site.client().await;
    client.send("a LOGIN gone geheim\r\nb LOGIN gone falsch\r\n").await;
    client.expect("a NO [AUTHORIZATIONFAILED] Moved\r\n").await;
    client.expect("b NO [AUTHENTICATIONFAILED] Wrong user name or password.\r\n").await;
    client.send("c LOGIN bob geheim\r\n").await;
    let mut server = site.server.accept().await;
    assert_eq!(server.take_login().await.1, ["bob", "root", "other"]);
    client.expect_start("c OK ").await;
    dovecot.kill();
    let mut late = site.client().await;
    late.send("a LOGIN bob geheim\r\n").await;
    late.expect_start("a NO [UNAVAILABLE] Logins cannot be checked").await;
    let told = |text: &str| site.lines(|line| line.values().any(|value| value.contains(text)));
    assert!(told("geheim").is_empty() && told("Z2VoZWlt").is_empty(), "no password is ever logged");
}
