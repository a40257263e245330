//! Names, seals, and what is answered without asking.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use proptest::prelude::*;

use super::record::{Record, Said};
use super::seal::{MIN_SECRET, Purpose, Seals, SharedSeals};
use super::{About, Cache, Kind, Times};
use crate::auth::link::Answer;
use crate::auth::{Denial, FieldTls, Fields, Grant};
use crate::model::{Pool, Protocol, Secret, User};
use crate::store::memory::Memory;
use crate::store::notes::{MAX_NOTE, Note, Noted, Notes};
use crate::store::{Rules, StoreError};

fn secret(byte: u8) -> Secret {
    Secret::new(vec![byte; MIN_SECRET])
}

fn seals(first: u8, second: Option<u8>) -> Seals {
    Seals::new(&secret(first), second.map(secret).as_ref()).unwrap()
}

fn shared(seals: Seals) -> SharedSeals {
    SharedSeals::new(ArcSwap::from_pointee(seals))
}

#[test]
fn what_is_sealed_opens_under_its_name_with_the_secret_and_nowhere_else() {
    let ours = seals(1, None);
    let ann = ours.name(Purpose::Answer, &[b"ann", b"imap"]);
    let sealed = ours.seal(&ann, b"the answer").unwrap();
    assert_eq!(ours.open(&ann, &sealed).unwrap()[..], b"the answer"[..]);
    let bob = ours.name(Purpose::Answer, &[b"bob", b"imap"]);
    assert!(ours.open(&bob, &sealed).is_none(), "another user's note must not open");
    assert!(seals(2, None).open(&ann, &sealed).is_none(), "nor one of another fleet");
    for at in 0..sealed.len() {
        let mut broken = sealed.clone();
        broken[at] ^= 1;
        assert!(ours.open(&ann, &broken).is_none(), "bit {at}");
        assert!(ours.open(&ann, &sealed[..at]).is_none(), "cut at {at}");
    }
}

#[test]
fn two_seals_of_the_same_differ() {
    let ours = seals(1, None);
    let name = ours.name(Purpose::User, &[b"ann"]);
    assert_ne!(ours.seal(&name, b"same").unwrap(), ours.seal(&name, b"same").unwrap());
}

#[test]
fn while_a_secret_is_replaced_both_open_and_the_new_one_seals() {
    let (old, both, new) = (seals(1, None), seals(2, Some(1)), seals(2, None));
    let about: &[&[u8]] = &[b"ann"];
    let old_name = old.name(Purpose::Answer, about);
    let sealed = old.seal(&old_name, b"old").unwrap();
    let names: Vec<_> = both.names(Purpose::Answer, about).collect();
    assert_eq!(names, [new.name(Purpose::Answer, about), old_name]);
    assert_eq!(both.open(&old_name, &sealed).unwrap()[..], b"old"[..]);
    let sealed = both.seal(&names[0], b"new").unwrap();
    assert_eq!(new.open(&names[0], &sealed).unwrap()[..], b"new"[..]);
    assert!(old.open(&names[0], &sealed).is_none());
}

#[test]
fn a_secret_that_could_be_guessed_is_refused() {
    assert!(Seals::new(&Secret::new(vec![7; MIN_SECRET - 1]), None).is_none());
    assert!(Seals::new(&secret(7), Some(&Secret::new(b"short".to_vec()))).is_none());
}

