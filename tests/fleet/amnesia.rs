//! I5: the store forgets, while sessions live and clients come and go.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use homing::store::Rules;
use homing::store::clock::Simulated;
use homing::store::memory::Memory;
use tokio::time::sleep;

use crate::harness::crowd::{Doors, Habits};
use crate::harness::wait::whether;
use crate::harness::{Crowd, Dice, Proxy, Stage, eventually, stage};

/// Long enough that every proxy says hello within it on a busy machine: what does not is E1.
const RECOVERY: u64 = 1500;

async fn three(stage: &Stage) -> (Doors, Vec<Arc<Proxy>>) {
    let mut proxies = Vec::new();
    for name in ["p1", "p2", "p3"] {
        proxies.push(Arc::new(stage.proxy(name, "b1 b2 b3").await));
    }
    let doors = proxies.iter().map(|proxy| (proxy.name.clone(), proxy.clone())).collect();
    (Arc::new(Mutex::new(doors)), proxies)
}

fn keys(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{kind}{n}")).collect()
}

/// Waits until all live proxies have said that they have told everything.
async fn recovered(stage: &Stage, epoch: u64) {
    eventually("the window is closed", Duration::from_secs(60), async || {
        let census = stage.census().await;
        let over = census.epoch >= epoch && census.recovering_ms.is_none() && census.proxies.len() == 3;
        whether(over, || format!("{census:?}"))
    })
    .await;
}

/// What the amnesia tests have in common: idle sessions that must survive, a crowd that comes and goes.
async fn endures(stage: Stage, forget: impl AsyncFn(&Stage)) {
    let (doors, proxies) = three(&stage).await;
    let idle = keys("idle", 150);
    let logins = idle.iter().enumerate().map(|(n, key)| proxies[n % 3].log_in(key));
    let open = futures_util::future::try_join_all(logins).await.unwrap();
    let restless = keys("restless", 30);
    let crowd = Crowd::enter(&doors, 24, &restless, Habits { stay: 60, long_stay: 2000, unproven: 5 }, stage.seed);
    for _ in 0..2 {
        sleep(Duration::from_millis(400)).await; // for the crowd to have done something
        forget(&stage).await;
        recovered(&stage, 1).await;
    }
    let diary = crowd.go_home().await;
    println!("{}", diary.summary());
    assert_eq!(diary.endings(), 0, "sessions were dropped: {}", diary.summary());
    let ended: Vec<_> = open.iter().filter_map(|session| session.ended()).collect();
    assert!(ended.is_empty(), "sessions were dropped: {ended:?}");
    let proxies: Vec<&Proxy> = proxies.iter().map(AsRef::as_ref).collect();
    let everybody = [idle.clone(), restless].concat();
    stage.counts_agree(&proxies, &everybody).await;
    for (session, key) in open.iter().zip(&idle) {
        assert_eq!(stage.home(key).await.as_deref(), Some(session.backend()));
    }
    for session in open {
        session.leave().await;
    }
    stage.counts_agree(&proxies, &everybody).await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn i5_a_store_that_forgets_everything_under_load_is_told_again_and_no_session_notices() {
    let rules = Rules { recovery: RECOVERY, user_expire: 1, balance_factor: 0.0, ..stage::rules() };
    endures(Stage::new(rules), async |stage: &Stage| stage.memory.flush()).await;
}

#[tokio::test]
async fn i5_a_failover_that_loses_the_last_writes_is_found_out_and_they_are_told_again() {
    let rules = Rules { recovery: RECOVERY, user_expire: 1, balance_factor: 0.0, ..stage::rules() };
    let server = Arc::new(Simulated::new(1_000_000, "first"));
    stage::tick(&server);
    let stage = Stage::over(Memory::simulated(rules, server.clone()), rules);
    let dice = Dice::new(stage.seed);
    endures(stage, async |stage: &Stage| {
        let saved = stage.memory.save();
        sleep(Duration::from_millis(dice.below(300))).await;
        server.restart(&format!("run{}", dice.below(u64::MAX)));
        stage.memory.restore(&saved);
    })
    .await;
}

#[tokio::test]
async fn i5_logins_of_one_key_that_pile_up_do_not_hold_up_the_recovery() {
    // Far less than the longest recovery, which is what it would take if they did.
    let mut stage = Stage::new(Rules { recovery: 500, recovery_max: 200_000, ..stage::rules() });
    stage.login_wait = Duration::from_secs(100);
    let one = stage.proxy("p1", "b1").await;
    // A limit: none of them may join, each must ask.
    let limited = || homing::placement::Wanted { limit: 1000, ..crate::harness::proxy::wanted("hot") };
    let first = one.log_in_as(limited()).await.unwrap();
    stage.memory.flush();
    let comers = (0..200).map(|_| one.log_in_as(limited()));
    let comers = tokio::time::timeout(Duration::from_secs(60), futures_util::future::join_all(comers)).await.unwrap();
    assert!(comers.iter().all(|comer| comer.is_ok()), "some were refused");
    stage.counts_agree(&[&one], &["hot".to_owned()]).await;
    assert_eq!(first.ended(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_user_comes_back_to_the_home_that_this_proxy_saw_after_the_store_has_forgotten_everything() {
    let stage = Stage::new(stage::rules());
    let proxy = stage.proxy("p1", "b1 b2 b3").await;
    let users = keys("user", 30);
    let mut homes = Vec::new();
    for user in &users {
        homes.push(proxy.log_in(user).await.unwrap());
    }
    // Nobody holds a session, so nobody tells the store anything.
    let mut former = Vec::new();
    for session in homes {
        former.push(session.backend().to_owned());
        session.leave().await;
    }
    stage.counts_agree(&[&proxy], &users).await;
    stage.memory.flush();
    recovered_alone(&stage).await;
    for (user, former) in users.iter().zip(&former).rev() {
        let session = proxy.log_in(user).await.unwrap();
        assert_eq!(session.backend(), former, "{user}");
    }
}

async fn recovered_alone(stage: &Stage) {
    eventually("the window is closed", Duration::from_secs(60), async || {
        let census = stage.census().await;
        let over = census.epoch >= 1 && census.recovering_ms.is_none() && census.table_version > 0;
        whether(over, || format!("{census:?}"))
    })
    .await;
}
