//! A store of several shards: each has its own keys, leases and clock, and all have one backend table.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use homing::fleet::Verb;
use homing::model::{BackendId, Ending};
use homing::store::clock::Simulated;
use homing::store::memory::Memory;
use homing::store::{BackendState, Rules, Table};

use crate::harness::wait::whether;
use crate::harness::{Proxy, Session, Stage, eventually, rows, stage};

const SOON: Duration = Duration::from_secs(60);

fn three_shards(rules: Rules) -> Stage {
    let mut stage = Stage::new(rules);
    stage.shards = 3;
    stage
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user{n}")).collect()
}

async fn all_in(proxies: &[&Proxy], keys: &[String]) -> Vec<Session> {
    let logins = keys.iter().enumerate().map(|(n, key)| proxies[n % proxies.len()].log_in(key));
    futures_util::future::try_join_all(logins).await.unwrap()
}

/// Waits until every shard of the store has the table of the first.
async fn one_table(stage: &Stage) {
    eventually("all shards have one table", SOON, async || {
        let censuses = stage.censuses().await;
        let tables = |census: &homing::store::Census| {
            let rows = census.backends.iter().map(|view| (view.backend.clone(), view.row.state, view.row.weight));
            (census.table_version, rows.collect::<Vec<_>>())
        };
        let first = tables(&censuses[0]);
        whether(first.0 > 0 && censuses.iter().all(|census| tables(census) == first), || format!("{censuses:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_proxy_is_ready_when_every_shard_has_the_table_and_keys_of_all_shards_find_homes() {
    let stage = three_shards(stage::rules());
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "b c").await);
    assert!(one.fleet.shards().iter().all(|shard| shard.roster.table().version > 0), "ready means with a table");
    one_table(&stage).await;
    let keys = keys(60);
    let open = all_in(&[&one, &two], &keys).await;
    stage.counts_agree(&[&one, &two], &keys).await;
    for census in stage.censuses().await {
        let here: u32 = census.backends.iter().map(|view| view.sessions).sum();
        assert!((10..=30).contains(&here), "{here} of 60 sessions in one of three shards");
    }
    drop(open);
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn a_change_of_the_table_is_in_force_in_every_shard() {
    let stage = three_shards(stage::rules());
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    let keys = keys(30);
    let open = all_in(&[&one, &two], &keys).await;
    let done = one.change("a", Verb::Remove).await.unwrap();
    assert_eq!((done.confirmed, done.live), (2, 2));
    for proxy in [&one, &two] {
        for shard in proxy.fleet.shards() {
            assert_eq!(shard.roster.table().rows[&BackendId::new("a")].state, BackendState::Removed);
        }
    }
    for (key, session) in keys.iter().zip(open) {
        if session.backend() == "a" {
            assert_eq!(session.gone().await, Some(Ending::Kicked));
            assert_eq!(two.log_in(key).await.unwrap().backend(), "b");
        }
    }
    two.reload(rows("a b"), rows("a b c"));
    eventually("a file's news as well", SOON, async || {
        let known = |census: &homing::store::Census| census.backends.len() == 3;
        whether(stage.censuses().await.iter().all(known), || "not yet".to_owned())
    })
    .await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn i5_a_shard_that_forgets_gets_keys_and_table_back_while_the_others_go_on() {
    for shard in 0..3 {
        let stage = three_shards(stage::rules());
        let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
        one.change("b", Verb::Drain).await.unwrap();
        one.change("b", Verb::Up).await.unwrap();
        let keys = keys(30);
        let open = all_in(&[&one, &two], &keys).await;
        stage.memory.flush_shard(shard);
        one_table(&stage).await;
        stage.counts_agree(&[&one, &two], &keys).await;
        assert!(open.iter().all(|session| session.ended().is_none()), "shard {shard}: sessions were closed");
        let done = two.change("b", Verb::Drain).await.unwrap();
        assert_eq!((done.confirmed, done.live), (2, 2), "shard {shard}: the table can be changed again");
        one_table(&stage).await;
        for key in 0..12 {
            assert_eq!(one.log_in(&format!("new{key}")).await.unwrap().backend(), "a", "shard {shard}");
        }
        stage.witness.swears_one_home();
    }
}

#[tokio::test]
async fn the_table_reaches_all_shards_although_the_first_forgot_and_its_clock_went_back() {
    let (rules, server) = (stage::rules(), Arc::new(Simulated::new(1_000_000, "first")));
    let behind = stage::tick(&server);
    let mut stage = Stage::over(Memory::simulated(rules, server), rules);
    stage.shards = 3;
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    let before = one.table().0;
    behind.store(500_000, Ordering::Relaxed);
    stage.memory.flush_shard(0);
    one_table(&stage).await;
    let done = two.change("a", Verb::Drain).await.unwrap();
    assert_eq!((done.confirmed, done.live), (2, 2));
    assert!(done.version > before, "{} is no news to shards that have {before}", done.version);
    one_table(&stage).await;
    assert_eq!(one.log_in("ann").await.unwrap().backend(), "b");
}

#[tokio::test]
async fn what_a_proxy_knew_of_the_copies_before_the_versions_went_back_does_not_count_any_more() {
    let (rules, server) = (stage::rules(), Arc::new(Simulated::new(1_000_000, "first")));
    let back = stage::tick(&server);
    let mut stage = Stage::over(Memory::simulated(rules, server), rules);
    stage.shards = 3;
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    // Whether the versions go back or are lifted depends on which shard a proxy hears of first.
    for (verb, state) in [(Verb::Down, BackendState::Down), (Verb::Up, BackendState::Up)].into_iter().cycle().take(4) {
        back.fetch_add(100_000, Ordering::Relaxed);
        (0..3).for_each(|shard| stage.memory.flush_shard(shard));
        one_table(&stage).await;
        eventually("it can be changed again", SOON, async || {
            let done = two.change("a", verb.clone()).await;
            whether(done.is_ok(), || format!("{done:?}"))
        })
        .await;
        eventually("no shard of any proxy goes by a table of before", SOON, async || {
            let stored = stage.censuses().await[0].table_version;
            let shards = [&one, &two].into_iter().flat_map(|proxy| proxy.fleet.shards());
            let tables: Vec<_> = shards.map(|shard| shard.roster.table()).collect();
            let is_stored =
                |table: &Arc<Table>| table.version == stored && table.rows[&BackendId::new("a")].state == state;
            whether(tables.iter().all(is_stored), || format!("{stored}, {state:?}: {tables:?}"))
        })
        .await;
    }
}