proptest! {
    #[test]
    fn no_two_things_have_one_name(a: Vec<Vec<u8>>, b: Vec<Vec<u8>>) {
        let ours = seals(1, None);
        let parts = |list: &[Vec<u8>]| ours.name(Purpose::User, &list.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(a == b, parts(&a) == parts(&b));
        prop_assert_ne!(ours.name(Purpose::User, &[b"x"]), ours.name(Purpose::Address, &[b"x"]));
    }

    #[test]
    fn garbage_does_not_open(garbage: Vec<u8>) {
        let ours = seals(1, Some(2));
        prop_assert!(ours.open(&ours.name(Purpose::User, &[b"x"]), &garbage).is_none());
    }
}

/// What a source says to one question, and how often it was asked.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicU32>);

impl Asked {
    async fn says(&self, verdict: Answer) -> Answer {
        self.0.fetch_add(1, Ordering::Relaxed);
        verdict
    }

    fn times(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

const TIMES: Times =
    Times { positive: Duration::from_secs(600), negative: Duration::from_secs(60), stale: Duration::from_secs(600) };

fn cache_over(notes: &Memory, secret: u8) -> Cache {
    Cache::new(Arc::new(notes.clone()), 1, shared(seals(secret, None)), TIMES)
}

fn granted() -> Answer {
    let fields = Fields {
        pool: Some(Pool::new("blue")),
        host: Some("mail1".to_owned()),
        hostip: Some(IpAddr::from([192, 0, 2, 9])),
        delay_until: None,
        port: Some(144),
        destuser: Some("ann@x".to_owned()),
        master: Some("boss".to_owned()),
        pass: Some(Secret::new(b"boss's \xff".to_vec())),
        tls: Some(FieldTls { starttls: true, verify: false }),
        timeout: Some(Duration::from_millis(1500)),
        no_pipelining: true,
        not_trusted: true,
        no_auth: true,
        forward: vec![("quota".to_owned(), "1G".to_owned())],
        allow_nets: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        until: Some(UNIX_EPOCH + Duration::from_secs(4_000_000_000)),
    };
    Answer::Granted(Box::new(Grant { user: User::new("ann"), unproven: false, master: None, fields }))
}

fn about(proof: Option<&Secret>) -> About<'_> {
    let kind = if proof.is_some() { Kind::Login } else { Kind::Lookup };
    About { user: "Ann", service: Protocol::Imap, kind, proof, anew: false }
}

/// Asks with a token for somebody, or for whom it names.
async fn ask_by_token(cache: &Cache, user: &str, token: &str, asked: &Asked, says: Answer) -> Answer {
    let token = Secret::new(token.as_bytes().to_vec());
    let about = About { user, kind: Kind::Token, ..about(Some(&token)) };
    let mut recalled = cache.recall(&["oauth2"], &about).await;
    let verdict = cache.answer(&mut recalled, 0, &about, asked.says(says)).await.0;
    tokio::task::yield_now().await; // the note is written by a task of its own
    verdict
}

fn granted_until(until: u64) -> Answer {
    let Answer::Granted(mut grant) = granted() else { unreachable!() };
    grant.fields.until = Some(UNIX_EPOCH + Duration::from_secs(until));
    Answer::Granted(grant)
}

#[tokio::test]
async fn the_tokens_of_all_devices_are_kept_and_another_neither_replaces_nor_ends_them() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    let tokens: Vec<String> = (0..8).map(|device| format!("token {device}")).collect();
    for token in &tokens {
        ask_by_token(&cache, "ann", token, &asked, granted()).await;
    }
    ask(&cache, "token 0", &asked, Answer::Denied(Denial::Password)).await;
    ask_by_token(&cache, "ann", "another's", &asked, Answer::Unknown).await;
    ask_by_token(&cache, "ann", "bad", &asked, Answer::Denied(Denial::Password)).await;
    assert_eq!(asked.times(), 11, "a token is no password");
    for token in &tokens {
        assert!(matches!(ask_by_token(&cache, "ann", token, &asked, Answer::Unknown).await, Answer::Granted(_)));
    }
    assert_eq!(asked.times(), 11);
    ask_by_token(&cache, "ann", "a ninth", &asked, granted()).await;
    ask_by_token(&cache, "ann", "token 0", &asked, Answer::Unknown).await;
    assert_eq!(asked.times(), 13, "the oldest had to go");
    let told = ask_by_token(&cache, "bob", "token 1", &asked, Answer::Denied(Denial::Password)).await;
    assert!(matches!(told, Answer::Denied(Denial::Password)), "what is ann's is not bob's");
    assert_eq!(cache.forget(&["oauth2"], "ann").await.unwrap(), 1);
    let told = ask_by_token(&cache, "ann", "token 1", &asked, Answer::Denied(Denial::Password)).await;
    assert!(matches!(told, Answer::Denied(Denial::Password)));
}

#[tokio::test]
async fn tokens_without_a_name_are_kept_each_by_itself() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    for _ in 0..3 {
        assert!(matches!(ask_by_token(&cache, "", "good", &asked, granted()).await, Answer::Granted(_)));
        let told = ask_by_token(&cache, "", "bad", &asked, Answer::Denied(Denial::Password)).await;
        assert!(matches!(told, Answer::Denied(Denial::Password)));
    }
    assert_eq!(asked.times(), 2);
}

