//! Sources that hang, fail and come back, in paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::auth::hasher::Hasher;
use crate::auth::tests::{credentials, question};
use crate::auth::{Fields, Grant};
use crate::model::User;

/// How a source behaves at the moment.
const WELL: usize = 0;
const FAILING: usize = 1;
const HANGING: usize = 2;
const FAULTY: usize = 3;

#[derive(Default)]
struct Site {
    mood: AtomicUsize,
    asked: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Moody(Arc<Site>);

#[async_trait]
impl Source for Moody {
    fn name(&self) -> String {
        "moody".to_owned()
    }

    async fn ask(&self, _: &Question<'_>) -> Verdict {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let now = self.0.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most.fetch_max(now, Ordering::Relaxed);
        let mood = self.0.mood.load(Ordering::Relaxed);
        if mood == HANGING {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.0.now.fetch_sub(1, Ordering::Relaxed);
        match mood {
            WELL => Verdict::Granted(Box::new(Grant {
                user: User::new("ann"),
                unproven: false,
                master: None,
                fields: Fields::default(),
            })),
            FAULTY => Verdict::Faulty("two entries".to_owned()),
            _ => Verdict::Unavailable("away".to_owned()),
        }
    }

    async fn find(&self, _: &Lookup<'_>) -> Verdict {
        Verdict::Unknown
    }
}

struct Rig {
    site: Arc<Site>,
    link: Arc<Link>,
}

impl Rig {
    fn new(parallel: usize) -> Self {
        let site = Arc::<Site>::default();
        let (timeout, pause) = (Duration::from_secs(5), Duration::from_secs(2));
        let keys = RemoteKeys { timeout, parallel, failures: 3, pause, cache: true };
        let link = Link::remote(Box::new(Moody(Arc::clone(&site))), &keys, Verifier::new(Hasher::new(1)));
        Self { site, link: Arc::new(link) }
    }

    fn mood(&self, mood: usize) {
        self.site.mood.store(mood, Ordering::Relaxed);
    }

    fn asked(&self) -> usize {
        self.site.asked.load(Ordering::Relaxed)
    }

    async fn lets_in(&self) -> bool {
        let answer = self.link.ask(&question(&credentials("ann", "x"), &SessionId::random())).await;
        matches!(answer, Answer::Granted(_))
    }

    async fn all_at_once(&self, questions: usize) -> usize {
        let ask = |_| {
            let rig = Self { site: Arc::clone(&self.site), link: Arc::clone(&self.link) };
            tokio::spawn(async move { rig.lets_in().await })
        };
        let tasks: Vec<_> = (0..questions).map(ask).collect();
        let mut granted = 0;
        for task in tasks {
            granted += usize::from(task.await.unwrap());
        }
        granted
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_failed_several_times_in_a_row_is_left_alone_then_probed_once() {
    let rig = Rig::new(64);
    rig.mood(FAILING);
    for _ in 0..3 {
        assert!(!rig.lets_in().await);
    }
    rig.mood(WELL);
    assert!(!rig.lets_in().await && rig.asked() == 3, "left alone");
    assert!(rig.link.stats(false).paused);
    tokio::time::advance(Duration::from_millis(2001)).await;
    assert_eq!(rig.all_at_once(10).await, 1, "one probes, the others are refused meanwhile");
    assert_eq!((rig.all_at_once(10).await, rig.asked()), (10, 14));
    let stats = rig.link.stats(false);
    assert_eq!((stats.asked, stats.granted, stats.unavailable, stats.refused), (24, 11, 3, 10));
    assert_eq!((stats.latency.iter().sum::<u64>(), stats.paused), (14, false));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_pauses_anew_and_one_that_is_given_up_lets_the_next_probe() {
    let rig = Rig::new(64);
    rig.mood(FAILING);
    for _ in 0..3 {
        rig.lets_in().await;
    }
    tokio::time::advance(Duration::from_millis(2001)).await;
    rig.lets_in().await;
    rig.lets_in().await;
    assert_eq!(rig.asked(), 4, "paused anew");
    tokio::time::advance(Duration::from_millis(2001)).await;
    rig.mood(HANGING);
    assert!(timeout(Duration::from_secs(1), rig.lets_in()).await.is_err(), "the client went away");
    rig.mood(WELL);
    assert!(rig.lets_in().await);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_given_up_in_time_and_so_are_those_who_wait_for_a_turn() {
    let rig = Rig::new(2);
    rig.mood(HANGING);
    let begun = tokio::time::Instant::now();
    assert_eq!(rig.all_at_once(50).await, 0);
    assert!(begun.elapsed() <= Duration::from_millis(10_010), "{:?}", begun.elapsed());
    assert!(rig.asked() <= 4, "{} questions to who hangs", rig.asked());
    assert_eq!(rig.link.stats(false).timed_out, 50);
}

#[tokio::test(start_paused = true)]
async fn no_more_questions_than_allowed_are_asked_at_once() {
    let rig = Rig::new(3);
    assert_eq!(rig.all_at_once(50).await, 50);
    assert_eq!(rig.site.most.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_one_user_does_not_stop_the_others() {
    let rig = Rig::new(64);
    rig.mood(FAULTY);
    for _ in 0..20 {
        assert!(!rig.lets_in().await);
    }
    rig.mood(WELL);
    assert!(rig.lets_in().await);
}
