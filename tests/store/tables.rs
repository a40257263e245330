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
    an_order_replaces_the_table_as_a_call_does,
    a_copy_is_taken_if_it_is_newer,
    since_when_is_of_the_shard_that_has_the_copy,
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
        failing: since > 1,
        max_sessions: weight,
        weight_set: since > 0,
        state_set: since == 1,
        added: (since == 1).then(|| "{ host = \"b\\u00e4\" }".to_owned()),
        job: (since > 0).then(|| Job {
            kind: JobKind::Evict,
            since,
            paused: since == 1,
            why: "it \"fails\": \u{1}%s".to_owned(),
        }),
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

async fn an_order_replaces_the_table_as_a_call_does(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let order = |based_on, rows: &[(&str, Row)]| Order::Table { based_on, rows: table(rows) };
    assert_eq!(world.order(order(0, &[("a", up())])).await, Outcome::Recovering(4000), "it has no memory");
    world.welcome("z").await;
    assert_eq!(world.order(order(0, &[("a", up())])).await, Outcome::Table(Ok(DAWN)));
    assert_eq!(world.order(order(DAWN, &[("b", up())])).await, Outcome::Table(Ok(DAWN + 1)));
    let in_force = Table { version: DAWN + 1, rows: table(&[("b", Row { since: DAWN + 1, ..up() })]) };
    assert_eq!(world.order(order(DAWN, &[("c", up())])).await, Outcome::Table(Err(in_force)));
}

async fn a_copy_is_taken_if_it_is_newer(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let version = world.census().await.table_version;
    let copy = |version, rows: &[(&str, Row)]| Order::Copy(Table { version, rows: table(rows) });
    for old in [version - 1, version] {
        assert_eq!(world.order(copy(old, &[("c", up())])).await, Outcome::Done);
    }
    assert_eq!(world.census().await.backends.len(), 2);
    let failing = Row { failing: true, ..up() };
    world.order(copy(version + 5, &[("c", failing)])).await;
    let census = world.census().await;
    assert_eq!((census.table_version, census.backends.len(), census.backends[0].row.failing), (version + 5, 1, true));
    assert_eq!(z.claim(claim("anna")).await, Home::NoBackend);
}

async fn since_when_is_of_the_shard_that_has_the_copy(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    world.pass(5000, &mut [&mut z]).await;
    let (now, version) = (world.server.ms(), world.census().await.table_version);
    let job = |since| Some(Job { kind: JobKind::Flush, since, paused: false, why: String::new() });
    let rows =
        [("a", Row { since: 77, job: job(78), ..up() }), ("b", Row { since: 79, ..in_state(BackendState::Drain) })];
    world.order(Order::Copy(Table { version: version + 1, rows: table(&rows) })).await;
    let rows: Vec<Row> = world.census().await.backends.into_iter().map(|view| view.row).collect();
    assert_eq!((rows[0].since, rows[1].since), (0, now), "the state of a is what it was, that of b is new");
    assert_eq!(rows[0].job.as_ref().map(|job| job.since), Some(now));
}