#[tokio::test]
async fn what_a_token_granted_ends_with_it_even_while_the_source_is_away() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    for until in [0, super::now() - 1, super::now()] {
        ask_by_token(&cache, "ann", "old", &asked, granted_until(until)).await;
        let told = ask_by_token(&cache, "ann", "old", &asked, Answer::Unavailable).await;
        assert!(matches!(told, Answer::Unavailable), "{told:?}");
    }
    assert_eq!(asked.times(), 6);
    let mut record = Record::default();
    let (secret, now, seals) = (Secret::new(b"token".to_vec()), 1000, seals(1, None));
    record.learn(&granted_until(1030), Some(&secret), &seals, now, 8).unwrap();
    assert_eq!(record.lasts(&TIMES, now), Duration::from_secs(30), "nor is the note");
    for (now, good) in [(1000, true), (1029, true), (1030, false), (5000, false)] {
        let said = record.says(Some(&secret), &seals, now, &TIMES);
        assert_eq!(matches!(said, Said::Fresh(Answer::Granted(_))), good, "{now}");
        assert_eq!(matches!(said, Said::Nothing), !good, "{now}");
    }
}

async fn ask(cache: &Cache, password: &str, asked: &Asked, says: Answer) -> Answer {
    let password = Secret::new(password.as_bytes().to_vec());
    let about = about(Some(&password));
    let mut recalled = cache.recall(&["ldap"], &about).await;
    let verdict = cache.answer(&mut recalled, 0, &about, asked.says(says)).await.0;
    tokio::task::yield_now().await; // the note is written by a task of its own
    verdict
}

fn shown(verdict: &Answer) -> String {
    format!("{verdict:?}")
}

#[tokio::test]
async fn a_good_answer_is_given_again_by_a_peer_with_all_its_fields() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    ask(&cache_over(&notes, 1), "right", &asked, granted()).await;
    let again = ask(&cache_over(&notes, 1), "right", &asked, Answer::Unknown).await;
    assert_eq!((shown(&again), asked.times()), (shown(&granted()), 1));
    let Answer::Granted(grant) = again else { panic!("not granted") };
    assert_eq!(grant.fields.pass.unwrap().expose(), b"boss's \xff");
}

#[tokio::test]
async fn another_password_is_shown_to_the_source_and_a_wrong_one_but_once() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    ask(&cache, "right", &asked, granted()).await;
    let wrong = Answer::Denied(Denial::Password);
    for _ in 0..3 {
        assert!(matches!(ask(&cache, "wrong", &asked, wrong.duplicate()).await, Answer::Denied(Denial::Password)));
    }
    assert_eq!(asked.times(), 2);
    assert!(matches!(ask(&cache, "right", &asked, Answer::Unknown).await, Answer::Granted(_)), "still good");
    assert!(matches!(ask(&cache, "new", &asked, granted()).await, Answer::Granted(_)), "changed meanwhile");
    assert_eq!(asked.times(), 3);
}

#[tokio::test]
async fn a_password_that_the_source_takes_no_more_is_good_no_more() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let old = Times { positive: Duration::ZERO, ..TIMES };
    let cache = Cache::new(Arc::new(notes.clone()), 1, shared(seals(1, None)), old);
    ask(&cache, "right", &asked, granted()).await;
    ask(&cache, "right", &asked, Answer::Denied(Denial::Password)).await;
    let down = Answer::Unavailable;
    assert!(matches!(ask(&cache, "right", &asked, down).await, Answer::Denied(Denial::Password)));
}

#[tokio::test]
async fn an_old_answer_is_good_while_the_source_is_away_and_only_for_its_password() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let old = Times { positive: Duration::ZERO, ..TIMES };
    let cache = Cache::new(Arc::new(notes.clone()), 1, shared(seals(1, None)), old);
    ask(&cache, "right", &asked, granted()).await;
    let down = Answer::Unavailable;
    assert!(matches!(ask(&cache, "right", &asked, down.duplicate()).await, Answer::Granted(_)));
    assert!(matches!(ask(&cache, "wrong", &asked, down).await, Answer::Unavailable));
    assert_eq!(asked.times(), 3);
    let stats = cache.stats();
    assert_eq!((stats.fresh, stats.stale, stats.missed), (0, 1, 3));
}

