//! Bulk work at backends: evict, flush, rebalance. Nobody owns it, so nobody's death ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homing::config::MovesConfig;
use homing::fleet::{Change, Verb};
use homing::model::{BackendId, Key};
use homing::placement::{Moves, Wanted};
use homing::store::{JobKind, Left, Row, Rules};
use tokio::time::sleep;

use crate::harness::crowd::{Doors, Habits};
use crate::harness::proxy::wanted;
use crate::harness::wait::whether;
use crate::harness::{Crowd, Proxy, Regulars, Stage, eventually, stage, throughout};

const SOON: Duration = Duration::from_secs(60);
const EVICT: Verb = Verb::Begin(JobKind::Evict);

fn hall(moves: MovesConfig) -> Stage {
    let stage = Stage::new(Rules { kick_delay: 50, ..stage::rules() });
    stage.moves.store(Arc::new(moves));
    stage
}

fn at_most(parallel: u32, per_second: u32) -> MovesConfig {
    MovesConfig { max_parallel_moves: parallel, move_rate: per_second, ..MovesConfig::default() }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user{n}")).collect()
}

async fn doors(stage: &Stage, proxies: usize, backends: &str) -> Doors {
    let mut open = BTreeMap::new();
    for n in 1..=proxies {
        let name = format!("p{n}");
        open.insert(name.clone(), Arc::new(stage.proxy(&name, backends).await));
    }
    Arc::new(Mutex::new(open))
}

fn proxy(doors: &Doors, name: &str) -> Arc<Proxy> {
    doors.lock().unwrap()[name].clone()
}

async fn all_there(stage: &Stage, sessions: u32) {
    eventually("all are there", SOON, async || {
        let loads = stage.loads().await;
        whether(loads.values().sum::<u32>() == sessions, || format!("{loads:?}"))
    })
    .await;
}

async fn row(stage: &Stage, name: &str) -> Row {
    let backends = stage.census().await.backends;
    backends.into_iter().find(|view| view.backend == BackendId::new(name)).unwrap().row
}

async fn moving(stage: &Stage) -> u32 {
    stage.censuses().await.iter().map(|census| census.moving).sum()
}

async fn empty(stage: &Stage, name: &str) {
    eventually("it is empty", SOON, async || {
        let loads = stage.loads().await;
        whether(loads[name] == 0, || format!("{loads:?}"))
    })
    .await;
}

