//! What operators do to backends while the fleet runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use homing::fleet::Verb;
use homing::model::{BackendId, Ending, Weight};
use homing::store::clock::Simulated;
use homing::store::memory::Memory;
use homing::store::{BackendState, JobKind, Row, Rules};

use crate::harness::wait::whether;
use crate::harness::{Proxy, Stage, Weather, eventually, rows, stage};

const SOON: Duration = Duration::from_secs(60);
const MAIL3: &str = "{ host = \"mail3\" }";

async fn row(stage: &Stage, name: &str) -> Option<Row> {
    let backends = stage.census().await.backends;
    backends.into_iter().find(|view| view.backend.as_str() == name).map(|view| view.row)
}

/// The state of each backend.
async fn states(stage: &Stage) -> String {
    let backends = stage.census().await.backends;
    let said = backends.iter().map(|view| format!("{} {}", view.backend, view.row.state.word()));
    said.collect::<Vec<_>>().join(", ")
}

fn weight(weight: u32) -> Verb {
    Verb::Weight(Weight::new(weight).unwrap())
}

#[tokio::test]
async fn what_operators_set_survives_the_restart_of_all_proxies_and_wins_over_their_files() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a b d").await, stage.proxy("p2", "a b d").await);
    let done = one.change("a", Verb::Drain).await.unwrap();
    assert_eq!((done.confirmed, done.live, done.silent.len()), (2, 2, 0));
    assert_eq!(two.table().1[&BackendId::new("a")].state, BackendState::Drain, "in force means everywhere");
    two.change("b", weight(7)).await.unwrap();
    one.change("c", Verb::Add(Some(MAIL3.to_owned()))).await.unwrap();
    two.change("d", Verb::Remove).await.unwrap();
    one.fleet.leave().await;
    two.fleet.leave().await;
    let one = stage.proxy("p1", "a b d").await;
    let two = stage.proxy("p2", "a b d").await;
    two.reload(rows("a b d"), rows("a b d e"));
    eventually("the file's news are in the table", SOON, async || {
        whether(row(&stage, "e").await.is_some(), || "not yet".to_owned())
    })
    .await;
    assert_eq!(states(&stage).await, "a drain, b up, c up, d removed, e up");
    assert_eq!(row(&stage, "b").await.unwrap().weight.get(), 7);
    assert_eq!(row(&stage, "c").await.unwrap().added.as_deref(), Some(MAIL3));
    for name in ["a", "b", "d"] {
        one.change(name, Verb::Reset).await.unwrap();
    }
    assert_eq!(states(&stage).await, "a up, b up, c up, d up, e up", "and it can all be taken back");
    assert_eq!(row(&stage, "b").await.unwrap().weight.get(), 100);
}

#[tokio::test]
async fn a_backend_that_no_file_has_any_more_is_got_rid_of_by_remove_and_reset() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a old").await, stage.proxy("p2", "a old").await);
    // The files lose it, and the proxies restart one after the other: nobody is ever alone.
    one.fleet.leave().await;
    let one = stage.proxy("p1", "a").await;
    two.fleet.leave().await;
    let two = stage.proxy("p2", "a").await;
    assert_eq!(states(&stage).await, "a up, old up", "another file might have it");
    one.change("old", Verb::Remove).await.unwrap();
    two.change("old", Verb::Reset).await.unwrap();
    assert_eq!(states(&stage).await, "a up");
}

#[tokio::test]
async fn an_added_backend_takes_users_and_a_removed_one_loses_them() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a").await, stage.proxy("p2", "a").await);
    let guest = two.log_in("ann").await.unwrap();
    assert_eq!(guest.backend(), "a");
    one.change("c", Verb::Add(Some(MAIL3.to_owned()))).await.unwrap();
    assert_eq!(two.log_in("bob").await.unwrap().backend(), "c");
    one.change("a", Verb::Remove).await.unwrap();
    assert_eq!(guest.gone().await, Some(Ending::Kicked));
    assert_eq!(two.log_in("ann").await.unwrap().backend(), "c");
    two.reload(rows("a"), rows("a"));
    two.road.beats(3).await;
    assert_eq!(states(&stage).await, "a removed, c up", "no file brings it back");
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn whoever_does_not_follow_is_named_and_holds_nobody_up_for_long() {
    let stage = Stage::new(Rules { lease: 10_000, ..stage::rules() });
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    two.road.set(Weather::Silent);
    let done = one.change("a", Verb::Drain).await.unwrap();
    assert_eq!((done.confirmed, done.live), (1, 2));
    assert_eq!(done.silent, [format!("p2 ({})", two.incarnation())]);
    assert_eq!(states(&stage).await, "a drain, b up");
}

