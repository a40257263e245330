//! Proxies that die, are cut off, stand still, start anew or leave.

use std::time::Duration;

use homing::model::{Ending, Refusal};
use homing::store::Rules;

use crate::harness::wait::whether;
use crate::harness::{Proxy, Session, Stage, Weather, eventually, rows, stage, throughout};

const SOON: Duration = Duration::from_secs(60);

async fn sessions(proxy: &Proxy, keys: &[String]) -> Vec<Session> {
    futures_util::future::try_join_all(keys.iter().map(|key| proxy.log_in(key))).await.unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user{n}")).collect()
}

/// Waits until the store calls that proxy an orphan and has taken its sessions off the load.
async fn orphaned(stage: &Stage, incarnation: &str) {
    eventually("the proxy is an orphan", SOON, async || {
        let census = stage.census().await;
        let proxy = census.proxies.iter().find(|proxy| proxy.incarnation.as_str() == incarnation);
        whether(proxy.is_some_and(|proxy| proxy.orphan), || format!("{proxy:?}"))
    })
    .await;
}

/// Waits until nothing is left of it.
async fn forgotten(stage: &Stage, incarnation: &str, within: Duration) {
    eventually("nothing is left of the proxy", within, async || {
        let census = stage.census().await;
        let left = census.proxies.into_iter().find(|proxy| proxy.incarnation.as_str() == incarnation);
        whether(left.is_none(), || format!("{left:?}"))
    })
    .await;
}

#[tokio::test]
async fn i4_the_clients_of_a_killed_proxy_are_at_once_at_the_same_home_and_its_share_is_freed_in_time() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "b1 b2 b3").await, stage.proxy("p2", "b1 b2 b3").await);
    let keys = names(230); // more than two pages
    let before = sessions(&one, &keys).await;
    stage.counts_agree(&[&one, &two], &keys).await;
    let dead = one.incarnation();
    one.kill();
    let after = sessions(&two, &keys).await;
    let left = stage.census().await.proxies.into_iter().find(|proxy| proxy.incarnation.as_str() == dead);
    assert!(left.is_some(), "they have waited until it was freed");
    assert!(before.iter().zip(&after).all(|(old, new)| old.place == new.place));
    orphaned(&stage, &dead).await;
    let load: u32 = stage.census().await.backends.iter().map(|backend| backend.sessions).sum();
    assert_eq!(load, 230, "the dead one's sessions have left the load with its lease");
    forgotten(&stage, &dead, SOON).await;
    stage.counts_agree(&[&two], &keys).await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn a_proxy_that_comes_back_after_its_lease_finds_nothing_taken_apart() {
    let stage = Stage::new(Rules { user_expire: 1, ..stage::rules() });
    let (one, two) = (stage.proxy("p1", "b1 b2").await, stage.proxy("p2", "b1 b2").await);
    let keys = names(20);
    let before = sessions(&one, &keys).await;
    one.road.set(Weather::Silent);
    orphaned(&stage, &one.incarnation()).await;
    // Half of them also come in elsewhere meanwhile.
    let beside = sessions(&two, &keys[..10]).await;
    assert!(before.iter().zip(&beside).all(|(old, new)| old.place == new.place));
    one.road.set(Weather::Fair);
    stage.counts_agree(&[&one, &two], &keys).await;
    assert!(before.iter().chain(&beside).all(|session| session.ended().is_none()));
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn i3_what_ended_while_a_proxy_was_cut_off_is_told_when_it_is_back() {
    let stage = Stage::new(stage::rules());
    let one = stage.proxy("p1", "b1 b2").await;
    let keys = names(120);
    let mut open = sessions(&one, &keys).await;
    stage.counts_agree(&[&one], &keys).await;
    one.road.set(Weather::Cut);
    open.truncate(30);
    eventually("they are gone here", SOON, async || {
        let holding = one.ledger().holding();
        whether(holding.sessions == 30, || format!("{holding:?}"))
    })
    .await;
    one.road.set(Weather::Fair);
    stage.counts_agree(&[&one], &keys).await;
}

#[tokio::test]
async fn i1_an_isolated_proxy_has_ended_its_sessions_before_its_keys_are_given_away() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "b1 b2").await, stage.proxy("p2", "b1 b2").await);
    let keys = names(120);
    let open = sessions(&one, &keys).await;
    stage.counts_agree(&[&one, &two], &keys).await;
    one.road.set(Weather::Silent);
    let mut ends = Box::pin(futures_util::future::join_all(open.into_iter().map(Session::gone)));
    // As long as a session lives, every key has its holder.
    let endings = tokio::select! {
        endings = &mut ends => endings,
        () = throughout("keys stay bound", std::future::pending(), async || {
            let holders = stage.holders("user119").await.unwrap();
            whether(holders.contains_key(&one.incarnation()), || "its key was given away".to_owned())
        }) => unreachable!(),
    };
    assert!(endings.iter().all(|why| *why == Some(Ending::Isolated)), "{endings:?}");
    assert_eq!(one.log_in("user0").await.err(), Some(Refusal::StoreUnavailable));
    eventually("the keys are free", SOON, async || {
        let holders = stage.holders("user119").await.unwrap_or_default();
        whether(holders.is_empty(), || format!("{holders:?}"))
    })
    .await;
    // And it comes back as if it were new.
    one.road.set(Weather::Fair);
    let again = eventually_in(&one, "user0").await;
    stage.counts_agree(&[&one, &two], &keys).await;
    drop(again);
}

