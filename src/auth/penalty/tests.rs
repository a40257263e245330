//! What failures cost, against a simple model of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::auth::cache::seal::{MIN_SECRET, Seals};
use crate::auth::cache::{Cache, Times};
use crate::auth::{Chain, Circumstances, Question};
use crate::config::{AuthConfig, FilePassdb, PassdbConfig};
use crate::model::{Credentials, Incarnation, Mechanism, Proof, Protocol, ScramHash, ScramKeys, Secret, SessionId};
use crate::store::clock::Simulated;
use crate::store::memory::Memory;
use crate::store::{Rules, StoreError};

const HOUR: Duration = Duration::from_secs(3600);

fn rules() -> PenaltyRules {
    PenaltyRules {
        forget: HOUR,
        max: Duration::from_secs(15),
        known: 24 * HOUR,
        ipv6_prefix: 64,
        exempt: vec!["192.0.2.0/24".parse().unwrap()],
        logins_per_minute: 0,
    }
}

fn seals() -> SharedSeals {
    SharedSeals::new(ArcSwap::from_pointee(Seals::new(&Secret::new(vec![7; MIN_SECRET]), None).unwrap()))
}

fn proxy(notes: &Memory, rules: PenaltyRules) -> Penalties {
    Penalties::new(Arc::new(notes.clone()), 3, seals(), rules)
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, last))
}

fn password(number: u8) -> Proof {
    Proof::Password(Secret::new(vec![b'a' + number]))
}

async fn look(at: &Penalties, attempt: &Attempt<'_>) -> Standing {
    at.look(attempt, None).await.0
}

async fn fail(at: &Penalties, user: &str, client: u8, number: u8) {
    let password = password(number);
    let attempt = Attempt { user, client: Some(address(client)), proof: &password };
    at.failed(&attempt, &look(at, &attempt).await).await;
}

async fn delay(at: &Penalties, user: &str, client: u8) -> Duration {
    look(at, &Attempt { user, client: Some(address(client)), proof: &password(0) }).await.delay
}

async fn succeed(at: &Penalties, user: &str, client: u8) {
    let password = password(0);
    let attempt = Attempt { user, client: Some(address(client)), proof: &password };
    let standing = look(at, &attempt).await;
    at.succeeded(&attempt, &standing);
    for _ in 0..4 {
        tokio::task::yield_now().await; // the notes are written by a task of their own
    }
}

/// Every failure that was not forgiven, and who is known where.
#[derive(Default)]
struct Model {
    failures: BTreeSet<(u8, u8, u8)>,
    known: BTreeSet<(u8, u8)>,
}

