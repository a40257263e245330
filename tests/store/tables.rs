//! table: compare-and-set, and how a newer one reaches the others.

use homing::model::{BackendId, Pool, Weight};
use homing::store::*;

use crate::stage::*;

contract!(
    a_table_replaces_the_one_it_was_made_from,
    a_table_that_comes_too_late_is_answered_the_one_in_force,
    a_heartbeat_brings_a_newer_table_and_only_a_newer_one,
    rows_come_back_as_they_were_given,
    an_empty_table_is_a_table,
    an_order_replaces_the_table_as_a_call_does,
    while_a_recovery_window_is_open_the_table_is_given_back_and_not_changed_by_orders,
    a_copy_is_taken_if_it_is_newer,
    since_when_is_of_the_shard_that_has_the_copy,
    a_copy_for_a_shard_that_has_none_counts_by_the_clock_of_that_shard,
    a_version_is_lifted_if_it_is_still_the_one_that_was_seen,
    a_row_that_cannot_be_read_keeps_its_users_and_gets_no_others,
    a_row_that_cannot_be_read_outlives_votes_and_changes_of_the_others,
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
        others: (since == 1).then(|| ("zone".to_owned(), "ö%d".into())).into_iter().collect(),
        unread: None,
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
    let mut z = world.welcome("z").await;
    world.pass(4000, &mut [&mut z]).await;
    let then = DAWN + 4000;
    assert_eq!(world.order(order(0, &[("a", up())])).await, Outcome::Table(Ok(then)));
    assert_eq!(world.order(order(then, &[("b", up())])).await, Outcome::Table(Ok(then + 1)));
    let in_force = Table { version: then + 1, rows: table(&[("b", Row { since: then + 1, ..up() })]) };
    assert_eq!(world.order(order(then, &[("c", up())])).await, Outcome::Table(Err(in_force)));
}

async fn while_a_recovery_window_is_open_the_table_is_given_back_and_not_changed_by_orders(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let version = world.census().await.table_version;
    let order = |based_on| Order::Table { based_on, rows: table(&[("c", up())]) };
    world.server.restart("run2");
    z.hello().await;
    assert_eq!(world.order(order(version)).await, Outcome::Recovering(4000));
    let given_back = z.table(version, &[("a", up())]).await.expect("who had it may bring it");
    world.server.set_ms(world.server.ms() + 4000);
    z.heartbeat(false, given_back).await;
    world.server.set_ms(world.server.ms() + 2000);
    assert_eq!(world.order(order(given_back)).await, Outcome::Recovering(1), "for who has yet to say that it has");
    z.beat().await;
    assert!(matches!(world.order(order(given_back)).await, Outcome::Table(Ok(_))));
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

async fn a_copy_for_a_shard_that_has_none_counts_by_the_clock_of_that_shard(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let mut z = world.welcome("z").await;
    world.pass(5000, &mut [&mut z]).await;
    let now = world.server.ms();
    let flush = |since| Row {
        since,
        job: Some(Job { kind: JobKind::Flush, since, paused: false, why: String::new() }),
        ..up()
    };
    // The first shard's clock is a day ahead of this one's, or as much behind.
    let rows = [("ahead", flush(now + 86_400_000)), ("behind", flush(now - 86_400_000)), ("ever", up())];
    world.order(Order::Copy(Table { version: now + 86_400_001, rows: table(&rows) })).await;
    let rows: Vec<Row> = world.census().await.backends.into_iter().map(|view| view.row).collect();
    assert_eq!(rows.iter().map(|row| row.since).collect::<Vec<_>>(), [now, now - 86_400_000, 0]);
    let jobs: Vec<_> = rows.iter().filter_map(|row| row.job.as_ref()).map(|job| job.since).collect();
    assert_eq!(jobs, [now, now], "whoever is placed from now on was not placed before the flush");
    world.pass(1, &mut [&mut z]).await;
    z.bind("anna", 0).await;
    assert!(world.home("anna").await.1 > jobs[0]);
}

async fn a_version_is_lifted_if_it_is_still_the_one_that_was_seen(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let seen = world.census().await.table_version;
    let lift = |seen, to| Order::Lift { seen, to };
    assert_eq!(world.order(lift(seen, seen + 100)).await, Outcome::Lifted(true));
    let beat = z.heartbeat(true, seen).await;
    let rows = table(&[("a", up()), ("b", up())]);
    assert_eq!(beat.table, Some(Table { version: seen + 100, rows }), "and nothing else has changed");
    let drained = in_state(BackendState::Drain);
    let version = z.table(seen + 100, &[("a", up()), ("b", drained)]).await.expect("based on the lifted version");
    assert!(version > seen + 100);
    for (from, to) in [(seen, version + 100), (seen + 100, version + 100), (version, version - 1), (version, version)] {
        assert_eq!(world.order(lift(from, to)).await, Outcome::Lifted(false), "{from} to {to}");
    }
    let census = world.census().await;
    assert_eq!((census.table_version, census.backends[1].row.state), (version, BackendState::Drain));
}

const STRANGE: &str = "v9 {\"asleep\":\"until noon\"}";

async fn a_row_that_cannot_be_read_keeps_its_users_and_gets_no_others(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!((z.bind("anna", 0).await, z.bind("bert", 0).await), ("a".to_owned(), "b".to_owned()));
    z.set_table(&[("a", Row::unread(STRANGE)), ("b", up())]).await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.bind("anna", 0).await, "a", "she has a session there");
    for n in 0..5 {
        assert_eq!(y.bind(&format!("new{n}"), 0).await, "b");
    }
    z.release("anna").await;
    y.release("anna").await;
    assert_eq!(y.bind("anna", 0).await, "b", "as if it were drained");
    let view = world.census().await.backends.remove(0);
    assert_eq!((view.row, view.sessions), (Row::unread(STRANGE), 0));
}