#[tokio::test]
async fn who_is_not_known_is_not_asked_about_again_with_that_password_until_forgotten() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    for password in ["b", "a", "a"] {
        assert!(matches!(ask(&cache, password, &asked, Answer::Unknown).await, Answer::Unknown));
    }
    assert_eq!(asked.times(), 2, "as often as for a wrong password of somebody who is known");
    assert_eq!(cache.forget(&["ldap"], "ANN").await.unwrap(), 1);
    assert!(matches!(ask(&cache, "a", &asked, granted()).await, Answer::Granted(_)));
    assert_eq!(cache.forget_all().await.unwrap(), 1);
    ask(&cache, "a", &asked, granted()).await;
    assert_eq!(asked.times(), 4);
}

#[tokio::test]
async fn a_fleet_with_another_secret_believes_nothing() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    ask(&cache_over(&notes, 1), "right", &asked, granted()).await;
    let other = cache_over(&notes, 2);
    assert!(matches!(ask(&other, "right", &asked, Answer::Unknown).await, Answer::Unknown));
}

#[tokio::test]
async fn what_is_refused_for_another_reason_or_left_to_the_backend_is_not_kept() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    let Answer::Granted(mut unproven) = granted() else { panic!("not granted") };
    unproven.unproven = true;
    let answers = [Answer::Denied(Denial::Forbidden), Answer::Unavailable, Answer::Granted(unproven)];
    for answer in answers {
        ask(&cache, "right", &asked, answer.duplicate()).await;
        ask(&cache, "right", &asked, answer).await;
    }
    assert_eq!(asked.times(), 6);
}

#[tokio::test]
async fn who_asks_the_same_at_once_asks_once_also_if_the_first_gives_up() {
    let notes = Memory::embedded(Rules::default());
    let (cache, asked) = (Arc::new(cache_over(&notes, 1)), Asked::default());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let login = || {
        let (cache, asked, gate) = (cache.clone(), asked.clone(), gate.clone());
        tokio::spawn(async move {
            let password = Secret::new(b"right".to_vec());
            let about = about(Some(&password));
            let mut recalled = cache.recall(&["ldap"], &about).await;
            let source = async {
                let verdict = asked.says(granted()).await;
                let _permit = gate.acquire().await.unwrap();
                verdict
            };
            cache.answer(&mut recalled, 0, &about, source).await.0
        })
    };
    let first = login();
    until(|| asked.times() == 1).await;
    let others: Vec<_> = (0..50).map(|_| login()).collect();
    tokio::task::yield_now().await;
    first.abort();
    until(|| asked.times() == 2).await;
    gate.add_permits(1);
    for other in others {
        assert!(matches!(other.await.unwrap(), Answer::Granted(_)));
    }
    assert_eq!((asked.times(), cache.stats().shared), (2, 49));
    until(|| cache.flights.is_empty()).await;
}

/// A store in which nothing is noted before it is let.
struct Slow(Memory, Arc<tokio::sync::Semaphore>);

#[async_trait::async_trait]
impl Notes for Slow {
    async fn exchange(&self, shard: u16, notes: &[Note]) -> Result<Vec<Noted>, StoreError> {
        if !matches!(notes, [Note::Recall(_)]) {
            let _permit = self.1.acquire().await.unwrap();
        }
        self.0.exchange(shard, notes).await
    }

    async fn forget_all(&self, shard: u16) -> Result<u64, StoreError> {
        self.0.forget_all(shard).await
    }
}

#[tokio::test]
async fn who_asks_the_same_before_the_answer_is_noted_does_not_ask_again() {
    let (notes, gate) = (Memory::embedded(Rules::default()), Arc::new(tokio::sync::Semaphore::new(0)));
    let (cache, asked) =
        (Cache::new(Arc::new(Slow(notes, gate.clone())), 1, shared(seals(1, None)), TIMES), Asked::default());
    for _ in 0..3 {
        assert!(matches!(ask(&cache, "right", &asked, granted()).await, Answer::Granted(_)));
    }
    assert!(matches!(ask(&cache, "wrong", &asked, Answer::Denied(Denial::Password)).await, Answer::Denied(_)));
    assert_eq!((asked.times(), cache.stats().shared, cache.stats().fresh), (2, 2, 0));
    gate.add_permits(1);
    until(|| cache.flights.is_empty()).await;
    assert!(matches!(ask(&cache, "wrong", &asked, granted()).await, Answer::Denied(_)), "noted last");
    assert_eq!((asked.times(), cache.stats().fresh), (2, 1));
}