impl Model {
    fn delay(&self, user: u8, client: u8) -> Duration {
        let max = rules().max;
        let at_address = self.failures.iter().filter(|failure| failure.1 == client).count();
        let of_user = self.failures.iter().filter(|failure| failure.0 == user).count();
        let by_user = if self.known.contains(&(user, client)) { Duration::ZERO } else { delay::of_user(of_user, max) };
        delay::of_address(at_address, max).max(by_user)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Fail(u8, u8, u8),
    Succeed(u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<(Step, usize)>> {
    let step = prop_oneof![
        4 => (0..3_u8, 0..3_u8, 0..4_u8).prop_map(|(user, client, word)| Step::Fail(user, client, word)),
        1 => (0..3_u8, 0..3_u8).prop_map(|(user, client)| Step::Succeed(user, client)),
    ];
    prop::collection::vec((step, 0..2_usize), 1..40)
}

proptest! {
    #[test]
    fn every_proxy_of_a_fleet_asks_for_the_delay_that_the_sum_of_unforgiven_failures_demands(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let notes = Memory::embedded(Rules::default());
            let fleet = [proxy(&notes, rules()), proxy(&notes, rules())];
            let mut model = Model::default();
            for (step, through) in steps {
                match step {
                    Step::Fail(user, client, word) => {
                        fail(&fleet[through], &format!("User{user}"), client, word).await;
                        model.failures.insert((user, client, word));
                    }
                    Step::Succeed(user, client) => {
                        succeed(&fleet[through], &format!("user{user}"), client).await;
                        model.failures.retain(|failure| (failure.0, failure.1) != (user, client));
                        model.known.insert((user, client));
                    }
                }
                for (user, client) in (0..3).flat_map(|user| (0..3).map(move |client| (user, client))) {
                    let found = delay(&fleet[1 - through], &format!("user{user}"), client).await;
                    prop_assert_eq!(found, model.delay(user, client), "user {} at {}", user, client);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_number_of_failures_breaks_the_delay(failures: usize, max in 0..1000_u64) {
        let max = Duration::from_secs(max);
        prop_assert!(delay::of_address(failures, max) <= max);
        prop_assert!(delay::of_user(failures, max) <= delay::of_address(failures, max));
        prop_assert!(delay::of_address(failures, max) <= delay::of_address(failures.saturating_add(1), max));
    }
}

#[tokio::test]
async fn failures_are_forgotten_some_time_after_the_last_new_one() {
    let server = Arc::new(Simulated::new(1_000_000, "run"));
    let notes = Memory::embedded_by(Rules::default(), server.clone());
    let proxy = proxy(&notes, rules());
    fail(&proxy, "ann", 1, 1).await;
    server.set_ms(1_000_000 + 3_599_000);
    fail(&proxy, "ann", 1, 1).await;
    assert_eq!(delay(&proxy, "ann", 1).await, Duration::from_secs(1));
    server.set_ms(1_000_000 + 3_600_000);
    assert_eq!(delay(&proxy, "ann", 1).await, Duration::ZERO, "the same password again is nothing new");
}

#[tokio::test]
async fn an_operator_forgives_a_user_or_an_address() {
    let proxy = proxy(&Memory::embedded(Rules::default()), rules());
    for number in 0..9 {
        fail(&proxy, "ann", 1, number).await;
    }
    let forgiven = [proxy.forgive_address(address(1)).await, proxy.forgive_address(address(1)).await];
    assert_eq!(forgiven.map(Result::unwrap), [9, 0]);
    assert_eq!(delay(&proxy, "bob", 1).await, Duration::ZERO);
    assert!(delay(&proxy, "ann", 1).await > Duration::ZERO);
    let forgiven = [proxy.forgive_user("ANN").await, proxy.forgive_user("ann").await];
    assert_eq!(forgiven.map(Result::unwrap), [9, 0]);
    assert_eq!(delay(&proxy, "ann", 1).await, Duration::ZERO);
    assert_eq!(proxy.stats().failed, 9);
}

#[tokio::test]
async fn an_address_that_has_failed_often_leaves_no_more_names_in_the_store() {
    let notes = Memory::embedded(Rules::default());
    let proxy = proxy(&notes, rules());
    for number in 0..40 {
        fail(&proxy, &format!("name{number}"), 1, 1).await;
    }
    let mut noted = 0;
    for number in 0..40 {
        noted += proxy.forgive_user(&format!("name{number}")).await.unwrap();
    }
    assert_eq!((noted, proxy.forgive_address(address(1)).await.unwrap()), (MOST, MOST));
}

#[test]
fn so_many_new_names_are_noted_in_a_minute_that_what_lasts_is_bounded() {
    let (budget, hour) = (Budget::new(), Duration::from_secs(3600));
    let within = |minute| (0..10_000).filter(|_| budget.allows_at(minute, hour)).count() as u64;
    assert_eq!([within(7), within(8)], [budget::MOST_NOTED / 60; 2]);
    assert!(budget.allows_at(9, 10_000 * hour), "one a minute at least");
}

#[tokio::test]
async fn who_is_known_at_many_addresses_is_known_at_the_latest_and_does_not_fill_the_store() {
    let proxy = proxy(&Memory::embedded(Rules::default()), rules());
    for client in 100..120 {
        succeed(&proxy, "ann", client).await;
    }
    for client in 0..9 {
        fail(&proxy, "ann", client, client).await;
    }
    let mut free = 0;
    for client in 100..120 {
        free += u32::from(delay(&proxy, "ann", client).await.is_zero());
    }
    assert_eq!((free, delay(&proxy, "ann", 119).await), (MOST_KNOWN, Duration::ZERO));
}

#[tokio::test]
async fn an_exchange_that_fails_counts_each_time_and_a_token_that_does_once() {
    let proxy = proxy(&Memory::embedded(Rules::default()), rules());
    let token = Proof::Token(Secret::new(b"expired".to_vec()));
    let keys = ScramKeys {
        hash: ScramHash::Sha256,
        rounds: NonZeroU32::MIN,
        salt: [1].into(),
        stored_key: [0; 32].into(),
        server_key: [0; 32].into(),
    };
    for (client, proof, seconds) in [(1, &Proof::Failed(keys), 4), (2, &token, 1)] {
        let attempt = Attempt { user: &format!("u{client}"), client: Some(address(client)), proof };
        for _ in 0..3 {
            proxy.failed(&attempt, &look(&proxy, &attempt).await).await;
        }
        assert_eq!(look(&proxy, &attempt).await.delay, Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn a_token_without_a_name_leaves_nothing_when_it_is_good() {
    let asked = Arc::new(Asked(Memory::embedded(Rules::default()), AtomicU64::new(0)));
    let proxy = Penalties::new(asked.clone(), 1, seals(), rules());
    let token = Proof::Token(Secret::new(b"good".to_vec()));
    let attempt = Attempt { user: "", client: Some(address(1)), proof: &token };
    proxy.succeeded(&attempt, &look(&proxy, &attempt).await);
    tokio::task::yield_now().await;
    assert_eq!(asked.1.load(Ordering::Relaxed), 1, "the look");
}

#[test]
fn only_so_many_wait_at_an_address_at_once() {
    let proxy = proxy(&Memory::embedded(Rules::default()), rules());
    let mut turns: Vec<_> = (0..queue::MOST_WAITING).map(|_| proxy.queue(address(1)).unwrap()).collect();
    assert!(proxy.queue(address(1)).is_none() && proxy.queue(address(2)).is_some());
    turns.pop();
    assert!(proxy.queue(address(1)).is_some());
    drop(turns);
    assert_eq!(proxy.stats().too_fast, 1);
}

/// The store of a fleet, and how often it was asked.
struct Asked(Memory, AtomicU64);

#[async_trait]
impl Notes for Asked {
    async fn exchange(&self, shard: u16, notes: &[Note]) -> Result<Vec<Noted>, StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.exchange(shard, notes).await
    }

    async fn forget_all(&self, shard: u16) -> Result<u64, StoreError> {
        self.0.forget_all(shard).await
    }
}

#[tokio::test]
async fn a_login_that_is_remembered_asks_for_that_and_for_its_penalties_in_one_round_trip() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ann:{PLAIN}word\n").unwrap();
    let asked = Arc::new(Asked(Memory::embedded(Rules::default()), AtomicU64::new(0)));
    let proxy = Penalties::new(asked.clone(), 1, seals(), PenaltyRules { logins_per_minute: 9, ..rules() });
    let times = Times { positive: HOUR, negative: HOUR, stale: HOUR };
    let cache = Arc::new(Cache::new(asked.clone(), 1, seals(), times));
    let passdb = FilePassdb { path: file.path().to_owned(), cache: true, ..FilePassdb::default() };
    let chain = Chain::open(&[PassdbConfig::File(passdb)], &AuthConfig::default(), 1).await.with_cache(&cache);
    let proof = || Proof::Password(Secret::new(b"word".to_vec()));
    for (login, trips) in [(1, 1), (2, 2)] {
        let credentials =
            Credentials { user: "ann".to_owned(), authzid: None, proof: proof(), mechanism: Mechanism::Plain };
        let attempt =
            Attempt { user: chain.claimant(&credentials), client: Some(address(1)), proof: &credentials.proof };
        let recall = chain.to_recall(&credentials, Protocol::Imap).unwrap();
        let before = asked.1.load(Ordering::Relaxed);
        let (standing, answers) = proxy.look(&attempt, Some(&recall)).await;
        let question = Question {
            credentials: &credentials,
            service: Protocol::Imap,
            client: (address(1), 50_000).into(),
            local: (address(9), 993).into(),
            secured: true,
            session: &SessionId::random(),
            around: Circumstances::default(),
        };
        assert!(chain.authenticate_knowing(&question, chain.recalled(recall, answers)).await.is_ok());
        assert_eq!(asked.1.load(Ordering::Relaxed) - before, 1, "login {login}");
        proxy.succeeded(&attempt, &standing);
        for _ in 0..9 {
            tokio::task::yield_now().await; // what it has learnt is noted by tasks of its own
        }
        // The first notes what it has learnt; the second has nothing to add.
        let stats = cache.stats();
        assert_eq!((stats.fresh, stats.missed, stats.unreachable), (trips - 1, 1, 0));
        assert_eq!(asked.1.load(Ordering::Relaxed) - before, if login == 1 { 3 } else { 1 });
    }
    proxy.replace(PenaltyRules { max: Duration::ZERO, logins_per_minute: 0, ..rules() });
    assert!(!proxy.is_watching());
}

#[tokio::test]
async fn who_logs_in_for_somebody_is_who_fails() {
    let auth = AuthConfig::default();
    let chain = Chain::open(&[PassdbConfig::Backend], &auth, 1).await;
    for (given, authzid, claimant) in
        [("ann", None, "ann"), ("ann*admin", None, "admin"), ("admin", Some("ann".to_owned()), "admin")]
    {
        let proof = Proof::Password(Secret::default());
        let credentials = Credentials { user: given.to_owned(), authzid, proof, mechanism: Mechanism::Plain };
        assert_eq!(chain.claimant(&credentials), claimant);
    }
}

#[tokio::test]
async fn of_an_exempt_network_what_it_announces_counts_and_of_others_they_do() {
    let proxy = proxy(&Memory::embedded(Rules::default()), rules());
    let webmail: IpAddr = "192.0.2.7".parse().unwrap();
    assert_eq!(proxy.counted(address(1), Some(address(2))), Some(address(1)), "anybody could say that");
    assert_eq!(proxy.counted(webmail, Some(address(2))), Some(address(2)));
    assert_eq!(proxy.counted(webmail, None), None);
    assert_eq!(proxy.counted(webmail, Some("192.0.2.9".parse().unwrap())), None, "one webmail behind another");
    for number in 0..9 {
        let attempt = Attempt { user: &format!("u{number}"), client: None, proof: &password(number) };
        proxy.failed(&attempt, &Standing::default()).await;
        assert_eq!(look(&proxy, &attempt).await.delay, Duration::ZERO);
    }
}

#[tokio::test]
async fn an_ipv6_client_is_its_network_and_an_ipv4_client_one_address() {
    let proxy = proxy(&Memory::embedded(Rules::default()), rules());
    let word = password(1);
    let from = |address: &str| Attempt { user: "ann", client: Some(address.parse().unwrap()), proof: &word };
    proxy.failed(&from("2001:db8::1"), &Standing::default()).await;
    proxy.failed(&from("198.51.100.1"), &Standing::default()).await;
    for (address, seconds) in
        [("2001:db8::ffff:2", 1), ("2001:db8:0:1::1", 0), ("198.51.100.1", 1), ("198.51.100.2", 0)]
    {
        assert_eq!(look(&proxy, &from(address)).await.delay, Duration::from_secs(seconds), "{address}");
    }
}

#[tokio::test]
async fn an_address_logs_in_so_often_in_a_minute_over_all_proxies() {
    let notes = Memory::embedded(Rules::default());
    let limited = PenaltyRules { logins_per_minute: 3, ..rules() };
    let fleet = [proxy(&notes, limited.clone()), proxy(&notes, limited)];
    let word = password(1);
    let mut too_fast = Vec::new();
    for number in 0..5 {
        let attempt = Attempt { user: "ann", client: Some(address(1)), proof: &word };
        too_fast.push(look(&fleet[number % 2], &attempt).await.too_fast);
    }
    assert_eq!(too_fast, [false, false, false, true, true]);
    let elsewhere = Attempt { user: "ann", client: Some(address(2)), proof: &word };
    assert!(!look(&fleet[0], &elsewhere).await.too_fast);
}

/// A store that cannot be reached.
struct Away;

#[async_trait]
impl Notes for Away {
    async fn exchange(&self, _: u16, _: &[Note]) -> Result<Vec<Noted>, StoreError> {
        Err(StoreError::Unreachable { at: "nowhere".to_owned(), why: "it is away".to_owned() })
    }

    async fn forget_all(&self, _: u16) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[tokio::test]
async fn while_the_store_is_away_each_proxy_counts_for_itself() {
    let fleet = [(); 2].map(|()| Penalties::new(Arc::new(Away), 1, seals(), rules()));
    for number in 0..3 {
        fail(&fleet[0], "ann", 1, number).await;
    }
    assert_eq!(delay(&fleet[0], "bob", 1).await, Duration::from_secs(4));
    assert_eq!(delay(&fleet[1], "bob", 1).await, Duration::ZERO);
    assert!(fleet[0].stats().alone > 0);
}

#[tokio::test]
async fn sessions_of_a_user_at_an_address_are_limited_and_leave_their_seats() {
    let seats = Seats::new(Arc::new(Away), 1, seals(), Incarnation::new("p"));
    let take = |user: &'static str, last| {
        let seats = seats.clone();
        async move { seats.take(user, address(last), 64, 2).await }
    };
    let (first, second) = (take("ann", 1).await, take("Ann", 1).await);
    assert!(first.is_some() && second.is_some());
    assert!(take("ann", 1).await.is_none());
    assert!(take("ann", 2).await.is_some() && take("bob", 1).await.is_some());
    drop(first);
    assert!(take("ann", 1).await.is_some());
}
