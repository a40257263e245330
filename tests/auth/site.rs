//! A chain as configured, and somebody who asks it.

use std::time::{Duration, Instant};

use homing::auth::{Chain, Circumstances, Grant, Lookup, Question, SourceStats};
use homing::config::Config;
use homing::model::{Credentials, Mechanism, Proof, Protocol, Refusal, Secret, SessionId};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    chain: Chain,
}

impl Site {
    /// With these tables of the configuration.
    pub(crate) async fn new(passdb: &str) -> Self {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.a]\nhost = \"h\"\n\
             [auth]\nmaster_separator = \"\"\n{passdb}"
        );
        let config = Config::parse(&text, "test.toml").unwrap_or_else(|faults| panic!("{}", faults.report(false)));
        Self { chain: Chain::open(&config.passdb, &config.auth, 2).await }
    }

    pub(crate) async fn ask(&self, user: &str, password: &str) -> Result<Grant, Refusal> {
        self.ask_with(user, password.as_bytes()).await
    }

    pub(crate) async fn ask_with(&self, user: &str, password: &[u8]) -> Result<Grant, Refusal> {
        let password = Secret::new(password.to_vec());
        let credentials = Credentials {
            user: user.to_owned(),
            authzid: None,
            proof: Proof::Password(password),
            mechanism: Mechanism::Plain,
        };
        let question = Question {
            credentials: &credentials,
            service: Protocol::Imap,
            client: "192.0.2.7:50000".parse().unwrap(),
            local: "192.0.2.1:993".parse().unwrap(),
            secured: true,
            session: &SessionId::random(),
            around: Circumstances::default(),
        };
        self.chain.authenticate(&question).await.map_err(|refused| refused.refusal)
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
