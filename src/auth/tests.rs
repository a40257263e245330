//! The chain as a whole, over files and stand-ins.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::{AuthConfig, FilePassdb, MasterSeparator, PassdbConfig};
use crate::model::{Mechanism, Proof, Refusal};

pub(super) fn credentials(user: &str, password: &str) -> Credentials {
    let proof = Proof::Password(Secret::new(password.as_bytes().to_vec()));
    Credentials { user: user.to_owned(), authzid: None, proof, mechanism: Mechanism::Plain }
}

pub(super) fn question<'a>(credentials: &'a Credentials, session: &'a SessionId) -> Question<'a> {
    Question {
        credentials,
        service: Protocol::Imap,
        client: "192.0.2.7:50000".parse().unwrap(),
        local: "192.0.2.1:993".parse().unwrap(),
        secured: true,
        session,
        around: Circumstances::default(),
    }
}

/// Says one thing, and counts how often it was asked.
struct Stub(fn() -> Verdict, Arc<AtomicUsize>);

#[async_trait]
impl Source for Stub {
    fn name(&self) -> String {
        "stub".to_owned()
    }

    async fn ask(&self, _: &Question<'_>) -> Verdict {
        self.1.fetch_add(1, Ordering::Relaxed);
        (self.0)()
    }

    async fn find(&self, _: &Lookup<'_>) -> Verdict {
        (self.0)()
    }
}

fn granted(user: &str) -> Verdict {
    Verdict::Granted(Box::new(Grant {
        user: User::new(user),
        unproven: false,
        master: None,
        fields: Fields::default(),
    }))
}

/// Answers of a chain of stubs, and how often each was asked.
async fn ask_stubs(says: &[fn() -> Verdict], given: &Credentials) -> (Result<Grant, Refusal>, Vec<usize>) {
    let counters: Vec<Arc<AtomicUsize>> = says.iter().map(|_| Arc::default()).collect();
    let stub = |(say, counter): (&fn() -> Verdict, &Arc<AtomicUsize>)| -> Box<dyn Source> {
        Box::new(Stub(*say, Arc::clone(counter)))
    };
    let chain = Chain::new(says.iter().zip(&counters).map(stub).collect(), Vec::new());
    let answer = chain.authenticate(&question(given, &SessionId::random())).await.map_err(|refused| refused.refusal);
    (answer, counters.iter().map(|counter| counter.load(Ordering::Relaxed)).collect())
}

#[tokio::test]
async fn the_first_source_that_knows_the_user_decides() {
    let ann = credentials("ann", "x");
    let (answer, asked) = ask_stubs(&[|| Verdict::Unknown, || granted("ann"), || granted("bob")], &ann).await;
    assert_eq!(answer.unwrap().user, User::new("ann"));
    assert_eq!(asked, [1, 1, 0]);
    let (answer, asked) = ask_stubs(&[|| Verdict::Denied(Denial::Password), || granted("ann")], &ann).await;
    assert_eq!(answer.unwrap_err(), Refusal::BadCredentials);
    assert_eq!(asked, [1, 0]);
    let (answer, _) = ask_stubs(&[|| Verdict::Denied(Denial::Forbidden), || granted("ann")], &ann).await;
    assert_eq!(answer.unwrap_err(), Refusal::Forbidden);
}

#[tokio::test]
async fn a_user_whom_nobody_knows_is_refused_like_a_wrong_password() {
    let ann = credentials("ann", "x");
    assert_eq!(ask_stubs(&[|| Verdict::Unknown], &ann).await.0.unwrap_err(), Refusal::BadCredentials);
    assert_eq!(ask_stubs(&[], &ann).await.0.unwrap_err(), Refusal::BadCredentials);
}

#[tokio::test]
async fn behind_a_source_that_cannot_answer_nobody_is_asked() {
    let ann = credentials("ann", "x");
    let (answer, asked) = ask_stubs(&[|| Verdict::Unavailable("gone".into()), || granted("ann")], &ann).await;
    assert_eq!(answer.unwrap_err(), Refusal::PassdbUnavailable);
    assert_eq!(asked, [1, 0], "the next might let in, with another home, a user whom the first knows");
}

