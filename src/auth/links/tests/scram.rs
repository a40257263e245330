//! What SCRAM needs, asked of sources, remembered, and made up.

use std::num::NonZeroU32;
use std::sync::Mutex;

use super::*;
use crate::auth::extra::Extra;
use crate::auth::scheme::{Cost, Stored};
use crate::auth::{Chain, StoredUser};
use crate::model::{ScramHash, ScramKeys};

/// A source with one user, whose keys for SCRAM can be changed, and which may be away.
#[derive(Clone)]
struct Keeper {
    keys: Arc<Mutex<Option<ScramKeys>>>,
    asked: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
}

impl Keeper {
    fn of(password: &str) -> Self {
        let keeper = Self { keys: Arc::default(), asked: Arc::default(), away: Arc::default() };
        keeper.set(password);
        keeper
    }

    fn set(&self, password: &str) {
        let made =
            ScramKeys::derive(ScramHash::Sha256, ROUNDS, format!("salt of {password}").as_bytes(), password.as_bytes());
        *self.keys.lock().unwrap() = Some(made);
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Of one proxy of many, each with the same secret.
    fn chain(&self, notes: &Arc<Counted>) -> Chain {
        let links = proxy(
            notes,
            vec![Link::local(Box::new(self.clone()), Verifier::new(Hasher::new(1))).kept_by(Some("keeper".to_owned()))],
        );
        Chain::of_links(links)
    }
}

const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

#[async_trait]
impl Source for Keeper {
    fn name(&self) -> String {
        "keeper".to_owned()
    }

    async fn ask(&self, question: &Question<'_>) -> Verdict {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) {
            return Verdict::Unavailable("away".to_owned());
        }
        match &*self.keys.lock().unwrap() {
            Some(keys) if question.credentials.user == "ann" => Verdict::Stored(Box::new(StoredUser {
                name: "ann".to_owned(),
                stored: Stored::Scram(keys.clone()),
                cost: Cost::Cheap,
                extra: Extra::default(),
            })),
            _ => Verdict::Unknown,
        }
    }

    async fn find(&self, _: &Lookup<'_>) -> Verdict {
        Verdict::Unknown
    }
}

fn given(user: &str, proof: Proof) -> Credentials {
    Credentials { user: user.to_owned(), authzid: None, proof, mechanism: Mechanism::ScramSha256 }
}

fn about<'a>(credentials: &'a Credentials, session: &'a SessionId) -> Question<'a> {
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

async fn keys_of(chain: &Chain, user: &str) -> ScramKeys {
    let (credentials, session) = (given(user, Proof::Proven), SessionId::random());
    let keys = chain.scram_keys(&about(&credentials, &session), ScramHash::Sha256).await.unwrap();
    tokio::task::yield_now().await;
    keys
}

async fn outcome(chain: &Chain, user: &str, proof: Proof) -> Result<(), Refusal> {
    let (credentials, session) = (given(user, proof), SessionId::random());
    let outcome = chain.authenticate(&about(&credentials, &session)).await;
    tokio::task::yield_now().await;
    outcome.map(drop).map_err(|refused| refused.refusal)
}

#[tokio::test]
async fn what_scram_needs_is_asked_once_for_the_fleet_and_once_more_for_a_proof_that_fails() {
    let (notes, ann) = (notes(), Keeper::of("a"));
    let keys = keys_of(&ann.chain(&notes), "ann").await;
    assert_eq!(outcome(&ann.chain(&notes), "ann", Proof::Proven).await, Ok(()));
    assert_eq!(ann.asked(), 2);
    for _ in 0..3 {
        assert!(keys_of(&ann.chain(&notes), "ann").await.are(&keys));
        assert_eq!(outcome(&ann.chain(&notes), "ann", Proof::Proven).await, Ok(()));
    }
    assert_eq!(ann.asked(), 0, "remembered");
    let chain = ann.chain(&notes);
    assert_eq!(outcome(&chain, "ann", Proof::Failed(keys.clone())).await, Err(Refusal::BadCredentials));
    assert_eq!(ann.asked(), 1, "it may be another password by now");
    ann.set("b");
    assert_eq!(outcome(&chain, "ann", Proof::Failed(keys.clone())).await, Err(Refusal::PassdbUnavailable), "try again");
    let changed = keys_of(&ann.chain(&notes), "ann").await;
    assert!(!changed.are(&keys), "the new password is good at the next try");
    assert_eq!(outcome(&chain, "ann", Proof::Failed(changed.clone())).await, Err(Refusal::BadCredentials));
    *ann.keys.lock().unwrap() = None;
    assert_eq!(outcome(&chain, "ann", Proof::Failed(changed.clone())).await, Err(Refusal::PassdbUnavailable));
    assert!(!keys_of(&ann.chain(&notes), "ann").await.are(&changed), "who has gone is forgotten");
}

#[tokio::test]
async fn nobody_is_shown_the_same_by_every_proxy_and_costs_as_many_questions_as_anybody() {
    let (notes, other_notes, ann) = (notes(), notes(), Keeper::of("a"));
    let shown = keys_of(&ann.chain(&notes), "nobody").await;
    assert!(shown.are(&keys_of(&ann.chain(&other_notes), "NoBody").await), "whatever is remembered");
    assert_eq!(shown.rounds, ROUNDS);
    assert_eq!(ann.asked(), 2);
    assert_eq!(outcome(&ann.chain(&notes), "nobody", Proof::Failed(shown)).await, Err(Refusal::BadCredentials));
    assert_eq!(ann.asked(), 1, "as of somebody who is known");
}

#[tokio::test]
async fn while_the_source_is_away_names_are_as_good_as_each_other() {
    let (notes, ann) = (notes(), Keeper::of("a"));
    let keys = keys_of(&ann.chain(&notes), "ann").await;
    let nobody = keys_of(&ann.chain(&notes), "somebody").await;
    ann.away.store(true, Ordering::Relaxed);
    assert!(keys_of(&ann.chain(&notes), "ann").await.are(&keys));
    assert!(keys_of(&ann.chain(&notes), "somebody").await.are(&nobody));
    for (user, keys) in [("ann", keys), ("somebody", nobody), ("else", keys_of(&ann.chain(&notes), "else").await)] {
        assert_eq!(
            outcome(&ann.chain(&notes), user, Proof::Failed(keys)).await,
            Err(Refusal::PassdbUnavailable),
            "{user}"
        );
    }
}

#[tokio::test]
async fn what_scram_needs_lies_sealed_in_the_store_under_no_name_that_can_be_guessed() {
    let (notes, ann) = (notes(), Keeper::of("a"));
    let keys = keys_of(&ann.chain(&notes), "ann").await;
    let other = Keeper::of("x");
    let seals = Seals::new(&Secret::new(vec![8; MIN_SECRET]), None).unwrap();
    let link = Link::local(Box::new(other.clone()), Verifier::new(Hasher::new(1))).kept_by(Some("keeper".to_owned()));
    let cache = Arc::new(Cache::new(notes.clone(), 3, shared(seals), TIMES));
    let chain = Chain::of_links(Links::new(vec![link]).with_cache(&cache));
    assert!(!keys_of(&chain, "ann").await.are(&keys), "another fleet's secret opens nothing");
    assert_eq!(other.asked(), 1);
}
