//! Tokens of a real issuer, and of those who would like to be one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use homing::model::Refusal;
use serde_json::{Value, json};

use super::issuer::{Issuer, Signer, now, unsigned, with_secret};
use super::site::Site;

const ANN: &str = "ann@x.org";

fn passdb(issuer: &Issuer, keys: &str) -> String {
    format!(
        "[[passdb]]\nkind = \"oauth2\"\nissuer = \"{}\"\naudience = [\"mail\"]\nscope = [\"imap\"]\n\
         fields = {{ pool = \"place.pool\" }}\ntimeout = \"600ms\"\nfailures = 3\npause = \"200ms\"\n{keys}\n",
        issuer.name()
    )
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn a_token_lets_in_the_user_that_it_was_issued_to_and_nobody_else() {
    let (rsa, ec) = (Signer::rsa("r1"), Signer::ec("e1"));
    let issuer = Issuer::new(&[&rsa, &ec]).await;
    let site = Site::new(&passdb(&issuer, "")).await;
    for signer in [&rsa, &ec] {
        let token = signer.sign(&issuer.claims(ANN));
        let grant = site.ask_token("Ann@X.org", &token).await.unwrap();
        assert_eq!((grant.user.as_str(), grant.unproven), (ANN, false));
        assert_eq!(grant.fields.pool.as_ref().map(|pool| pool.as_str()), Some("gold"));
        assert_eq!(site.refuses_token("bob@x.org", &token).await, Refusal::BadCredentials);
        assert_eq!(site.refuses("ann@x.org", &token).await, Refusal::BadCredentials, "a token is no password");
    }
    assert_eq!(issuer.key_reads(), 1);
    assert!(site.find(ANN).await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_that_says_the_wrong_thing_is_refused() {
    let rsa = Signer::rsa("r1");
    let issuer = Issuer::new(&[&rsa]).await;
    let site = Site::new(&passdb(&issuer, "")).await;
    let good = issuer.claims(ANN);
    assert!(site.ask_token(ANN, &rsa.sign(&good)).await.is_ok());
    assert!(site.ask_token(ANN, &rsa.sign(&with(&good, "exp", json!(now() - 30)))).await.is_ok(), "clocks differ");
    assert!(site.ask_token(ANN, &rsa.sign(&with(&good, "aud", json!("mail")))).await.is_ok());
    let wrong = [
        with(&good, "exp", json!(now() - 61)),
        with(&good, "exp", json!("never")),
        with(&good, "exp", json!(-1)),
        without(&good, "exp"),
        with(&good, "nbf", json!(now() + 90)),
        with(&good, "nbf", json!("now")),
        with(&good, "iss", json!("http://127.0.0.1:1")),
        with(&good, "iss", json!([issuer.name()])),
        with(&good, "iss", json!(format!("{}/", issuer.name()))),
        without(&good, "iss"),
        with(&good, "aud", json!("mailx")),
        with(&good, "aud", json!([])),
        with(&good, "aud", json!({ "mail": true })),
        without(&good, "aud"),
        with(&good, "scope", json!("openid imaps")),
        without(&good, "scope"),
        with(&good, "email_verified", json!(false)),
        with(&good, "email", json!("eve@x.org")),
    ];
    for claims in wrong {
        assert_eq!(site.refuses_token(ANN, &rsa.sign(&claims)).await, Refusal::BadCredentials, "{claims}");
    }
    let nameless = rsa.sign(&without(&good, "email"));
    assert_eq!(site.refuses_token(ANN, &nameless).await, Refusal::PassdbUnavailable, "the operator must hear of it");
}

#[tokio::test]
async fn a_token_that_the_issuer_has_not_signed_is_refused() {
    let (rsa, ec, strange) = (Signer::rsa("r1"), Signer::ec("e1"), Signer::rsa("r1"));
    let issuer = Issuer::new(&[&rsa, &ec]).await;
    let site = Site::new(&passdb(&issuer, "")).await;
    let claims = issuer.claims(ANN);
    let good = rsa.sign(&claims);
    let header = |alg: &str| json!({ "alg": alg, "typ": "JWT", "kid": "r1" });
    let [head, said, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let mut wrong = vec![
        strange.sign(&claims),
        format!("{}.", unsigned(&header("none"), &claims)),
        format!("{}.", unsigned(&header("None"), &claims)),
        format!("{}.{signature}", unsigned(&header("none"), &claims)),
        with_secret(rsa.pem().as_bytes(), &header("HS256"), &claims),
        with_secret(&[7; 32], &json!({ "alg": "HS256", "kid": "shared" }), &claims),
        with_secret(b"", &header("HS256"), &claims),
        rsa.sign_as(&json!({ "alg": "RS256", "kid": "e1" }), &claims),
        rsa.sign_as(&header("ES256"), &claims),
        rsa.sign_as(&header("PS256"), &claims),
        rsa.sign_as(&header("RS512"), &claims),
        rsa.sign_as(&json!({ "alg": "RS256", "kid": "r1", "crit": ["b64"], "b64": false }), &claims),
        rsa.sign_as(&json!({ "alg": "RS256", "kid": "r1", "typ": "logout+jwt" }), &claims),
        strange.sign_as(&json!({ "alg": "RS256", "jku": "http://127.0.0.1:1/jwks" }), &claims),
        format!("{head}.{said}."),
        format!("{head}.{said}"),
        format!("{head}.{said}.{signature}.x"),
        format!("{head}..{signature}"),
        format!("..{signature}"),
        "..".to_owned(),
        String::new(),
        "opaque".to_owned(),
        "ü.ü.ü".to_owned(),
        format!("{good}={}", "A".repeat(64 * 1024)),
        format!("{}.{said}.{signature}", "A".repeat(31 * 1024)),
    ];
    wrong.extend((0..good.len()).step_by(7).map(|cut| good[..cut].to_owned()));
    for at in (0..good.len()).step_by(11).chain([good.len() - 1]) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        wrong.push(String::from_utf8(bytes).unwrap());
    }
    for token in wrong {
        assert_eq!(site.refuses_token(ANN, &token).await, Refusal::BadCredentials, "{token}");
    }
    assert!(site.ask_token(ANN, &rsa.sign_as(&json!({ "alg": "RS256" }), &claims)).await.is_ok(), "no key is named");
    assert!(site.ask_token(ANN, &good).await.is_ok());
}

#[tokio::test]
async fn a_shared_secret_signs_only_where_one_is_configured() {
    let rsa = Signer::rsa("r1");
    let issuer = Issuer::new(&[&rsa]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let secret = "a secret of more than thirty-two bytes";
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let keys = format!(
        "jwks_url = \"{}/jwks\"\nhmac_key_file = \"{}\"\nalgorithms = [\"RS256\", \"HS256\"]",
        issuer.name(),
        file.display()
    );
    let site = Site::new(&passdb(&issuer, &keys)).await;
    let (claims, header) = (issuer.claims(ANN), json!({ "alg": "HS256", "kid": "r1" }));
    assert!(site.ask_token(ANN, &with_secret(secret.as_bytes(), &header, &claims)).await.is_ok());
    assert!(site.ask_token(ANN, &rsa.sign(&claims)).await.is_ok());
    for wrong in [rsa.pem().as_bytes(), b"", &[7; 32], b"another secret of more than thirty-two"] {
        let token = with_secret(wrong, &header, &claims);
        assert_eq!(site.refuses_token(ANN, &token).await, Refusal::BadCredentials);
    }
}

#[tokio::test]
async fn keys_rotate_while_logins_go_on_and_none_fails() {
    let issuer = Issuer::new(&[]).await;
    let site = Arc::new(Site::new(&passdb(&issuer, "unknown_key_interval = \"10ms\"\nrefresh = \"1s\"")).await);
    let signers: Vec<Signer> = (0..6).map(|at| Signer::ec(&format!("k{at}"))).collect();
    issuer.publish(&[&signers[0]]);
    let current = Arc::new(std::sync::Mutex::new(signers[0].sign(&issuer.claims(ANN))));
    let (done, logins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let crowd: Vec<_> = (0..4)
        .map(|_| {
            let (site, current, done, logins) = (site.clone(), current.clone(), done.clone(), logins.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let token = current.lock().unwrap().clone();
                    assert!(site.ask_token(ANN, &token).await.is_ok());
                    logins.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for pair in signers.windows(2) {
        let before = logins.load(Ordering::SeqCst);
        while logins.load(Ordering::SeqCst) < before + 40 && crowd.iter().all(|task| !task.is_finished()) {
            tokio::time::sleep(Duration::from_millis(15)).await; // between two looks at the condition
        }
        // The new key is published before it signs; the old one stays for the tokens that are out.
        issuer.publish(&[&pair[0], &pair[1]]);
        *current.lock().unwrap() = pair[1].sign(&issuer.claims(ANN));
    }
    let last = signers[4].sign(&issuer.claims(ANN));
    done.store(true, Ordering::SeqCst);
    for task in crowd {
        task.await.unwrap();
    }
    assert!(site.ask_token(ANN, &last).await.is_ok());
    let first = signers[0].sign(&issuer.claims(ANN));
    assert_eq!(site.refuses_token(ANN, &first).await, Refusal::BadCredentials, "its key was withdrawn");
    assert!(issuer.key_reads() <= 40, "{}", issuer.key_reads());
}

#[tokio::test]
async fn tokens_with_invented_keys_neither_trouble_the_issuer_nor_keep_others_out() {
    let ec = Signer::ec("e1");
    let mut issuer = Issuer::new(&[&ec]).await;
    let site = Site::new(&passdb(&issuer, "unknown_key_interval = \"1h\"")).await;
    let good = ec.sign(&issuer.claims(ANN));
    assert!(site.ask_token(ANN, &good).await.is_ok());
    for at in 0..100 {
        let invented = ec.sign_as(&json!({ "alg": "ES256", "kid": format!("x{at}") }), &issuer.claims(ANN));
        assert_eq!(site.refuses_token(ANN, &invented).await, Refusal::BadCredentials);
    }
    assert_eq!(issuer.key_reads(), 1);
    let site = Site::new(&passdb(&issuer, "unknown_key_interval = \"10ms\"")).await;
    assert!(site.ask_token(ANN, &good).await.is_ok());
    issuer.die().await;
    for at in 0..20 {
        let invented = ec.sign_as(&json!({ "alg": "ES256", "kid": format!("x{at}") }), &issuer.claims(ANN));
        let _ = site.refuses_token(ANN, &invented).await;
        assert!(site.ask_token(ANN, &good).await.is_ok(), "the issuer is not needed for this one");
    }
    assert!(!site.stats().paused);
}

#[tokio::test]
async fn an_issuer_that_dies_or_hangs_is_missed_only_when_its_keys_have_expired() {
    let ec = Signer::ec("e1");
    let mut issuer = Issuer::new(&[&ec]).await;
    let times = "refresh = \"1s\"\nkeys_expire = \"2s\"\nunknown_key_interval = \"50ms\"";
    let site = Site::new(&passdb(&issuer, times)).await;
    let good = ec.sign(&issuer.claims(ANN));
    assert!(site.ask_token(ANN, &good).await.is_ok());
    for hangs in [false, true] {
        if hangs {
            issuer.hang(true)
        } else {
            issuer.die().await
        }
        assert!(site.ask_token(ANN, &good).await.is_ok(), "the keys are known");
        site.comes_to(|answer| matches!(answer, Err(Refusal::PassdbUnavailable)), &good).await;
        if hangs {
            issuer.hang(false)
        } else {
            issuer.live_again().await
        }
        site.comes_to(|answer| answer.is_ok(), &good).await;
    }
}

#[tokio::test]
async fn the_issuer_decides_about_tokens_that_only_it_can_read() {
    let mut issuer = Issuer::new(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "p:%ss w+rd\n").unwrap();
    let keys = |id: &str| {
        format!("method = \"introspection\"\nclient_id = \"{id}\"\nclient_secret_file = \"{}\"", file.display())
    };
    let site = Site::new(&passdb(&issuer, &keys("homing"))).await;
    let good = with(&issuer.claims(ANN), "active", json!(true));
    issuer.says("opaque+/=&token", good.clone());
    let grant = site.ask_token(ANN, "opaque+/=&token").await.unwrap();
    assert_eq!((grant.user.as_str(), grant.unproven), (ANN, false));
    assert_eq!(site.refuses_token("bob@x.org", "opaque+/=&token").await, Refusal::BadCredentials);
    issuer.says("brief", without(&without(&good, "exp"), "iss"));
    assert!(site.ask_token(ANN, "brief").await.is_ok(), "RFC 7662: these are optional");
    let wrong = [
        with(&good, "active", json!(false)),
        with(&good, "exp", json!(now() - 61)),
        with(&good, "aud", json!("other")),
        with(&good, "iss", json!("http://other")),
        without(&good, "scope"),
        with(&good, "typ", json!("Refresh")),
        with(&good, "token_use", json!("refresh_token")),
    ];
    for answer in wrong {
        issuer.says("wrong", answer.clone());
        assert_eq!(site.refuses_token(ANN, "wrong").await, Refusal::BadCredentials, "{answer}");
    }
    assert_eq!(site.refuses_token(ANN, "unheard-of").await, Refusal::BadCredentials);
    issuer.says("odd", with(&good, "active", json!("true")));
    assert_eq!(site.refuses_token(ANN, "odd").await, Refusal::PassdbUnavailable);
    issuer.says("opaque+/=&token", json!({ "active": false }));
    assert_eq!(site.refuses_token(ANN, "opaque+/=&token").await, Refusal::BadCredentials, "it was revoked");
    let asked = issuer.questions();
    assert_eq!(site.refuses_token(ANN, &"x".repeat(40_000)).await, Refusal::BadCredentials);
    assert_eq!(issuer.questions(), asked, "too long to be asked about");

    let stranger = Site::new(&passdb(&issuer, &keys("somebody"))).await;
    assert_eq!(stranger.refuses_token(ANN, "brief").await, Refusal::PassdbUnavailable);

    issuer.hang(true);
    site.comes_to(|answer| matches!(answer, Err(Refusal::PassdbUnavailable)), "brief").await;
    issuer.hang(false);
    site.comes_to(|answer| answer.is_ok(), "brief").await;
    issuer.die().await;
    site.comes_to(|answer| matches!(answer, Err(Refusal::PassdbUnavailable)), "brief").await;
    issuer.live_again().await;
    site.comes_to(|answer| answer.is_ok(), "brief").await;
}

#[tokio::test]
async fn one_issuer_does_not_speak_for_another_and_the_next_source_is_asked() {
    let (ours, theirs) = (Signer::ec("e1"), Signer::ec("e1"));
    let (issuer, other) = (Issuer::new(&[&ours]).await, Issuer::new(&[&theirs]).await);
    let site = Site::new(&format!("{}{}", passdb(&issuer, ""), passdb(&other, ""))).await;
    assert!(site.ask_token(ANN, &ours.sign(&issuer.claims(ANN))).await.is_ok());
    assert!(site.ask_token(ANN, &theirs.sign(&other.claims(ANN))).await.is_ok());
    assert_eq!(site.refuses_token(ANN, &theirs.sign(&issuer.claims(ANN))).await, Refusal::BadCredentials);

    // A name that leads to another's description.
    let borrowed = passdb(&issuer, "").replace(issuer.name(), &format!("{}/", issuer.name()));
    let site = Site::new(&borrowed).await;
    let token = ours.sign(&with(&issuer.claims(ANN), "iss", json!(format!("{}/", issuer.name()))));
    assert_eq!(site.refuses_token(ANN, &token).await, Refusal::PassdbUnavailable);
}

#[tokio::test]
async fn keys_in_a_file_are_read_again() {
    let (first, second) = (Signer::ec("e1"), Signer::ec("e2"));
    let issuer = Issuer::new(&[&first]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, issuer.published()).unwrap();
    let keys = format!("jwks_file = \"{}\"\nunknown_key_interval = \"10ms\"", file.display());
    let site = Site::new(&passdb(&issuer, &keys)).await;
    assert!(site.ask_token(ANN, &first.sign(&issuer.claims(ANN))).await.is_ok());
    issuer.publish(&[&first, &second]);
    std::fs::write(&file, issuer.published()).unwrap();
    site.comes_to(|answer| answer.is_ok(), &second.sign(&issuer.claims(ANN))).await;
    assert_eq!(issuer.key_reads(), 0);
}

#[tokio::test]
async fn who_lets_the_token_say_the_name_is_nobodys_master() {
    let ec = Signer::ec("e1");
    let issuer = Issuer::new(&[&ec]).await;
    let site = Site::new(&passdb(&issuer, "").replace("[[passdb]]", "master_separator = \"*\"\n[[passdb]]")).await;
    let token = |user: &str| ec.sign(&issuer.claims(user));
    assert_eq!(site.ask_token("", &token("Ann@x.org")).await.unwrap().user.as_str(), ANN);
    for user in ["ann@x.org*boss", "*boss", "ann\0@x.org", &"a".repeat(300)] {
        assert!(site.ask_token("", &token(user)).await.is_err(), "{user}");
    }
    assert_eq!(site.refuses_token("ann@x.org*boss", &token("boss")).await, Refusal::Forbidden, "there are no masters");
}

/// An issuer whose description and keys are what the test says: status, one more header, and body.
async fn odd_issuer(description: fn(&str) -> Value, keys: (u16, &'static str, String)) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("http://{}", listener.local_addr().unwrap());
    let said = description(&name).to_string();
    let keys = axum::routing::get(move || async move {
        let status = axum::http::StatusCode::from_u16(keys.0).unwrap();
        (status, [("location", keys.1)], keys.2)
    });
    let routes = axum::Router::new()
        .route("/.well-known/openid-configuration", axum::routing::get(move || async move { said }))
        .route("/jwks", keys);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    name
}

#[tokio::test]
async fn an_issuer_that_answers_with_anything_but_keys_has_none_and_leads_nowhere() {
    let ec = Signer::ec("e1");
    let elsewhere = Issuer::new(&[&ec]).await;
    let usual = |name: &str| json!({ "issuer": name, "jwks_uri": format!("{name}/jwks") });
    let [published, location] = [elsewhere.published(), format!("{}/jwks", elsewhere.name())];
    let location: &'static str = location.leak();
    type Description = fn(&str) -> Value;
    let odd: [(Description, (u16, &'static str, String)); 8] = [
        (usual, (302, location, published.clone())),
        (usual, (307, "file:///etc/passwd", String::new())),
        (usual, (200, "", format!("{published}{}", " ".repeat(10 << 20)))),
        (usual, (200, "", "[".repeat(500_000))),
        (usual, (200, "", "{\"keys\": [".to_owned() + &"{},".repeat(100_000))),
        (|name| json!({ "issuer": name, "jwks_uri": "file:///etc/passwd" }), (200, "", published.clone())),
        (|name| json!({ "issuer": name, "jwks_uri": name.replace("http", "https") }), (200, "", published.clone())),
        (
            |name| json!({ "issuer": format!("{name}x"), "jwks_uri": format!("{name}/jwks") }),
            (200, "", published.clone()),
        ),
    ];
    for (at, (description, keys)) in odd.into_iter().enumerate() {
        let name = odd_issuer(description, keys).await;
        let site = Site::new(&format!("[[passdb]]\nkind = \"oauth2\"\nissuer = \"{name}\"\n")).await;
        let token = ec.sign(&with(&elsewhere.claims(ANN), "iss", json!(name)));
        assert_eq!(site.refuses_token(ANN, &token).await, Refusal::PassdbUnavailable, "number {at}");
    }
    assert_eq!(elsewhere.key_reads(), 0);
    // The same with what is right.
    let issuer = Issuer::new(&[&ec]).await;
    let deep = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    let site = Site::new(&passdb(&issuer, "")).await;
    let encoded = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    for token in [
        format!("{}.{}.AA", encoded("{\"alg\":\"ES256\"}"), encoded(&deep[..20_000])),
        format!("{}.e30.AA", encoded(&deep[..20_000])),
    ] {
        assert_eq!(site.refuses_token(ANN, &token).await, Refusal::BadCredentials);
    }
    assert!(site.ask_token(ANN, &ec.sign(&issuer.claims(ANN))).await.is_ok());
}