#[tokio::test]
async fn a_name_that_no_user_has_reaches_no_source() {
    for name in ["", "a\0b", "a\nb", "a\u{7f}", "a\u{85}b", &"x".repeat(256)] {
        let (answer, asked) = ask_stubs(&[|| granted("ann")], &credentials(name, "x")).await;
        assert_eq!((answer.unwrap_err(), asked), (Refusal::BadCredentials, vec![0]), "{name:?}");
    }
}

#[tokio::test]
async fn acting_as_somebody_else_is_refused_alike_for_whoever_is_meant() {
    let mut ann = credentials("ann", "x");
    for meant in ["bob", "nobody"] {
        ann.authzid = Some(meant.into());
        let (answer, asked) = ask_stubs(&[|| granted("ann")], &ann).await;
        assert_eq!((answer.unwrap_err(), asked), (Refusal::Forbidden, vec![0]));
        let (answer, asked) = ask_stubs(&[|| Verdict::Unknown], &ann).await;
        assert_eq!((answer.unwrap_err(), asked), (Refusal::Forbidden, vec![0]));
    }
    ann.authzid = Some("Ann".into());
    assert!(ask_stubs(&[|| granted("ann")], &ann).await.0.is_ok());
}

fn separated_by(separator: Option<char>) -> AuthConfig {
    AuthConfig { master_separator: MasterSeparator(separator), ..AuthConfig::default() }
}

/// A chain with a file of users and one of masters.
async fn with_masters(separator: Option<char>) -> (tempfile::TempDir, Chain) {
    let dir = tempfile::tempdir().unwrap();
    let source = |name: &str, text: &str, master| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        PassdbConfig::File(FilePassdb { path, default_scheme: "PLAIN".to_owned(), master, cache: false })
    };
    let masters = source("masters", "admin:geheim\nlocked:{PLAIN}x::::::nologin\nopen:::::::nopassword\n", true);
    let users = source("users", "ann:hers::::::pool=p\n", false);
    (dir, Chain::open(&[masters, users], &separated_by(separator), 2).await)
}

#[tokio::test]
async fn a_master_user_logs_in_for_a_user_whose_fields_count() {
    let (_dir, chain) = with_masters(Some('*')).await;
    let session = SessionId::random();
    let by_authzid = Credentials { authzid: Some("Ann".to_owned()), ..credentials("admin", "geheim") };
    for given in [credentials("ann*admin", "geheim"), by_authzid] {
        let grant = chain.authenticate(&question(&given, &session)).await.unwrap();
        assert_eq!((grant.user.as_str(), grant.master.as_deref(), grant.unproven), ("ann", Some("admin"), false));
        assert_eq!(grant.fields.pool.unwrap().as_str(), "p");
    }
    for (name, password, refusal) in [
        ("ann*admin", "hers", Refusal::BadCredentials),
        ("ann*nobody", "geheim", Refusal::BadCredentials),
        ("nobody*admin", "geheim", Refusal::BadCredentials),
        ("ann*locked", "x", Refusal::Forbidden),
        ("ann*", "geheim", Refusal::BadCredentials),
        ("*admin", "geheim", Refusal::BadCredentials),
        // A master is no user.
        ("admin", "geheim", Refusal::BadCredentials),
    ] {
        let given = credentials(name, password);
        assert_eq!(chain.authenticate(&question(&given, &session)).await.unwrap_err().refusal, refusal, "{name}");
    }
}

#[tokio::test]
async fn a_master_whose_password_nobody_checks_proves_nothing() {
    let (_dir, chain) = with_masters(Some('*')).await;
    let (given, session) = (credentials("ann*open", "any"), SessionId::random());
    assert!(chain.authenticate(&question(&given, &session)).await.unwrap().unproven);
}

#[tokio::test]
async fn without_a_separator_it_is_part_of_the_name() {
    let (_dir, chain) = with_masters(None).await;
    let (given, session) = (credentials("ann*admin", "geheim"), SessionId::random());
    assert_eq!(chain.authenticate(&question(&given, &session)).await.unwrap_err().refusal, Refusal::BadCredentials);
}

#[tokio::test]
async fn where_the_backend_decides_it_decides_about_masters_too() {
    let chain = Chain::open(&[PassdbConfig::Backend], &separated_by(Some('*')), 2).await;
    let (given, session) = (credentials("Ann*admin", "geheim"), SessionId::random());
    let grant = chain.authenticate(&question(&given, &session)).await.unwrap();
    assert_eq!((grant.user.as_str(), grant.master.as_deref(), grant.unproven), ("ann", Some("admin"), true));
}