async fn a_row_that_cannot_be_read_outlives_votes_and_changes_of_the_others(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let version = z.set_table(&[("a", Row::unread(STRANGE)), ("b", up()), ("c", up())]).await;
    let failing = Some(["a", "b"].map(BackendId::new).to_vec());
    let beat = Heartbeat { asserted: true, table_version: version, failing, ..Heartbeat::default() };
    for _ in 0..3 {
        z.call(Request::Heartbeat(beat.clone())).await;
    }
    let census = world.census().await;
    assert_eq!((&census.backends[0].row, census.backends[1].row.failing), (&Row::unread(STRANGE), true));
    assert_eq!(census.table_version, version + 1, "the votes have changed one row, once");
    let mut rows: Vec<_> = census.backends.into_iter().map(|view| (view.backend.to_string(), view.row)).collect();
    rows[2].1.state = BackendState::Drain;
    let rows: Vec<_> = rows.iter().map(|(name, row)| (name.as_str(), row.clone())).collect();
    let version = z.set_table(&rows).await;
    assert_eq!(z.heartbeat(true, 0).await.table.expect("table").rows[&BackendId::new("a")], Row::unread(STRANGE));
    world.order(Order::Copy(Table { version: version + 5, rows: table(&rows) })).await;
    assert_eq!(world.census().await.backends[0].row, Row::unread(STRANGE));
}

/// What a newer version has written, which no proxy of this one could write.
#[tokio::test]
async fn what_a_newer_version_wrote_into_redis_is_carried_over_as_it_is() {
    let (mut world, mut z) = Stage::Redis.pair().await;
    let Back::Redis(namespace) = &mut world.back else { panic!("another store") };
    let name = namespace.keys().await.into_iter().find(|key| key.ends_with(":backends")).expect("the table");
    let zoned = "100 up 0 0 0 none 0 0 7 default{\"state_set\":true,\"zone\":{\"name\":\"north\"}}";
    let written = [("r:c", STRANGE), ("r:d", zoned), ("zones", "north south")];
    for (field, value) in written {
        namespace.ask::<u64>(::redis::cmd("HSET").arg(&name).arg(field).arg(value)).await;
    }
    let table = z.heartbeat(true, 0).await.table.expect("read all the same");
    assert_eq!(table.rows[&BackendId::new("c")], Row::unread(STRANGE));
    let mut rows = table.rows;
    rows.get_mut(&BackendId::new("a")).expect("a").state = BackendState::Drain;
    rows.get_mut(&BackendId::new("d")).expect("d").weight = Weight::new(7).expect("weight");
    rows.remove(&BackendId::new("b"));
    let late = world.order(Order::Table { based_on: 1, rows: rows.clone() }).await;
    assert!(matches!(late, Outcome::Table(Err(in_force)) if in_force.rows[&BackendId::new("c")].unread.is_some()));
    assert!(matches!(world.order(Order::Table { based_on: table.version, rows }).await, Outcome::Table(Ok(_))));
    let views = world.census().await.backends;
    let names: Vec<_> = views.iter().map(|view| (view.backend.as_str(), view.row.condition())).collect();
    assert_eq!(names, [("a", "drain"), ("c", "unreadable"), ("d", "up")]);
    let Back::Redis(namespace) = &mut world.back else { panic!("another store") };
    let heavier = zoned.replacen("100", "7", 1);
    for (field, value) in [written[0], ("r:d", &heavier), written[2]] {
        assert_eq!(namespace.ask::<String>(::redis::cmd("HGET").arg(&name).arg(field)).await, value);
    }
}
