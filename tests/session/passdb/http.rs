//! Web services that the test plays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use homing::auth::Chain;
use homing::config::{AuthConfig, Certificate, Config, PassdbConfig, TlsConfig};
use homing::model::{Protocol, Refusal, SessionId};
use homing::net::ServerTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::parts::{eventually, find, log_in};
use crate::parts::Site;

/// Head (lower case) and body of a question.
type Asked = (String, String);

/// A web service: what it answers, and how many connections it has taken.
struct Service {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Service {
    async fn open(tls: Option<ServerTls>, answer: fn(&Asked) -> String) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls, answer)
    }

    fn at(listener: TcpListener, tls: Option<ServerTls>, answer: fn(&Asked) -> String) -> Self {
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (counter, tls) = (connections.clone(), tls.map(Arc::new));
        let task = tokio::spawn(async move {
            let mut guests = tokio::task::JoinSet::new(); // end with the service
            while let Ok((tcp, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let tls = tls.clone();
                guests.spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok((stream, _)) = tls.accept(tcp, &[]).await {
                                serve(stream, answer).await;
                            }
                        }
                        None => serve(tcp, answer).await,
                    }
                });
            }
        });
        Self { address, connections, task }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, question by question. An empty answer is none.
async fn serve(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, answer: fn(&Asked) -> String) {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            let mut more = [0; 4096];
            match stream.read(&mut more).await {
                Ok(count) if count > 0 => read.extend(&more[..count]),
                _ => return,
            }
            continue;
        };
        let head = String::from_utf8(read.drain(..end + 4).collect()).unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        while read.len() < length {
            let mut more = [0; 4096];
            let count = stream.read(&mut more).await.unwrap();
            read.extend(&more[..count]);
        }
        let body = String::from_utf8(read.drain(..length).collect()).unwrap();
        let answer = answer(&(head, body));
        if answer.is_empty() {
            std::future::pending::<()>().await;
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

fn headers(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n")
}

fn json(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The passdb that these lines describe.
fn passdb(lines: &str) -> Vec<PassdbConfig> {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.a]\nhost = \"h\"\n\
         [[passdb]]\nkind = \"http\"\ntimeout = \"700ms\"\nfailures = 2\npause = \"50ms\"\n{lines}\n"
    );
    let config = Config::parse(&text, "x.toml").unwrap_or_else(|faults| panic!("{}", faults.report(false)));
    config.passdb
}

/// As a service for nginx: it knows ann, and wants to see every header.
fn nginx((head, _): &Asked) -> String {
    let has = |line: &str| head.contains(&format!("\r\n{line}\r\n"));
    if has("auth-method: none") {
        return headers(if has("auth-user: ann") && has("auth-smtp-to: RCPT TO:<ann>") {
            "Auth-Status: OK\r\nAuth-Server: 127.0.0.24\r\nAuth-Port: 24\r\n"
        } else {
            "Auth-Status: No such user\r\n"
        });
    }
    let asked = head.starts_with("GET /auth?x=1 HTTP/1.1\r\n")
        && has("auth-method: plain")
        && has("auth-protocol: imap")
        && has("auth-login-attempt: 2")
        && has("client-ip: 192.0.2.7")
        && has("x-auth-key: geheimer");
    match head {
        _ if !asked => headers(&format!("Auth-Status: {}\r\n", head.escape_debug())),
        _ if has("auth-user: ann") && has("auth-pass: ge%20h%25") => {
            headers("Auth-Status: OK\r\nAuth-Server: 127.0.0.9\r\nAuth-Port: 1143\r\n")
        }
        _ if has("auth-user: slow") => headers("Auth-Status: No\r\nAuth-Wait: 1\r\n"),
        _ => headers("Auth-Status: Invalid login\r\n"),
    }
}

#[tokio::test]
async fn a_service_made_for_nginx_sees_and_says_what_it_is_used_to_on_one_connection() {
    let service = Service::open(None, nginx).await;
    let lines = format!("url = \"http://{}/auth?x=1\"\nheader = \"X-Auth-Key: geheimer\"", service.address);
    let chain = Chain::open(&passdb(&lines), &AuthConfig::default(), 1).await;
    let fields = log_in(&chain, Protocol::Imap, "ann", "ge h%").await.unwrap().fields;
    assert_eq!((fields.host.as_deref(), fields.port), (Some("127.0.0.9"), Some(1143)));
    let refused = log_in(&chain, Protocol::Imap, "ann", "falsch").await.unwrap_err();
    assert_eq!((refused.refusal, refused.words.as_deref()), (Refusal::BadCredentials, Some("Invalid login")));
    let began = std::time::Instant::now();
    log_in(&chain, Protocol::Imap, "slow", "x").await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_secs(1), "Auth-Wait");
    assert!(!chain.stats()[0].paused, "to wait is no failure of the source");
    let lmtp = find(&chain, "ann").await.unwrap().unwrap().fields;
    assert_eq!((lmtp.host.as_deref(), lmtp.port), (Some("127.0.0.24"), Some(24)));
    assert!(find(&chain, "nobody").await.unwrap().is_none());
    assert_eq!(service.connections.load(Ordering::SeqCst), 1, "the connection is kept");
    assert!(chain.list(&SessionId::new("s")).await.unwrap().is_none());

    let free = Chain::open(&passdb(&format!("{lines}\nobey_server = false")), &AuthConfig::default(), 1).await;
    assert_eq!(log_in(&free, Protocol::Imap, "ann", "ge h%").await.unwrap().fields.host, None);
}