#[tokio::test]
async fn who_looked_before_an_answer_was_noted_and_asks_afterwards_does_not_ask_again() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let (cache, password) = (cache_over(&notes, 1), Secret::new(b"right".to_vec()));
    let mut early = cache.recall(&["ldap"], &about(Some(&password))).await;
    ask(&cache, "right", &asked, granted()).await;
    let answer = cache.answer(&mut early, 0, &about(Some(&password)), asked.says(Answer::Unknown)).await.0;
    assert!(matches!(answer, Answer::Granted(_)));
    drop(early);
    until(|| cache.flights.is_empty()).await;
    assert_eq!(asked.times(), 1);
}

#[tokio::test]
async fn what_is_too_long_to_be_noted_is_asked_each_time() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    for _ in 0..2 {
        let Answer::Granted(mut long) = granted() else { panic!("not granted") };
        long.fields.forward.push(("all".to_owned(), "x".repeat(MAX_NOTE)));
        assert!(matches!(ask(&cache, "right", &asked, Answer::Granted(long)).await, Answer::Granted(_)));
    }
    assert_eq!(asked.times(), 2);
}

async fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "it never comes to that");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_may_no_longer_log_in_is_not_let_in_by_an_old_answer() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let old = Times { positive: Duration::ZERO, ..TIMES };
    let cache = Cache::new(Arc::new(notes.clone()), 1, shared(seals(1, None)), old);
    ask(&cache, "right", &asked, granted()).await;
    ask(&cache, "right", &asked, Answer::Denied(Denial::Forbidden)).await;
    assert!(matches!(ask(&cache, "right", &asked, Answer::Unavailable).await, Answer::Unavailable));
}

#[tokio::test]
async fn a_password_that_is_taken_no_more_is_forgotten_though_wrong_ones_are_not_kept_and_another_secret_sealed_it() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let times = Times { positive: Duration::ZERO, negative: Duration::ZERO, ..TIMES };
    let cache = |seals| Cache::new(Arc::new(notes.clone()), 1, shared(seals), times);
    let (old, both) = (cache(seals(1, None)), cache(seals(2, Some(1))));
    ask(&old, "right", &asked, granted()).await;
    assert!(matches!(ask(&both, "right", &asked, Answer::Unavailable).await, Answer::Granted(_)), "both open");
    ask(&both, "right", &asked, Answer::Denied(Denial::Password)).await;
    for cache in [&both, &old] {
        assert!(matches!(ask(cache, "right", &asked, Answer::Unavailable).await, Answer::Unavailable));
    }
}

#[tokio::test]
async fn who_is_to_wait_waits_each_time() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    let late = SystemTime::now() + Duration::from_secs(600);
    for _ in 0..2 {
        let Answer::Granted(mut slow) = granted() else { panic!("not granted") };
        slow.fields.delay_until = Some(late);
        let Answer::Granted(said) = ask(&cache, "right", &asked, Answer::Granted(slow)).await else {
            panic!("refused")
        };
        assert_eq!(said.fields.delay_until, Some(late));
    }
    assert_eq!(asked.times(), 2);
}

#[tokio::test]
async fn who_was_proven_otherwise_and_is_locked_is_not_let_in_by_an_old_answer() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let old = Times { positive: Duration::ZERO, ..TIMES };
    let cache = Cache::new(Arc::new(notes.clone()), 1, shared(seals(1, None)), old);
    let by_certificate = async |says| {
        let about = About { kind: Kind::External, ..about(None) };
        let mut recalled = cache.recall(&["file"], &about).await;
        let verdict = cache.answer(&mut recalled, 0, &about, asked.says(says)).await.0;
        tokio::task::yield_now().await;
        verdict
    };
    by_certificate(granted()).await;
    assert!(
        matches!(by_certificate(Answer::Unavailable).await, Answer::Granted(_)),
        "as long as nobody says otherwise"
    );
    by_certificate(Answer::Denied(Denial::Password)).await;
    assert!(matches!(by_certificate(Answer::Unavailable).await, Answer::Unavailable));
}

#[tokio::test]
async fn a_token_that_does_not_say_when_it_ends_is_asked_about_each_time() {
    let (notes, asked) = (Memory::embedded(Rules::default()), Asked::default());
    let cache = cache_over(&notes, 1);
    for _ in 0..2 {
        let Answer::Granted(mut endless) = granted() else { panic!("not granted") };
        endless.fields.until = None;
        ask_by_token(&cache, "ann", "token", &asked, Answer::Granted(endless)).await;
    }
    assert_eq!(asked.times(), 2);
}
