//! What a fleet remembers of tokens that only their issuer can read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use homing::model::Refusal;
use serde_json::json;

use super::issuer::{Issuer, Signer, now};
use super::site::{Fleet, Site};

const ANN: &str = "ann@x.org";
const PATIENCE: Duration = Duration::from_secs(60);

fn introspected(issuer: &Issuer) -> String {
    let url = format!("{}/introspect", issuer.name());
    format!("[[passdb]]\nkind = \"oauth2\"\nmethod = \"introspection\"\nintrospection_url = \"{url}\"\n")
}

/// The issuer says that it is good.
fn make(issuer: &Issuer, token: &str, user: &str, lasts: u64) {
    issuer.says(token, json!({ "active": true, "email": user, "exp": now() + lasts }));
}

/// Asks until what was said is remembered, which is written in the background.
async fn is_remembered(site: &Site, user: &str, token: &str) {
    let begun = Instant::now();
    let recalled = || site.chain.cache_stats().unwrap().fresh;
    let before = recalled();
    while recalled() == before {
        assert!(site.ask_token(user, token).await.is_ok());
        assert!(begun.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_remembered_tokens_does_not_reach_the_issuer() {
    const CLIENTS: usize = 5000;
    let (issuer, fleet) = (Issuer::open().await, Fleet::new());
    let before = fleet.proxy(&introspected(&issuer)).await;
    let (user, token) = (|at: usize| format!("u{}@x.org", at / 2), |at: usize| format!("token of device {at}"));
    for at in 0..CLIENTS {
        make(&issuer, &token(at), &user(at), 3600);
        is_remembered(&before, &user(at), &token(at)).await;
    }
    drop(before);
    let asked = issuer.questions();
    let proxies = [fleet.proxy(&introspected(&issuer)).await, fleet.proxy(&introspected(&issuer)).await].map(Arc::new);
    let begun = Instant::now();
    let crowd: Vec<_> = (0..CLIENTS)
        .map(|at| {
            let proxy = proxies[at % 2].clone();
            tokio::spawn(async move { proxy.ask_token(&user(at), &token(at)).await.map(|grant| grant.user) })
        })
        .collect();
    for (at, client) in crowd.into_iter().enumerate() {
        assert_eq!(client.await.unwrap().unwrap().as_str(), user(at));
    }
    println!("{CLIENTS} logins in {:?}, {} questions", begun.elapsed(), issuer.questions() - asked);
    assert_eq!(issuer.questions(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_the_same_token_at_the_same_time_asks_once() {
    let (issuer, fleet) = (Issuer::open().await, Fleet::new());
    make(&issuer, "one", ANN, 3600);
    let proxy = Arc::new(fleet.proxy(&introspected(&issuer)).await);
    issuer.hang(true);
    let crowd: Vec<_> = (0..200)
        .map(|at| {
            let proxy = proxy.clone();
            tokio::spawn(async move { proxy.ask_token(if at % 2 == 0 { ANN } else { "" }, "one").await.is_ok() })
        })
        .collect();
    issuer.is_asked(2).await;
    issuer.hang(false);
    for client in crowd {
        assert!(client.await.unwrap());
    }
    assert_eq!(issuer.questions(), 2, "once by name, and once without");
}

#[tokio::test]
async fn a_token_is_remembered_until_it_ends_and_not_a_moment_longer() {
    let (issuer, fleet) = (Issuer::open().await, Fleet::new());
    let proxy = fleet.proxy(&introspected(&issuer)).await;
    make(&issuer, "brief", ANN, 3);
    let end = now() + 3;
    is_remembered(&proxy, ANN, "brief").await;
    let asked = issuer.questions();
    issuer.says("brief", json!({ "active": false }));
    while proxy.ask_token(ANN, "brief").await.is_ok() {
        assert!(now() <= end, "it has ended");
        tokio::time::sleep(Duration::from_millis(20)).await; // between two looks at the condition
    }
    assert!(now() >= end, "it was remembered");
    assert_eq!(issuer.questions(), asked + 1);
}

#[tokio::test]
async fn a_revoked_token_is_good_until_it_is_forgotten() {
    let (issuer, fleet) = (Issuer::open().await, Fleet::new());
    let [one, other] = [fleet.proxy(&introspected(&issuer)).await, fleet.proxy(&introspected(&issuer)).await];
    make(&issuer, "token", ANN, 3600);
    is_remembered(&one, ANN, "token").await;
    issuer.says("token", json!({ "active": false }));
    assert!(other.ask_token("Ann@X.org", "token").await.is_ok());
    assert_eq!(other.refuses_token("bob@x.org", "token").await, Refusal::BadCredentials, "it never was his");
    assert_eq!(one.chain.forget(ANN).await.unwrap(), 1);
    assert_eq!(other.refuses_token(ANN, "token").await, Refusal::BadCredentials);
}

#[tokio::test]
async fn what_is_verified_here_needs_no_memory() {
    let (ec, fleet) = (Signer::ec("e1"), Fleet::new());
    let issuer = Issuer::new(&[&ec]).await;
    let passdb = format!("[[passdb]]\nkind = \"oauth2\"\nissuer = \"{}\"\n", issuer.name());
    let proxy = fleet.proxy(&passdb).await;
    for name in ["", ANN, ANN] {
        let grant = proxy.ask_token(name, &ec.sign(&issuer.claims(ANN))).await.unwrap();
        assert_eq!(grant.user.as_str(), ANN, "without a name it is the token's");
    }
    let stats = proxy.chain.cache_stats().unwrap();
    assert_eq!((stats.fresh, stats.missed), (0, 0));
}
