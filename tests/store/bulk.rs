//! Many moves: their pace, and the work at a backend that every claim takes part in.

use std::collections::BTreeSet;

use homing::model::{BackendId, Key};
use homing::store::*;

use crate::orders::*;
use crate::stage::*;

contract!(
    only_so_many_moves_are_under_way_at_once,
    only_so_many_moves_begin_in_a_second,
    moves_of_keys_that_nobody_holds_are_paced_too,
    keys_that_nobody_holds_are_moved_to_each_other_backend_in_turn,
    a_flush_places_idle_keys_anew_that_were_placed_before,
    a_flush_that_began_ahead_of_the_clock_comes_to_an_end,
    a_rebalance_takes_idle_keys_to_where_there_is_room,
    a_paused_job_is_none,
    an_evicted_backend_loses_idle_keys_at_their_next_claim,
    a_job_counts_from_when_it_began,
    one_of_many_moves_does_not_wait_for_a_dead_proxy,
    one_of_many_moves_leaves_whom_an_operator_has_pinned_there,
);

fn with_job(kind: JobKind) -> Row {
    Row { job: Some(Job { kind, since: 0, paused: false, why: String::new() }), ..up() }
}

fn paced(key: &str, parallel: u32, per_second: u32) -> Move {
    Move { pace: Some(Pace { parallel, per_second }), ..moving(key, Target::Elsewhere) }
}

async fn only_so_many_moves_are_under_way_at_once(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    for key in ["1", "2", "3"] {
        z.bind(key, 0).await;
    }
    for key in ["1", "2"] {
        assert!(matches!(world.begin(paced(key, 2, 0)).await, Moved::Begun { .. }), "{key}");
    }
    assert_eq!(world.begin(paced("3", 2, 0)).await, Moved::Later(250));
    assert_eq!(world.census().await.moving, 2);
    assert!(matches!(world.begin(moving("3", Target::Elsewhere)).await, Moved::Begun { .. }), "one alone is not paced");
}

async fn only_so_many_moves_begin_in_a_second(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    for n in 0..10 {
        z.bind(&format!("{n}"), 0).await;
    }
    for key in ["0", "1", "2"] {
        assert!(matches!(world.begin(paced(key, 99, 10)).await, Moved::Begun { .. }), "{key}");
    }
    assert_eq!(world.begin(paced("3", 99, 10)).await, Moved::Later(50), "a quarter of a second ahead, and no more");
    world.server.set_ms(world.server.ms() + 50);
    assert!(matches!(world.begin(paced("3", 99, 10)).await, Moved::Begun { .. }));
    assert_eq!(world.begin(paced("4", 99, 10)).await, Moved::Later(100));
    assert!(matches!(world.begin(paced("4", 99, 0)).await, Moved::Begun { .. }), "0 is any number");
}

async fn moves_of_keys_that_nobody_holds_are_paced_too(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    for key in ["1", "2"] {
        z.bind(key, 0).await;
        z.release(key).await;
    }
    world.pass(2000, &mut [&mut z]).await;
    assert!(matches!(world.begin(paced("1", 1, 1)).await, Moved::Done { .. }));
    assert_eq!(world.begin(paced("2", 1, 1)).await, Moved::Later(750));
}

async fn keys_that_nobody_holds_are_moved_to_each_other_backend_in_turn(stage: Stage) {
    let (world, mut z) = stage.open(Rules::default(), &[("a", up()), ("b", up()), ("c", up())]).await;
    for key in ["1", "2", "3", "4"] {
        z.declare(&[declared(key, "a", 1, 1)]).await;
        z.declare(&[declared(key, "a", 1, 0)]).await;
    }
    world.pass(2000, &mut [&mut z]).await;
    for (key, home) in [("1", "b"), ("2", "c"), ("3", "b"), ("4", "c")] {
        world.begin(moving(key, Target::Elsewhere)).await;
        assert_eq!(world.home(key).await.0, home, "key {key}: a is avoided, and no load tells b from c");
    }
}

async fn a_flush_places_idle_keys_anew_that_were_placed_before(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(z.bind("anna", 0).await, "a");
    assert_eq!(z.bind("bob", 0).await, "b");
    let mut y = world.welcome("y").await;
    y.declare(&[declared("1", "a", 1, 3)]).await;
    world.pass(1000, &mut [&mut z]).await;
    z.set_table(&[("a", with_job(JobKind::Flush)), ("b", with_job(JobKind::Flush))]).await;
    assert_eq!(z.bind("anna", 1).await, "a", "not while she has a session");
    let (_, before) = world.home("bob").await;
    z.release("anna").await;
    z.release("bob").await;
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "b");
    z.release("anna").await;
    assert_eq!(z.bind("bob", 0).await, "b", "he is where he would go now");
    assert!(world.home("bob").await.1 > before, "which is noted, so that the flush comes to an end");
    assert_eq!(world.former_homes("bob").await, [("b".to_owned(), "placed".to_owned())]);
    let bob = world.home("bob").await;
    z.release("bob").await;
    z.bind("bob", 0).await;
    assert_eq!(world.home("bob").await, bob, "once");
}

