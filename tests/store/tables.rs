//! table: compare-and-set, and how a newer one reaches the others.

use homing::model::{Pool, Weight};
use homing::store::*;

use crate::stage::*;

contract!(
    a_table_replaces_the_one_it_was_made_from,
    a_table_that_comes_too_late_is_answered_the_one_in_force,
    a_heartbeat_brings_a_newer_table_and_only_a_newer_one,
    rows_come_back_as_they_were_given,
    an_empty_table_is_a_table,
);

async fn a_table_replaces_the_one_it_was_made_from(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let mut z = world.welcome("z").await;
    let first = z.table(0, &[("a", up())]).await.expect("first");
    assert_eq!(first, DAWN);
    let second = z.table(first, &[("b", up())]).await.expect("second");
    assert_eq!(second, DAWN + 1, "versions grow although the clock has not");
    let census = world.census().await;
    assert_eq!(census.table_version, second);
    assert_eq!(census.backends.len(), 1);
    assert_eq!(z.hello().await.table_version, second);
}

async fn a_table_that_comes_too_late_is_answered_the_one_in_force(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let mut z = world.welcome("z").await;
    let version = z.table(0, &[("a", up())]).await.expect("first");
    for based_on in [0, version - 1, version + 1] {
        let in_force = Table { version, rows: table(&[("a", up())]) };
        assert_eq!(z.table(based_on, &[("b", up())]).await, Err(in_force));
    }
}

async fn a_heartbeat_brings_a_newer_table_and_only_a_newer_one(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let mut z = world.welcome("z").await;
    assert_eq!(z.heartbeat(true, 0).await.table, None);
    let version = z.table(0, &[("a", up())]).await.expect("first");
    let beat = z.heartbeat(true, version - 1).await;
    assert_eq!((beat.table_version, beat.table), (version, Some(Table { version, rows: table(&[("a", up())]) })));
    let beat = z.heartbeat(true, version).await;
    assert_eq!((beat.table_version, beat.table), (version, None));
}

async fn rows_come_back_as_they_were_given(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let mut z = world.welcome("z").await;
    let odd = |weight, pool, state, since| Row {
        weight: Weight::new(weight).expect("weight"),
        pool: Pool::new(pool),
        state,
        since,
        ..Row::default()
    };
    let rows = [
        ("version", odd(0, "a pool of words", BackendState::Down, 0)),
        ("r:x", odd(10_000, "", BackendState::Drain, DAWN)),
        ("päng", odd(1, "ü", BackendState::Up, 1)),
    ];
    let version = z.table(0, &rows).await.expect("table");
    assert_eq!(z.heartbeat(true, 0).await.table, Some(Table { version, rows: table(&rows) }));
    assert_eq!(world.census().await.backends.len(), 3);
}

async fn an_empty_table_is_a_table(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    let version = z.set_table(&[]).await;
    let beat = z.heartbeat(true, version - 1).await;
    assert_eq!(beat.table, Some(Table { version, rows: table(&[]) }));
    assert_eq!(z.claim(claim("anna")).await, Home::NoBackend);
}