#[tokio::test]
async fn i1_an_evicted_backend_empties_while_users_come_and_go_and_a_proxy_dies() {
    let mut stage = hall(at_most(10, 0));
    stage.shards = 2;
    let doors = doors(&stage, 3, "a b c").await;
    let (keys, visitors) = (keys(150), (0..40).map(|n| format!("visitor{n}")).collect::<Vec<_>>());
    let regulars = Regulars::enter(&doors, &keys, stage.seed);
    let habits = Habits { stay: 200, long_stay: 1500, unproven: 0 };
    let crowd = Crowd::enter(&doors, 20, &visitors, habits, stage.seed);
    eventually("they are there", SOON, async || {
        let loads = stage.loads().await;
        whether(loads.values().sum::<u32>() >= 150, || format!("{loads:?}"))
    })
    .await;
    proxy(&doors, "p1").change("a", EVICT).await.unwrap();
    let work = async {
        eventually("some have left", SOON, async || {
            let loads = stage.loads().await;
            whether(loads["a"] < 40, || format!("{loads:?}"))
        })
        .await;
        // Whoever began it dies in the middle.
        let dead = doors.lock().unwrap().remove("p1").unwrap();
        dead.kill();
        drop(dead);
        empty(&stage, "a").await;
    };
    throughout("no more are moved at once than may be, in each shard", work, async || {
        let moving = moving(&stage).await;
        whether(moving <= 20, || format!("{moving} are being moved"))
    })
    .await;
    assert!(row(&stage, "a").await.job.is_some(), "it stays evicted until somebody says otherwise");
    for n in 0..10 {
        assert_ne!(proxy(&doors, "p2").log_in(&format!("new{n}")).await.unwrap().backend(), "a");
    }
    crowd.go_home().await;
    regulars.go_home().await;
    let (two, three) = (proxy(&doors, "p2"), proxy(&doors, "p3"));
    stage.counts_agree(&[&two, &three], &keys).await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn whoever_is_pinned_is_spared_and_counted_as_such() {
    let stage = hall(at_most(10, 0));
    let doors = doors(&stage, 2, "a b").await;
    let (one, two) = (proxy(&doors, "p1"), proxy(&doors, "p2"));
    let mut stay = Vec::new();
    for n in 0..4 {
        let wanted = Wanted { pin: Some(BackendId::new("a")), ..wanted(&format!("passdb{n}")) };
        stay.push(one.log_in_as(wanted.clone()).await.unwrap());
        stay.push(two.log_in_as(wanted).await.unwrap());
    }
    let pin = |moves: Arc<Moves>| async move { moves.pin(&Key::new("operator"), &BackendId::new("a"), false).await };
    one.operate(pin).await.unwrap().unwrap();
    stay.push(two.log_in("operator").await.unwrap());
    // A session that no passdb has pinned joins one that is.
    stay.push(two.log_in("passdb0").await.unwrap());
    let regulars = Regulars::enter(&doors, &keys(40), stage.seed);
    all_there(&stage, 50).await;
    let dry = Change { backends: vec![BackendId::new("a")], verb: EVICT };
    assert_eq!(two.fleet.plan(&dry).await.unwrap()[0].pinned_here, 4);
    one.change("a", EVICT).await.unwrap();
    eventually("all others have left", SOON, async || {
        let census = stage.census().await;
        let at_a = |left: &&Left| left.backend.as_str() == "a";
        let left: Vec<_> = census.proxies.iter().flat_map(|proxy| proxy.left.iter().filter(at_a)).collect();
        let sums = left.iter().fold((0, 0), |sums, left| (sums.0 + left.keys, sums.1 + left.pinned));
        whether(sums == (0, 9), || format!("{left:?}"))
    })
    .await;
    all_there(&stage, 50).await;
    assert_eq!(stage.loads().await["a"], 10);
    assert!(stay.iter().all(|session| session.ended().is_none()), "nobody was moved only to come back");
    regulars.go_home().await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn bulk_work_rests_goes_on_and_ends_when_it_is_told_to() {
    let stage = hall(at_most(5, 20));
    let doors = doors(&stage, 2, "a b").await;
    let regulars = Regulars::enter(&doors, &keys(80), stage.seed);
    all_there(&stage, 80).await;
    let (one, two) = (proxy(&doors, "p1"), proxy(&doors, "p2"));
    one.change("a", EVICT).await.unwrap();
    let moved = async |least: u32| {
        eventually("some have left", SOON, async || {
            let loads = stage.loads().await;
            whether(loads["a"] <= 40 - least, || format!("{loads:?}"))
        })
        .await;
    };
    moved(8).await;
    two.change("a", Verb::Pause).await.unwrap();
    eventually("those on the way arrive", SOON, async || whether(moving(&stage).await == 0, || "not yet".to_owned()))
        .await;
    all_there(&stage, 80).await;
    let rest = stage.loads().await["a"];
    assert!(rest > 0);
    throughout("nobody is moved", one.road.beats(15), async || {
        let moving = moving(&stage).await;
        whether(moving == 0, || format!("{moving} are being moved"))
    })
    .await;
    assert_eq!(stage.loads().await["a"], rest);
    one.change("a", Verb::Resume).await.unwrap();
    moved(40 - rest + 5).await;
    let done = two.change("a", Verb::Abort).await.unwrap();
    assert!(done.notes[0].contains("stays drained"), "{:?}", done.notes);
    let row = row(&stage, "a").await;
    assert!(row.job.is_none() && !row.takes_users());
    regulars.go_home().await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn a_new_backend_gets_its_share_by_a_rebalance_which_then_stops() {
    let stage = hall(at_most(20, 0));
    let doors = doors(&stage, 3, "a b").await;
    let regulars = Regulars::enter(&doors, &keys(240), stage.seed);
    all_there(&stage, 240).await;
    let one = proxy(&doors, "p1");
    one.change("c", Verb::Add(Some("{ host = \"mail3\" }".to_owned()))).await.unwrap();
    let change = homing::fleet::Change { backends: Vec::new(), verb: Verb::Begin(JobKind::Rebalance) };
    one.fleet.change(&change).await.unwrap();
    eventually("it has stopped by itself", SOON, async || {
        let rows = stage.census().await.backends;
        whether(rows.iter().all(|view| view.row.job.is_none()), || format!("{:?}", rows))
    })
    .await;
    all_there(&stage, 240).await;
    let loads = stage.loads().await;
    // The fair share is 80, and a tenth more is borne; each of three proxies may have moved one user too many.
    assert!((79..=88).contains(&loads["a"]) && (79..=88).contains(&loads["b"]), "{loads:?}");
    assert!(regulars.came() <= 240 + 90, "{} logins: more were moved than had to be", regulars.came());
    regulars.go_home().await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn a_flush_moves_only_whom_a_new_login_would_bring_elsewhere_and_each_once() {
    // Whoever is on the way counts nowhere: with many at once, more would go than need to.
    let stage = hall(at_most(2, 0));
    let doors = doors(&stage, 2, "a b").await;
    let regulars = Regulars::enter(&doors, &keys(100), stage.seed);
    all_there(&stage, 100).await;
    let one = proxy(&doors, "p1");
    let over = async || {
        eventually("it has stopped by itself", SOON, async || {
            whether(row(&stage, "a").await.job.is_none(), || "not yet".to_owned())
        })
        .await;
        all_there(&stage, 100).await;
    };
    one.change("a", Verb::Begin(JobKind::Flush)).await.unwrap();
    over().await;
    assert!(regulars.came() <= 100 + 5, "{} logins, though nobody was placed wrongly", regulars.came());
    // From now on "b" shall have three quarters of the users, which changes nobody's home until then.
    one.change("b", Verb::Weight(homing::model::Weight::new(300).unwrap())).await.unwrap();
    let before = regulars.came();
    one.change("a", Verb::Begin(JobKind::Flush)).await.unwrap();
    over().await;
    let (loads, moved) = (stage.loads().await, regulars.came() - before);
    assert!((20..=30).contains(&loads["a"]) && moved <= 35, "{loads:?}, {moved} moved");
    regulars.go_home().await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn moves_stop_by_themselves_when_logins_fail_where_they_go_to() {
    let stage = hall(at_most(5, 20));
    let doors = doors(&stage, 2, "a b").await;
    let regulars = Regulars::enter(&doors, &keys(80), stage.seed);
    all_there(&stage, 80).await;
    let one = proxy(&doors, "p1");
    stage.trouble.lock().unwrap().insert("b".to_owned(), (10, 10));
    one.change("a", EVICT).await.unwrap();
    one.road.beats(15).await;
    assert!(!row(&stage, "a").await.job.unwrap().paused, "ten attempts say nothing");
    stage.trouble.lock().unwrap().insert("b".to_owned(), (40, 12));
    eventually("it rests", SOON, async || whether(row(&stage, "a").await.job.unwrap().paused, || "not yet".to_owned()))
        .await;
    assert_eq!(row(&stage, "a").await.job.unwrap().why, "12 of 40 recent logins at b failed");
    stage.trouble.lock().unwrap().insert("b".to_owned(), (40, 8)); // as much as is borne
    one.change("a", Verb::Resume).await.unwrap();
    empty(&stage, "a").await;
    assert_eq!(row(&stage, "a").await.job.unwrap().why, "");
    regulars.go_home().await;
}

/// How many may be ahead of the rate: a quarter of a second by the store's rules, the rest because a proxy whose heartbeats
/// are late on a busy machine is not counted for a moment.
const AHEAD: f64 = 1000.0;

#[tokio::test]
async fn ten_thousand_users_leave_a_backend_at_a_steady_rate() {
    let stage = Stage::new(Rules { kick_delay: 50, lease: 10_000, ..stage::rules() });
    stage.moves.store(Arc::new(at_most(400, 1000)));
    let doors = doors(&stage, 3, "a").await;
    let regulars = Regulars::enter(&doors, &keys(10_000), stage.seed);
    all_there(&stage, 10_000).await;
    let one = proxy(&doors, "p1");
    one.change("b", Verb::Add(Some("{ host = \"mail2\" }".to_owned()))).await.unwrap();
    // By the store's clock, which gives out the leave to move.
    let (began, clock, mut last, mut rates) = (Instant::now(), stage.now(), 10_000_i64, Vec::new());
    one.change("a", EVICT).await.unwrap();
    while last > 0 {
        assert!(began.elapsed() < 4 * SOON, "{last} are left; {rates:?}");
        sleep(Duration::from_secs(1)).await;
        let left = i64::from(stage.loads().await["a"]);
        rates.push(last - left);
        last = left;
        let (moved, may) = ((10_000 - left) as f64, 1000.0 * (stage.now() - clock).as_secs_f64() + AHEAD);
        assert!(moved <= may, "{moved} have been moved, {may} may: {rates:?}");
    }
    println!("evicted 10,000 users in {:.1} s; per second: {rates:?}", began.elapsed().as_secs_f64());
    // A busy machine cannot do as much as it may, but something all the time.
    let resting = rates.iter().rev().skip(1).filter(|rate| **rate < 50).count();
    assert!(resting * 4 < rates.len(), "in fits and starts: {rates:?}");
    all_there(&stage, 10_000).await;
    regulars.go_home().await;
    stage.witness.swears_one_home();
}
