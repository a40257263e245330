//! A policy server that welcomes, delays, turns away, hangs and dies.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use homing::model::Refusal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::dovecot::{dovecot_auth, log_in_at_dovecot};
use super::site::Site;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shared {
    /// Command and body of every request.
    heard: Mutex<Vec<(String, Value)>>,
    /// Answers to come; then 0.
    statuses: Mutex<Vec<Value>>,
    hangs: Mutex<bool>,
}

struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        Self { address, task: serve(listener, Arc::clone(&shared)), shared }
    }

    fn will_say(&self, statuses: &[Value]) {
        *self.shared.statuses.lock().unwrap() = statuses.iter().rev().cloned().collect();
    }

    /// Waits for so many requests, and forgets them.
    async fn hears(&self, count: usize) -> Vec<(String, Value)> {
        let begun = Instant::now();
        loop {
            {
                let mut heard = self.shared.heard.lock().unwrap();
                if heard.len() >= count {
                    return std::mem::take(&mut *heard);
                }
                assert!(begun.elapsed() < PATIENCE, "{heard:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // between two looks at the condition
        }
    }

    async fn commands(&self, count: usize) -> Vec<String> {
        self.hears(count).await.into_iter().map(|(command, _)| command).collect()
    }

    fn hang(&self, hangs: bool) {
        *self.shared.hangs.lock().unwrap() = hangs;
    }

    async fn die(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    async fn live_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = serve(listener, Arc::clone(&self.shared));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    let routes = Router::new().route("/policy", post(answer)).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() })
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Json<Value> {
    assert_eq!(headers["x-api-key"], "policy-key");
    let hangs = *shared.hangs.lock().unwrap();
    if hangs {
        std::future::pending::<()>().await;
    }
    shared.heard.lock().unwrap().push((query["command"].clone(), body));
    let next = if query["command"] == "allow" { shared.statuses.lock().unwrap().pop() } else { None };
    Json(next.unwrap_or(json!({ "status": 0, "msg": "" })))
}

/// One user, with a policy server.
async fn site(server: &Server, keys: &str, users: &tempfile::TempDir) -> Site {
    let file = users.path().join("users");
    std::fs::write(&file, "ann@x.org:{PLAIN}secret-ann\n").unwrap();
    Site::new(&format!(
        "[[passdb]]\nkind = \"file\"\npath = \"{}\"\n[auth_policy]\nserver_url = \"http://{}/policy\"\n\
         server_api_header = \"policy-key\"\nhash_nonce = \"salt\"\nserver_timeout = \"300ms\"\n{keys}\n",
        file.display(),
        server.address
    ))
    .await
}

#[tokio::test]
async fn a_login_is_asked_about_before_and_after_and_reported() {
    let (server, users) = (Server::new().await, tempfile::tempdir().unwrap());
    let site = site(&server, "", &users).await;
    assert!(site.ask("Ann@X.org", "secret-ann").await.is_ok());
    let heard = server.hears(3).await;
    assert_eq!(heard.iter().map(|(command, _)| command.as_str()).collect::<Vec<_>>(), ["allow", "allow", "report"]);
    let mut asked = heard[0].1.clone();
    let session = asked.as_object_mut().unwrap().remove("session_id").unwrap();
    assert!(!session.as_str().unwrap().is_empty());
    // The first 12 bits of SHA-256 over "salt", "ann@x.org", a zero and "secret-ann".
    let wanted = json!({
        "login": "ann@x.org", "pwhash": PWHASH, "remote": "192.0.2.7", "device_id": "", "protocol": "imap", "tls": true,
        "fail_type": "",
    });
    assert_eq!(asked, wanted);
    assert_eq!((&heard[2].1["success"], &heard[2].1["policy_reject"]), (&json!(true), &json!(false)));

    assert_eq!(site.refuses("ann@x.org", "wrong").await, Refusal::BadCredentials);
    let heard = server.hears(2).await;
    assert_eq!(heard.iter().map(|(command, _)| command.as_str()).collect::<Vec<_>>(), ["allow", "report"]);
    assert_eq!((&heard[1].1["success"], &heard[1].1["fail_type"]), (&json!(false), &json!("credentials")));
    assert_ne!(heard[1].1["pwhash"], json!(PWHASH), "another password");
}

/// See above; made with another program.
const PWHASH: &str = "027b";

#[tokio::test]
async fn the_server_turns_away_and_delays() {
    let (server, users) = (Server::new().await, tempfile::tempdir().unwrap());
    let site = site(&server, "max_delay = \"1100ms\"", &users).await;
    let [yes, no] = [json!({ "status": 0 }), json!({ "status": -1, "msg": "go away" })];
    server.will_say(std::slice::from_ref(&no));
    assert_eq!(site.refuses("ann@x.org", "secret-ann").await, Refusal::BadCredentials);
    let heard = server.hears(2).await;
    assert_eq!(heard[1].0, "report", "the password was never checked");
    assert_eq!((&heard[1].1["success"], &heard[1].1["policy_reject"]), (&json!(false), &json!(true)));
    assert_eq!(heard[1].1["fail_type"], json!("policy"));

    server.will_say(&[yes.clone(), no]);
    let refused = site.asked("ann@x.org", "secret-ann").await.unwrap_err();
    assert_eq!((refused.refusal, refused.words.as_deref()), (Refusal::BadCredentials, Some("go away")));
    assert_eq!(server.commands(3).await, ["allow", "allow", "report"]);
    server.will_say(&[json!({ "status": -1, "msg": "a\r\nb".repeat(100) })]);
    let words = site.asked("ann@x.org", "secret-ann").await.unwrap_err().words.unwrap();
    assert!(words.starts_with("aba") && words.len() == 200, "{words}");

    server.will_say(&[yes, json!({ "status": 4_000_000_000_u64 })]);
    let begun = Instant::now();
    assert!(site.ask("ann@x.org", "secret-ann").await.is_ok());
    assert!(begun.elapsed() < Duration::from_millis(1100), "who has the right password does not wait");
    server.commands(5).await;

    for seconds in [1, 4_000_000_000_u64] {
        server.will_say(&[json!({ "status": seconds })]);
        let begun = Instant::now();
        assert!(site.ask("ann@x.org", "secret-ann").await.is_ok());
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(begun.elapsed() < PATIENCE);
    }
    server.commands(6).await;
    let stats = site.policy_stats();
    assert_eq!((stats.welcome, stats.delayed, stats.unwelcome, stats.unavailable, stats.paused), (4, 3, 3, 0, false));
    site.has_reported(6).await;
}

#[tokio::test]
async fn what_is_switched_off_is_not_asked() {
    let (server, users) = (Server::new().await, tempfile::tempdir().unwrap());
    let no = json!({ "status": -1 });
    let quiet = site(&server, "check_before_auth = false\nreport_after_auth = false", &users).await;
    assert!(quiet.ask("ann@x.org", "secret-ann").await.is_ok());
    assert_eq!(server.commands(1).await, ["allow"]);
    let after = site(&server, "check_after_auth = false\nlog_only = true", &users).await;
    server.will_say(&[no]);
    assert!(after.ask("ann@x.org", "secret-ann").await.is_ok(), "it is only written about");
    assert_eq!(server.commands(2).await, ["allow", "report"]);
    let nested = "request_attributes = \"who/name=%{user} who/from=%{rip}:%{rport} to=%{lip} full=%%x hash=%{hashed_password}\"\n\
                  hash_mech = \"sha512\"\nhash_truncate = 0";
    let nested = site(&server, nested, &users).await;
    assert!(nested.ask("ann@x.org", "secret-ann").await.is_ok());
    let asked = server.hears(3).await.remove(0).1;
    assert_eq!(asked["who"], json!({ "name": "ann@x.org", "from": "192.0.2.7:50000" }));
    assert_eq!((&asked["to"], &asked["full"]), (&json!("192.0.2.1"), &json!("%x")));
    assert_eq!(asked["hash"].as_str().unwrap().len(), 128);
}

#[tokio::test]
async fn while_the_server_is_away_logins_go_on_after_a_bounded_wait() {
    let (mut server, users) = (Server::new().await, tempfile::tempdir().unwrap());
    let (open, closed) = (site(&server, "", &users).await, site(&server, "reject_on_fail = true", &users).await);
    for hangs in [true, false] {
        if hangs {
            server.hang(true)
        } else {
            server.die().await
        }
        for _ in 0..4 {
            let begun = Instant::now();
            assert!(open.ask("ann@x.org", "secret-ann").await.is_ok());
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            assert_eq!(
                closed.refuses("ann@x.org", "secret-ann").await,
                Refusal::PassdbUnavailable,
                "nobody has guessed anything"
            );
        }
        if hangs {
            server.hang(false)
        } else {
            server.live_again().await
        }
        let begun = Instant::now();
        while closed.ask("ann@x.org", "secret-ann").await.is_err() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await; // between two looks at the condition
        }
    }
    // An answer that is none.
    server.will_say(&[json!({ "status": "0" }), json!([])]);
    assert!(open.ask("ann@x.org", "secret-ann").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_told_what_a_dovecot_would_tell_it() {
    let (server, users) = (Server::new().await, tempfile::tempdir().unwrap());
    let lines = format!(
        "auth_policy_server_url = http://{}/policy\nauth_policy_server_api_header = policy-key\n\
         auth_policy_hash_nonce = salt\nauth_policy_hash_truncate = 21",
        server.address
    );
    let dovecot = dovecot_auth(&lines, "ann@x.org:{PLAIN}secret-ann::::::\n");
    let site = site(&server, "hash_truncate = 21", &users).await;
    for (user, password, count) in [("Ann@X.org", "secret-ann", 3), ("ann@x.org", "wrong", 2), ("eve@x.org", "x", 2)] {
        let right = log_in_at_dovecot(&dovecot, &["rip=192.0.2.7", "service=imap", "secured"], user, password);
        let by_dovecot = comparable(server.hears(count).await);
        assert_eq!(site.ask(user, password).await.is_ok(), right);
        assert_eq!(comparable(server.hears(count).await), by_dovecot, "{user}");
    }
}

/// Without what is another each time, and TLS, which a Dovecot that is asked so does not know.
fn comparable(mut heard: Vec<(String, Value)>) -> Vec<(String, Value)> {
    for (_, body) in &mut heard {
        let body = body.as_object_mut().unwrap();
        assert!(body.remove("session_id").is_some() && body.remove("tls").is_some());
        body.remove("fail_type"); // Dovecot 2.4 has it
    }
    heard
}