async fn a_flush_that_began_ahead_of_the_clock_comes_to_an_end(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    for (key, backend) in [("anna", "a"), ("bob", "b"), ("carl", "a")] {
        assert_eq!(z.bind(key, 0).await, backend);
    }
    z.release("bob").await;
    // As a store's after a loss, whose table somebody with a clock ahead has brought back.
    let seen = world.census().await.table_version;
    world.order(Order::Lift { seen, to: seen + 3_600_000 }).await;
    let began = z.set_table(&[("a", with_job(JobKind::Flush)), ("b", with_job(JobKind::Flush))]).await;
    assert!(began > seen + 3_600_000);
    // An idle one, at the next login.
    assert_eq!(z.bind("bob", 0).await, "b");
    assert!(world.home("bob").await.1 >= began);
    // One that is moved.
    let mut y = world.welcome("y").await;
    y.declare(&[declared("1", "a", 1, 5)]).await;
    assert!(matches!(world.begin(moving("anna", Target::Anywhere)).await, Moved::Begun { .. }));
    z.release("anna").await;
    world.pass(Rules::default().kick_delay, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "b");
    assert!(world.home("anna").await.1 >= began);
    // One that is where it would go.
    y.release("1").await;
    let Moved::Done { backend, generation } = world.begin(moving("carl", Target::Anywhere)).await else {
        panic!("there is no better home")
    };
    assert!(backend.as_str() == "a" && generation.0 >= began, "{generation:?}");
}

async fn a_rebalance_takes_idle_keys_to_where_there_is_room(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(z.bind("anna", 0).await, "a");
    let mut y = world.welcome("y").await;
    y.declare(&[declared("1", "a", 1, 5), declared("2", "b", 1, 4)]).await;
    z.release("anna").await;
    z.set_table(&[("a", with_job(JobKind::Rebalance)), ("b", up())]).await;
    assert_eq!(z.bind("anna", 0).await, "b", "5 is not below half of 10, though below 1.25 times that");
    z.release("anna").await;
    y.declare(&[declared("2", "b", 1, 9)]).await;
    assert_eq!(z.bind("anna", 0).await, "b", "b has no such job");
}

async fn a_paused_job_is_none(stage: Stage) {
    for kind in [JobKind::Rebalance, JobKind::Flush] {
        let (world, mut z) = stage.pair().await;
        assert_eq!(z.bind("anna", 0).await, "a");
        let mut y = world.welcome("y").await;
        y.declare(&[declared("1", "a", 1, 9)]).await;
        z.release("anna").await;
        let mut row = with_job(kind);
        row.job.iter_mut().for_each(|job| job.paused = true);
        z.set_table(&[("a", row), ("b", up())]).await;
        assert_eq!(z.bind("anna", 0).await, "a", "{kind:?}");
    }
}

async fn an_evicted_backend_loses_idle_keys_at_their_next_claim(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    assert_eq!(z.bind("anna", 0).await, "a");
    let evicted = Row { state: BackendState::Drain, ..with_job(JobKind::Evict) };
    z.set_table(&[("a", evicted), ("b", up())]).await;
    assert_eq!(z.bind("anna", 1).await, "a");
    z.release("anna").await;
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn a_job_counts_from_when_it_began(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let since = |census: Census| -> BTreeSet<u64> {
        census.backends.into_iter().filter_map(|view| view.row.job).map(|job| job.since).collect()
    };
    let began = z.set_table(&[("a", with_job(JobKind::Flush)), ("b", up())]).await;
    world.pass(1000, &mut [&mut z]).await;
    let mut paused = with_job(JobKind::Flush);
    paused.job.iter_mut().for_each(|job| (job.paused, job.why) = (true, "errors at b".to_owned()));
    z.set_table(&[("a", paused), ("b", up())]).await;
    assert_eq!(since(world.census().await), [began].into());
    let other = z.set_table(&[("a", with_job(JobKind::Rebalance)), ("b", up())]).await;
    assert_eq!(since(world.census().await), [other].into());
    let view = world.census().await.backends.remove(0);
    assert_eq!(view.backend, BackendId::new("a"));
}

async fn one_of_many_moves_does_not_wait_for_a_dead_proxy(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut dead = world.welcome("dead").await;
    let home = dead.bind("anna", 0).await;
    assert_eq!(z.bind("anna", 0).await, home);
    assert_eq!(z.forget("dead").await, Reaped::More);
    assert_eq!(world.begin(paced("anna", 9, 0)).await, Moved::Busy);
    // Nobody was kicked for it, and who is there has company.
    assert_eq!(z.beat().await.kicks, []);
    assert_eq!(z.bind("anna", 1).await, home);
    assert_eq!(z.reap("dead").await, Reaped::Gone);
    assert!(matches!(world.begin(paced("anna", 9, 0)).await, Moved::Begun { .. }));
}

async fn one_of_many_moves_leaves_whom_an_operator_has_pinned_there(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let home = z.bind("anna", 0).await;
    let pin = Mark { key: Key::new("anna"), change: MarkChange::Pin(BackendId::new(&home)) };
    world.order(Order::Mark(pin)).await;
    let Moved::Done { backend, .. } = world.begin(paced("anna", 9, 0)).await else { panic!("it is moved") };
    assert_eq!((backend.as_str(), z.beat().await.kicks), (home.as_str(), vec![]));
    assert!(matches!(world.begin(moving("anna", Target::Elsewhere)).await, Moved::Begun { .. }), "one alone is moved");
}