#[tokio::test]
async fn changes_at_once_all_come_about() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a b c d").await, stage.proxy("p2", "a b c d").await);
    let change = async |proxy: &Proxy, name, verb: Verb| {
        loop {
            match proxy.change(name, verb.clone()).await {
                Err(why) if why.contains("try again") => {}
                other => return other.unwrap(),
            }
        }
    };
    tokio::join!(
        change(&one, "a", Verb::Drain),
        change(&two, "b", Verb::Down),
        change(&one, "c", Verb::Remove),
        change(&two, "d", weight(3)),
    );
    assert_eq!(states(&stage).await, "a drain, b down, c removed, d up");
    assert_eq!(row(&stage, "d").await.unwrap().weight.get(), 3);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let stage = Stage::new(stage::rules());
    let one = stage.proxy("p1", "a b").await;
    let version = one.table().0;
    assert_eq!(one.change("c", Verb::Drain).await.unwrap_err(), "there is no backend c");
    assert!(one.change("a c", Verb::Begin(JobKind::Evict)).await.is_err());
    assert_eq!((one.table().0, stage.census().await.table_version), (version, version));
}

#[tokio::test]
async fn a_backend_that_the_fleet_finds_dead_loses_its_sessions_and_users() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    let guests = [one.log_in("ann").await.unwrap(), two.log_in("bob").await.unwrap()];
    let at_a = guests.into_iter().find(|guest| guest.backend() == "a").unwrap();
    for proxy in [&one, &two] {
        proxy.fleet.shards()[0].reports.failing(vec![BackendId::new("a")]);
    }
    assert_eq!(at_a.gone().await, Some(Ending::Kicked));
    for key in ["ann", "bob", "cid", "dan"] {
        assert_eq!(one.log_in(key).await.unwrap().backend(), "b");
    }
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn what_operators_set_survives_an_amnesia_even_if_a_fresh_proxy_is_first_to_bring_its_table() {
    let stage = Stage::new(Rules { recovery: 3000, ..stage::rules() });
    let one = stage.proxy("p1", "a b c").await;
    one.change("a", Verb::Drain).await.unwrap();
    one.change("b", Verb::Remove).await.unwrap();
    one.road.set(Weather::Cut);
    stage.memory.flush();
    let _fresh = Proxy::start(&stage, "p2", rows("a b c"), None).await;
    eventually("it has brought its table", SOON, async || {
        let said = states(&stage).await;
        whether(said == "a up, b up, c up", || said.clone())
    })
    .await;
    one.road.set(Weather::Fair);
    eventually("what was set is set again", SOON, async || {
        let said = states(&stage).await;
        whether(said == "a drain, b removed, c up", || said.clone())
    })
    .await;
}

#[tokio::test]
async fn a_change_after_an_amnesia_waits_for_who_has_yet_to_give_back_the_table_of_before_and_is_not_undone() {
    let (rules, server) = (stage::rules(), Arc::new(Simulated::new(1_000_000, "first")));
    let behind = stage::tick(&server);
    let stage = Stage::over(Memory::simulated(rules, server.clone()), rules);
    let one = stage.proxy("p1", "a b").await;
    one.change("a", Verb::Drain).await.unwrap();
    one.road.set(Weather::Beaten);
    // What one knows has a higher version than all that the store gives from now on: it puts that over whatever it finds.
    behind.store(500_000, Ordering::Relaxed);
    eventually("the clock is behind", SOON, async || whether(server.ms() < 1_000_000, || server.ms().to_string()))
        .await;
    stage.memory.flush();
    let two = Proxy::start(&stage, "p2", rows("a b"), None).await;
    eventually("a fresh proxy has brought its table", SOON, async || {
        let said = states(&stage).await;
        whether(said == "a up, b up", || said.clone())
    })
    .await;
    let gives_back = async {
        eventually("the window is open for nobody, or for who did not agree", SOON, async || {
            let left = stage.census().await.recovering_ms;
            whether(left.is_none_or(|ms| ms == 1), || format!("{left:?}"))
        })
        .await;
        two.road.beats(5).await;
        one.road.set(Weather::Fair);
    };
    let (done, ()) = tokio::join!(two.change("b", Verb::Down), gives_back);
    let done = done.unwrap();
    eventually("what was set before is set again", SOON, async || {
        let said = states(&stage).await;
        whether(said.starts_with("a drain"), || said.clone())
    })
    .await;
    assert_eq!(states(&stage).await, "a drain, b down", "and what was set since still is");
    assert_eq!((done.confirmed, done.live), (2, 2));
    two.road.beats(3).await;
    assert_eq!(stage.census().await.table_version, done.version, "nobody has anything to add");
}

#[tokio::test]
async fn a_change_after_an_amnesia_is_not_judged_by_what_the_store_has_before_it_is_told_all() {
    let stage = Stage::new(Rules { recovery: 3000, ..stage::rules() });
    let one = stage.proxy("p1", "a").await;
    one.change("c", Verb::Add(Some(MAIL3.to_owned()))).await.unwrap();
    one.road.set(Weather::Cut);
    stage.memory.flush();
    let fresh = Proxy::start(&stage, "p2", rows("a"), None).await;
    eventually("it has brought its table", SOON, async || {
        let said = states(&stage).await;
        whether(said == "a up", || said.clone())
    })
    .await;
    let returns = async { one.road.set(Weather::Fair) };
    let (done, ()) = tokio::join!(fresh.change("c", Verb::Drain), returns);
    assert_eq!(done.map(|done| done.version), Ok(stage.census().await.table_version));
    assert_eq!(states(&stage).await, "a up, c drain");
}