#[tokio::test]
async fn a_user_is_found_without_a_password_also_one_who_may_not_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    std::fs::write(&path, "ann:{PLAIN}x::::::nologin destuser=anna\n").unwrap();
    let file = PassdbConfig::File(FilePassdb { path, default_scheme: "PLAIN".to_owned(), master: false, cache: false });
    let chain = Chain::open(&[file], &separated_by(Some('*')), 2).await;
    let session = SessionId::random();
    let lookup = |user| Lookup {
        user,
        service: Protocol::Lmtp,
        client: "192.0.2.7:50000".parse().unwrap(),
        local: "192.0.2.1:24".parse().unwrap(),
        session: &session,
    };
    assert_eq!(chain.find(&lookup("Ann")).await.unwrap().unwrap().home_name(), "anna");
    for nobody in ["bob", "", "a\nb"] {
        assert!(chain.find(&lookup(nobody)).await.unwrap().is_none(), "{nobody:?}");
    }
}

#[tokio::test]
async fn the_backend_source_lets_everybody_through_unproven() {
    let chain = Chain::open(&[PassdbConfig::Backend], &separated_by(Some('*')), 2).await;
    let session = SessionId::random();
    let grant = chain.authenticate(&question(&credentials("Ann@Example.ORG", "x"), &session)).await.unwrap();
    assert!(grant.unproven);
    assert_eq!(grant.user, User::new("ann@example.org"));
    for name in [" ann", "ann ", "\u{a0}ann"] {
        let refused = chain.authenticate(&question(&credentials(name, "x"), &session)).await.unwrap_err().refusal;
        assert_eq!(refused, Refusal::BadCredentials, "a backend may take {name:?} for ann");
    }
}

#[test]
fn the_key_is_made_of_the_name_at_the_backend() {
    let mut grant =
        Grant { user: User::new("ÄNNE@Example.org"), unproven: false, master: None, fields: Fields::default() };
    assert_eq!(grant.home_name(), "ÄNNE@Example.org");
    grant.fields.destuser = Some("Mailbox17".to_owned());
    assert_eq!(grant.home_name(), "Mailbox17");
}

/// Everything that is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn i9_no_password_is_in_any_log_or_debug_text() {
    const SECRET: &str = "geh3im";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let lines = "ann:{PLAIN}geh3im::::::host=mail1 pass=geh3im master=m\n\
                 bob:{geh3im}geh3im\n\
                 cat:geh3im\n\
                 dan:{PLAIN}geh3im::::::port=geh3im\n\
                 eve:{PLAIN}geh3im::::::GEH3IM!geh3im geh3im\n\
                 bob:{PLAIN}geh3im\n\
                 Fay:{PLAIN}geh3im\n\
                 geh3im\n";
    std::fs::write(&path, lines).unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let passdb =
        [PassdbConfig::File(FilePassdb { path, default_scheme: "CRYPT".to_owned(), master: false, cache: false })];
    let chain = Chain::open(&passdb, &separated_by(Some('*')), 2).await;
    let session = SessionId::random();
    let mut shown = String::new();
    for user in ["ann", "bob", "cat", "dan", "eve", "fay", "gus"] {
        for password in [SECRET, "geh3im but wrong"] {
            let given = credentials(user, password);
            let question = question(&given, &session);
            let answer = chain.authenticate(&question).await;
            shown += &format!("{given:?} {question:?} {answer:?}\n");
        }
    }
    drop(guard);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("users:2"), "the log must have something to say:\n{logged}");
    assert!(shown.contains("Ok(Grant"), "{shown}");
    assert!(!logged.to_lowercase().contains(SECRET), "{logged}");
    assert!(!shown.to_lowercase().contains(SECRET), "{shown}");
}

mod extra {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::super::extra::Extra;
    use super::super::fault::Fault;
    use super::super::{FieldTls, Secret};

    fn parse(text: &str) -> Extra {
        Extra::parse(text, |_| ()).unwrap()
    }