/// As Nauthilus.
fn nauthilus((head, body): &Asked) -> String {
    let asked: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    if head.starts_with("POST /api/v1/auth/json?mode=list-accounts ") {
        return json(200, r#"["ann","bob"]"#);
    }
    let found = r#"{"ok":true,"account_field":"mail","attributes":{"mail":["ann@x.org"],"mailHost":["m1"]}}"#;
    if head.starts_with("POST /api/v1/auth/json?mode=no-auth ") {
        assert!(asked.get("password").is_none() && asked["protocol"] == "lmtp", "{asked}");
        return if asked["username"] == "ann" { json(200, found) } else { json(403, r#"{"error":"unknown"}"#) };
    }
    assert!(head.starts_with("POST /api/v1/auth/json HTTP/1.1\r\n"), "{head}");
    let around =
        ["client_ip", "client_port", "protocol", "method", "ssl"].map(|name| asked[name].as_str().unwrap().to_owned());
    assert_eq!(around, ["192.0.2.7", "50000", "imap", "plain", "on"]);
    assert_eq!(asked["auth_login_attempt"], 2);
    match asked["password"].as_str() {
        Some("ge\"h€im") => json(200, found),
        Some("long") => json(200, &format!(r#"{{"ok":true,"reason":"{}"}}"#, "x".repeat(70_000))),
        _ => json(403, r#"{"error":"password wrong"}"#),
    }
}

#[tokio::test]
async fn a_json_service_behind_tls_checks_looks_up_and_lists() {
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let files = Certificate { certificate: certificate.clone(), key };
    let tls = ServerTls::new(&TlsConfig { certificates: vec![files], ..TlsConfig::default() }).unwrap();
    let service = Service::open(Some(tls), nauthilus).await;
    let url = format!("url = \"https://{}/api/v1/auth/json\"\nformat = \"json\"", service.address);
    let ca = format!("{url}\nattributes = [\"mailHost=host\"]\ntls_ca = \"{}\"", certificate.display());
    let chain = Chain::open(&passdb(&ca), &AuthConfig::default(), 1).await;
    let grant = log_in(&chain, Protocol::Imap, "ann", "ge\"h€im").await.unwrap();
    assert_eq!((grant.user.as_str(), grant.fields.host.as_deref()), ("ann@x.org", Some("m1")));
    let refused = log_in(&chain, Protocol::Imap, "ann", "falsch").await.unwrap_err();
    assert_eq!(refused.refusal, Refusal::BadCredentials);
    assert_eq!(find(&chain, "ann").await.unwrap().unwrap().user.as_str(), "ann@x.org");
    assert!(find(&chain, "eve").await.unwrap().is_none());
    let names = chain.list(&SessionId::new("s")).await.unwrap().unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["ann", "bob"]);
    let long = log_in(&chain, Protocol::Imap, "ann", "long").await.unwrap_err();
    assert_eq!(long.refusal, Refusal::PassdbUnavailable, "an answer has bounds");

    let strict = Chain::open(&passdb(&url), &AuthConfig::default(), 1).await;
    let unknown = log_in(&strict, Protocol::Imap, "ann", "ge\"h€im").await.unwrap_err();
    assert_eq!(unknown.refusal, Refusal::PassdbUnavailable, "its authority is not one of the system's");
}

#[tokio::test]
async fn a_service_that_hangs_or_is_gone_makes_temporary_failures_until_it_is_back() {
    let hanging = Service::open(None, |_| String::new()).await;
    let address = hanging.address;
    let config = passdb(&format!("url = \"http://{address}/\""));
    let chain = Chain::open(&config, &AuthConfig::default(), 1).await;
    for _ in 0..3 {
        let refused = log_in(&chain, Protocol::Imap, "ann", "x").await.unwrap_err();
        assert_eq!(refused.refusal, Refusal::PassdbUnavailable);
    }
    assert!(chain.stats()[0].paused, "the breaker is open");
    let site = Site::with(|site| site.passdb = config).await;
    let mut client = site.client().await;
    client.send("a LOGIN ann x\r\n").await;
    client.expect_start("a NO [UNAVAILABLE] ").await;
    drop(hanging);
    assert!(log_in(&chain, Protocol::Imap, "ann", "x").await.is_err());
    let listener = loop {
        if let Ok(listener) = TcpListener::bind(address).await {
            break listener;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let _back = Service::at(listener, None, |_| headers("Auth-Status: OK\r\n"));
    eventually(&chain, "ann", "x").await;
    assert!(!chain.stats()[0].paused);
}