async fn eventually_in(proxy: &Proxy, key: &str) -> Session {
    let mut session = None;
    eventually("it lets in again", SOON, async || {
        session = Some(proxy.log_in(key).await.map_err(|why| format!("{why:?}"))?);
        Ok(())
    })
    .await;
    session.unwrap()
}

#[tokio::test]
async fn i1_nobody_joins_at_a_proxy_past_its_deadline_though_the_session_there_is_still_closing() {
    let stage = Stage::new(Rules { orphan_grace: 1000, ..stage::rules() });
    let one = stage.proxy("p1", "b1").await;
    let open = one.log_in("ann").await.unwrap();
    one.road.set(Weather::Cut);
    let lease = one.fleet.shards()[0].lease.clone();
    eventually("the deadline passes", SOON, async || whether(!lease.holds(), || "it is ahead".to_owned())).await;
    assert!(one.log_in("ann").await.is_err());
    assert_eq!(open.gone().await, Some(Ending::Isolated));
}

#[tokio::test]
async fn a_proxy_that_stood_still_beyond_its_deadline_ends_its_sessions_before_it_renews() {
    // Alone: nobody has reaped it meanwhile, so that the store takes its next heartbeat as if nothing had been.
    let stage = Stage::new(Rules { orphan_grace: 1000, ..stage::rules() });
    for round in 0..2 {
        let one = stage.proxy("p1", "b1").await;
        let open = one.log_in("ann").await.unwrap();
        one.stand_still(Duration::from_millis(2300)).await;
        let gone = tokio::time::timeout(SOON, open.gone()).await;
        assert_eq!(gone, Ok(Some(Ending::Isolated)), "round {round}");
        eventually_in(&one, "ann").await.leave().await;
        stage.counts_agree(&[&one], &["ann".to_owned()]).await;
        one.fleet.leave().await;
    }
}

#[tokio::test]
async fn a_restart_with_the_state_file_frees_what_the_dead_run_held() {
    let stage = Stage::new(Rules { orphan_grace: 3_600_000, ..stage::rules() });
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let peer = stage.proxy("p2", "b1 b2").await;
    let keys = names(230);
    let mut dead = Vec::new();
    // Twice killed before anybody had the time to clean up.
    for _ in 0..2 {
        let road = stage.road();
        let run = Proxy::start_on(&stage, road, "p1", rows("b1 b2"), Some(&state)).await;
        run.fleet.ready().await;
        let open = sessions(&run, &keys).await;
        stage.counts_agree(&[&peer, &run], &keys[..0]).await;
        dead.push(run.incarnation());
        run.road.set(Weather::Cut);
        run.kill();
        for one in open {
            one.gone().await;
        }
        unlocked(&state).await;
    }
    let run = Proxy::start(&stage, "p1", rows("b1 b2"), Some(&state)).await;
    for incarnation in &dead {
        forgotten(&stage, incarnation, SOON).await;
    }
    stage.counts_agree(&[&peer, &run], &keys).await;
    eventually("the file names only the living", SOON, async || {
        let text = std::fs::read_to_string(&state).unwrap();
        whether(text == format!("{}\n", run.incarnation()), || text)
    })
    .await;
}

/// Waits until the dead runtime has let go of the lock: a killed process does so at once.
async fn unlocked(state: &std::path::Path) {
    eventually("the lock is free", SOON, async || {
        let file = std::fs::File::open(state).map_err(|error| error.to_string())?;
        file.try_lock().map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_leaves_is_gone_at_once_and_does_not_come_back() {
    let stage = Stage::new(Rules { orphan_grace: 3_600_000, ..stage::rules() });
    let (one, two) = (stage.proxy("p1", "b1").await, stage.proxy("p2", "b1").await);
    let keys = names(30);
    for session in sessions(&one, &keys).await {
        session.leave().await;
    }
    let heartbeats = one.fleet.clone();
    one.fleet.leave().await;
    forgotten(&stage, &one.incarnation(), SOON).await;
    // Somebody there who has not heard of it.
    assert_eq!(one.log_in("late").await.err(), Some(Refusal::StoreUnavailable));
    drop(heartbeats);
    throughout("it stays away", two.road.beats(5), async || {
        let census = stage.census().await;
        whether(census.proxies.len() == 1, || format!("{:?}", census.proxies))
    })
    .await;
    stage.counts_agree(&[&two], &keys).await;
}

#[tokio::test]
async fn a_proxy_that_leaves_with_sessions_keeps_their_keys_bound() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "b1 b2").await, stage.proxy("p2", "b1 b2").await);
    let stuck = one.log_in("ann").await.unwrap();
    one.fleet.leave().await;
    let holders = stage.holders("ann").await.unwrap();
    assert_eq!(holders.get(&one.incarnation()), Some(&1), "{holders:?}");
    assert_eq!(two.log_in("ann").await.unwrap().place, stuck.place);
}