    #[test]
    fn fields_of_a_dovecot_proxy_are_understood() {
        let extra = parse(
            "proxy=y pool=ssd host=mail1.example.org port=1143 destuser=box17 master=admin pass=s=e=c starttls=any-cert \
             proxy_timeout=1500ms proxy_nopipelining proxy_not_trusted=y userdb_uid=1000",
        );
        let fields = extra.fields;
        assert_eq!(fields.pool.unwrap().as_str(), "ssd");
        assert_eq!(fields.host.as_deref(), Some("mail1.example.org"));
        assert_eq!(fields.port, Some(1143));
        assert_eq!(fields.destuser.as_deref(), Some("box17"));
        assert_eq!(fields.master.as_deref(), Some("admin"));
        assert!(fields.pass == Some(Secret::new(b"s=e=c".to_vec())));
        assert_eq!(fields.tls, Some(FieldTls { starttls: true, verify: false }));
        assert_eq!(fields.timeout, Some(Duration::from_millis(1500)));
        assert!(fields.no_pipelining && fields.not_trusted);
        assert_eq!(parse("director_tag=hdd").fields.pool.unwrap().as_str(), "hdd");
        assert_eq!(parse("ssl=yes").fields.tls, Some(FieldTls { starttls: false, verify: true }));
        assert_eq!(parse("ssl=no").fields.tls, None);
        assert_eq!(parse("proxy_timeout=5").fields.timeout, Some(Duration::from_secs(5)));
        assert_eq!(parse("proxy_timeout=2m").fields.timeout, Some(Duration::from_secs(120)));
        assert!(parse("nologin").nologin && parse("nologin=y").nologin && !parse("nologin=no").nologin);
    }

    #[test]
    fn fields_that_mean_nothing_here_are_told_and_ignored() {
        let mut unknown = Vec::new();
        let extra =
            Extra::parse("proxy userdb_home=/x quota=5G nonsense host=a", |field| unknown.push(field.to_owned()));
        assert_eq!(extra.unwrap().fields.host.as_deref(), Some("a"));
        assert_eq!(unknown, ["quota", "nonsense"]);
    }

    #[test]
    fn a_field_with_a_wrong_value_is_named_but_not_quoted() {
        let long = format!("destuser={}", "x".repeat(256));
        let wrong = [
            "port=0",
            "port=70000",
            "host=",
            "pool",
            "ssl=maybe",
            "proxy_timeout=0",
            "proxy_timeout=2h",
            "proxy_timeout=99999999999999999999",
            "allow_nets=10.0.0.0/99",
            "allow_nets=ann",
            "destuser=a\u{1}b",
            &long,
        ];
        for text in wrong {
            let fault = Extra::parse(text, |_| ()).unwrap_err();
            let field = text.split('=').next().unwrap();
            assert!(matches!(fault, Fault::BadField { field: named, .. } if named == field), "{text}: {fault}");
        }
        assert_eq!(Extra::parse("master=admin", |_| ()).unwrap_err(), Fault::MasterWithoutPass);
    }

    #[test]
    fn allow_nets_admits_only_its_networks() {
        let extra = parse("allow_nets=10.0.0.0/8,192.0.2.7,2001:db8::/32,local");
        let admits = |address: &str| extra.fields.admits(address.parse::<IpAddr>().unwrap());
        assert!(admits("10.1.2.3") && admits("192.0.2.7") && admits("2001:db8::1"));
        assert!(admits("::ffff:10.1.2.3"), "an IPv4 address on an IPv6 socket is the same address");
        assert!(!admits("192.0.2.8") && !admits("2001:db9::1") && !admits("::1"));
        assert!(parse("").fields.admits("203.0.113.1".parse().unwrap()));
        assert!(!parse("allow_nets=").fields.admits("203.0.113.1".parse().unwrap()), "none is none");
    }
}

#[tokio::test]
async fn a_certificate_does_not_make_a_master_of_a_user() {
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    };
    let (users, masters) = (file("ann:{PLAIN}a\n"), file("boss:{PLAIN}b\n"));
    let passdb = |file: &tempfile::NamedTempFile, master| {
        PassdbConfig::File(FilePassdb { path: file.path().to_owned(), master, ..FilePassdb::default() })
    };
    let chain = Chain::open(&[passdb(&users, false), passdb(&masters, true)], &AuthConfig::default(), 1).await;
    let session = SessionId::random();
    for (user, authzid, is_in) in [("ann*boss", None, false), ("boss", Some("ann".to_owned()), true)] {
        let own = Credentials { user: user.to_owned(), authzid, proof: Proof::Proven, mechanism: Mechanism::External };
        assert_eq!(chain.authenticate(&question(&own, &session)).await.is_ok(), is_in, "{user}");
    }
}
