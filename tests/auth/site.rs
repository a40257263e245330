//! A chain as configured, and somebody who asks it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use homing::auth::cache::seal::{MIN_SECRET, Seals};
use homing::auth::cache::{Cache, Times};
use homing::auth::{Chain, Circumstances, Grant, Lookup, PolicyStats, Question, Refused, SourceStats};
use homing::config::Config;
use homing::model::{Credentials, Mechanism, Proof, Protocol, Refusal, Secret, SessionId};
use homing::store::Rules;
use homing::store::memory::Memory;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) chain: Chain,
}

/// What a fleet remembers, of which each call makes one more proxy's cache.
pub(crate) struct Fleet(Memory);

impl Fleet {
    pub(crate) fn new() -> Self {
        Self(Memory::embedded(Rules::default()))
    }

    /// One more proxy.
    pub(crate) async fn proxy(&self, passdb: &str) -> Site {
        let seals = ArcSwap::from_pointee(Seals::new(&Secret::new(vec![7; MIN_SECRET]), None).unwrap());
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let times = Times { positive: minutes(60), negative: minutes(1), stale: minutes(60) };
        let cache = Arc::new(Cache::new(Arc::new(self.0.clone()), 3, Arc::new(seals), times));
        let Site { chain } = Site::new(passdb).await;
        Site { chain: chain.with_cache(&cache) }
    }
}

impl Site {
    /// With these tables of the configuration.
    pub(crate) async fn new(passdb: &str) -> Self {
        Self::open("", passdb).await
    }

    /// The same, where masters may log in as "ann*boss".
    pub(crate) async fn with_masters(passdb: &str) -> Self {
        Self::open("*", passdb).await
    }

    async fn open(separator: &str, passdb: &str) -> Self {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.a]\nhost = \"h\"\n\
             [auth]\nmaster_separator = \"{separator}\"\n{passdb}"
        );
        let config = Config::parse(&text, "test.toml").unwrap_or_else(|faults| panic!("{}", faults.report(false)));
        Self { chain: Chain::open(&config.passdb, &config.auth, 2).await.with_policy(&config.auth_policy) }
    }

    pub(crate) async fn ask(&self, user: &str, password: &str) -> Result<Grant, Refusal> {
        self.ask_with(user, password.as_bytes()).await
    }

    pub(crate) async fn ask_with(&self, user: &str, password: &[u8]) -> Result<Grant, Refusal> {
        self.prove(user, Proof::Password(Secret::new(password.to_vec())), Mechanism::Plain).await
    }

    pub(crate) async fn ask_token(&self, user: &str, token: &str) -> Result<Grant, Refusal> {
        self.prove(user, Proof::Token(Secret::new(token.as_bytes().to_vec())), Mechanism::OAuthBearer).await
    }

    /// As [`Self::ask`], with what the client is told.
    pub(crate) async fn asked(&self, user: &str, password: &str) -> Result<Grant, Refused> {
        self.told(user, Proof::Password(Secret::new(password.as_bytes().to_vec())), Mechanism::Plain).await
    }

    async fn prove(&self, user: &str, proof: Proof, mechanism: Mechanism) -> Result<Grant, Refusal> {
        self.told(user, proof, mechanism).await.map_err(|refused| refused.refusal)
    }

    async fn told(&self, user: &str, proof: Proof, mechanism: Mechanism) -> Result<Grant, Refused> {
        let credentials = Credentials { user: user.to_owned(), authzid: None, proof, mechanism };
        let question = Question {
            credentials: &credentials,
            service: Protocol::Imap,
            client: "192.0.2.7:50000".parse().unwrap(),
            local: "192.0.2.1:993".parse().unwrap(),
            secured: true,
            session: &SessionId::random(),
            around: Circumstances::default(),
        };
        self.chain.authenticate(&question).await
    }

    /// The canonical name of who is let in.
    pub(crate) async fn lets_in(&self, user: &str, password: &str) -> Option<String> {
        self.ask(user, password).await.ok().map(|grant| grant.user.as_str().to_owned())
    }

    pub(crate) async fn refuses(&self, user: &str, password: &str) -> Refusal {
        match self.ask(user, password).await {
            Ok(grant) => panic!("{user} was let in as {}", grant.user),
            Err(refusal) => refusal,
        }
    }

    pub(crate) async fn refuses_token(&self, user: &str, token: &str) -> Refusal {
        match self.ask_token(user, token).await {
            Ok(grant) => panic!("{} was let in with {token}", grant.user),
            Err(refusal) => refusal,
        }
    }

    /// Shows ann's token until the answer is as it should be.
    pub(crate) async fn comes_to(&self, wanted: impl Fn(&Result<Grant, Refusal>) -> bool, token: &str) {
        let begun = Instant::now();
        loop {
            let answer = self.ask_token("ann@x.org", token).await;
            if wanted(&answer) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{answer:?} {:?}", self.stats());
            tokio::time::sleep(Duration::from_millis(20)).await; // between two looks at the condition
        }
    }

    pub(crate) async fn find(&self, user: &str) -> Result<Option<Grant>, Refusal> {
        let lookup = Lookup {
            user,
            service: Protocol::Lmtp,
            client: "192.0.2.7:50000".parse().unwrap(),
            local: "192.0.2.1:24".parse().unwrap(),
            session: &SessionId::random(),
        };
        self.chain.find(&lookup).await
    }

    pub(crate) async fn list(&self) -> Vec<String> {
        self.chain.list(&SessionId::random()).await.unwrap().unwrap().into_iter().collect()
    }

    pub(crate) fn stats(&self) -> SourceStats {
        self.chain.stats().remove(0)
    }

    pub(crate) fn policy_stats(&self) -> PolicyStats {
        self.chain.policy_stats().unwrap()
    }

    /// Waits until the policy server has taken so many reports.
    pub(crate) async fn has_reported(&self, reports: u64) {
        let begun = Instant::now();
        while self.policy_stats().reported < reports {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.policy_stats());
            tokio::time::sleep(Duration::from_millis(10)).await; // between two looks at the condition
        }
    }

    /// Asks until the user is let in.
    pub(crate) async fn recovers(&self, user: &str, password: &str) {
        let begun = Instant::now();
        while self.ask(user, password).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.stats());
            tokio::time::sleep(Duration::from_millis(20)).await; // between two looks at the condition
        }
    }

    /// Nobody gets an answer, but a temporary failure in time; and soon at once.
    pub(crate) async fn is_without_its_server(&self, timeout: Duration) {
        let begun = Instant::now();
        while !self.stats().paused {
            let asked = Instant::now();
            assert_eq!(self.refuses("ann@x.org", "secret-ann").await, Refusal::PassdbUnavailable);
            assert!(asked.elapsed() < 2 * timeout + Duration::from_secs(5), "{:?}", asked.elapsed());
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.stats());
        }
        let before = self.stats().refused;
        assert_eq!(self.refuses("ann@x.org", "secret-ann").await, Refusal::PassdbUnavailable);
        let stats = self.stats();
        assert!(stats.refused > before || !stats.paused || stats.unavailable + stats.timed_out > 3, "{stats:?}");
    }
}
