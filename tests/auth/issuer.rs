//! An OpenID Connect issuer with real keys: it describes itself, publishes its keys, answers questions about tokens, rotates,
//! hangs and dies.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pair of keys with a name.
pub(crate) enum Signer {
    Rsa(String, RsaKeyPair),
    Ec(String, EcdsaKeyPair),
}

impl Signer {
    pub(crate) fn rsa(id: &str) -> Self {
        Self::Rsa(id.to_owned(), RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn ec(id: &str) -> Self {
        Self::Ec(id.to_owned(), EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// The public half (RFC 7517).
    fn jwk(&self) -> Value {
        match self {
            Self::Rsa(id, pair) => {
                let key = KeyPair::public_key(pair);
                let n = URL_SAFE_NO_PAD.encode(key.modulus().big_endian_without_leading_zero());
                let e = URL_SAFE_NO_PAD.encode(key.exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": n, "e": e })
            }
            Self::Ec(id, pair) => {
                let point = KeyPair::public_key(pair).as_ref();
                let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y })
            }
        }
    }

    /// The public half of an RSA pair as operators keep it in files.
    pub(crate) fn pem(&self) -> String {
        let Self::Rsa(_, pair) = self else { panic!("an RSA key is needed") };
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = KeyPair::public_key(pair).as_der().unwrap();
        let lines: Vec<String> = STANDARD
            .encode(der.as_ref())
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn header(&self) -> Value {
        match self {
            Self::Rsa(id, _) => json!({ "alg": "RS256", "typ": "JWT", "kid": id }),
            Self::Ec(id, _) => json!({ "alg": "ES256", "typ": "at+jwt", "kid": id }),
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    /// With any header.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = match self {
            Self::Rsa(_, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(_, pair) => pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and claims of a token.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// Signed with a shared secret.
pub(crate) fn with_secret(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = unsigned(header, claims);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The issuer.
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    published: Mutex<Value>,
    /// What is said of a token.
    known: Mutex<HashMap<String, Value>>,
    key_reads: AtomicUsize,
    questions: AtomicUsize,
    hangs: AtomicBool,
    /// Anybody may ask about tokens.
    open: bool,
}

impl Issuer {
    /// Publishes these keys.
    pub(crate) async fn new(signers: &[&Signer]) -> Self {
        Self::start(signers, false).await
    }

    /// Answers anybody's questions about tokens.
    pub(crate) async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// The same, with keys.
    pub(crate) async fn open_with(signers: &[&Signer]) -> Self {
        Self::start(signers, true).await
    }

    async fn start(signers: &[&Signer], open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: format!("http://{address}"),
            published: Mutex::new(json!({})),
            known: Mutex::default(),
            key_reads: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            hangs: AtomicBool::new(false),
            open,
        });
        let issuer = Self { address, server: Some(serve(listener, Arc::clone(&shared))), shared };
        issuer.publish(signers);
        issuer
    }

    /// As it writes its name.
    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// From now on these are its keys; beside them some that nobody can use, and a shared secret that nobody may.
    pub(crate) fn publish(&self, signers: &[&Signer]) {
        let mut keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        keys.push(json!({ "kty": "oct", "kid": "shared", "k": URL_SAFE_NO_PAD.encode([7; 32]) }));
        keys.push(json!({ "kty": "OKP", "crv": "X448", "kid": "odd", "x": "AAAA" }));
        keys.push(json!("nonsense"));
        *self.shared.published.lock().unwrap() = json!({ "keys": keys });
    }

    /// Its keys as a document.
    pub(crate) fn published(&self) -> String {
        self.shared.published.lock().unwrap().to_string()
    }

    /// What it will say of a token.
    pub(crate) fn says(&self, token: &str, answer: Value) {
        self.shared.known.lock().unwrap().insert(token.to_owned(), answer);
    }

    /// The claims of a good token of this user.
    pub(crate) fn claims(&self, user: &str) -> Value {
        json!({
            "iss": self.name(), "aud": ["other", "mail"], "scope": "openid imap", "email": user, "sub": "17",
            "exp": now() + 600, "iat": now(), "nbf": now(), "place": { "pool": "gold" },
        })
    }

    pub(crate) fn key_reads(&self) -> usize {
        self.shared.key_reads.load(Ordering::SeqCst)
    }

    pub(crate) fn questions(&self) -> usize {
        self.shared.questions.load(Ordering::SeqCst)
    }

    /// Waits until so many questions have come.
    pub(crate) async fn is_asked(&self, questions: usize) {
        let begun = Instant::now();
        while self.questions() < questions {
            assert!(begun.elapsed() < PATIENCE, "{} questions", self.questions());
            tokio::time::sleep(Duration::from_millis(5)).await; // between two looks at the condition
        }
    }

    /// Connections are taken, and nothing is answered until that is over.
    pub(crate) fn hang(&self, hangs: bool) {
        self.shared.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Nobody listens, and nobody is connected.
    pub(crate) async fn die(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    pub(crate) async fn live_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.server = Some(serve(listener, Arc::clone(&self.shared)));
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    let routes = Router::new()
        .route("/.well-known/openid-configuration", get(description))
        .route("/jwks", get(keys))
        .route("/introspect", post(introspect))
        .with_state(shared);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() })
}

async fn description(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.answers().await;
    let name = &shared.name;
    Json(json!({
        "issuer": name, "jwks_uri": format!("{name}/jwks"), "introspection_endpoint": format!("{name}/introspect"),
    }))
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.key_reads.fetch_add(1, Ordering::SeqCst);
    shared.answers().await;
    Json(shared.published.lock().unwrap().clone())
}

/// Only for homing, whose password has every character that must be encoded.
async fn introspect(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> impl IntoResponse {
    shared.questions.fetch_add(1, Ordering::SeqCst);
    shared.answers().await;
    let expected = format!("Basic {}", STANDARD.encode("homing:p%3A%25ss+w%2Brd"));
    if !shared.open && headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(&expected) {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "invalid_client" })));
    }
    let form: HashMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let known = shared.known.lock().unwrap();
    let answer = form.get("token").and_then(|token| known.get(token)).cloned();
    (StatusCode::OK, Json(answer.unwrap_or(json!({ "active": false }))))
}

impl Shared {
    async fn answers(&self) {
        while self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await; // between two looks at the condition
        }
    }
}
