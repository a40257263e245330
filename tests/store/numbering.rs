//! Rule 2: lost, stale, and what lies between.

use homing::model::Incarnation;
use homing::store::*;

use crate::stage::*;

contract!(
    a_call_of_an_unknown_incarnation_is_lost,
    a_call_under_another_run_is_lost,
    a_gap_in_the_numbers_is_lost,
    a_number_that_was_applied_is_stale,
    what_is_lost_or_stale_changes_nothing,
    calls_of_one_pipeline_are_applied_in_order,
    a_hello_may_skip_numbers,
    a_hello_that_was_overtaken_is_stale,
    a_hello_asks_to_assert_if_answered_calls_are_gone,
    a_hello_asks_again_until_a_heartbeat_says_that_it_was_done,
    an_orphan_is_lost_until_it_says_hello,
);

fn beat() -> Request {
    Request::Heartbeat(Heartbeat { asserted: false, table_version: 0, ..Heartbeat::default() })
}

async fn a_call_of_an_unknown_incarnation_is_lost(stage: Stage) {
    let (world, z) = stage.pair().await;
    let mut y = world.peer("y").await;
    y.run = z.run.clone();
    for request in [
        beat(),
        Request::Claim(claim("anna")),
        Request::Declare(vec![declared("anna", "a", 1, 1)]),
        Request::Held { cursor: "0".to_owned() },
        Request::Reap { orphan: Incarnation::new("z") },
        Request::Forget { dead: Incarnation::new("z") },
        Request::Table { based_on: 0, rows: table(&[]) },
    ] {
        assert_eq!(y.send(1, request).await, Reply::Lost);
    }
    assert_eq!(world.binding("anna").await, None);
    assert_eq!(world.proxy("y").await, None);
}

async fn a_call_under_another_run_is_lost(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    let run = std::mem::replace(&mut z.run, "another".to_owned());
    assert_eq!(z.send(z.seq + 1, beat()).await, Reply::Lost);
    z.run = run;
    assert!(matches!(z.call(beat()).await, Reply::Heartbeat(_)));
}

async fn a_gap_in_the_numbers_is_lost(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    assert_eq!(z.send(z.seq + 2, beat()).await, Reply::Lost);
    assert!(matches!(z.send(z.seq + 1, beat()).await, Reply::Heartbeat(_)));
}

async fn a_number_that_was_applied_is_stale(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    for seq in [z.seq, z.seq - 1, 1, 0] {
        assert_eq!(z.send(seq, beat()).await, Reply::Stale);
    }
}

async fn what_is_lost_or_stale_changes_nothing(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    let before = (world.census().await, world.binding("anna").await);
    for seq in [z.seq, z.seq + 2] {
        z.send(seq, Request::Claim(Claim { have: 7, ..claim("anna") })).await;
        z.send(seq, Request::Declare(vec![declared("anna", "b", u64::MAX >> 12, 9)])).await;
        z.send(seq, Request::Forget { dead: z.incarnation.clone() }).await;
        z.send(seq, Request::Table { based_on: before.0.table_version, rows: table(&[]) }).await;
        z.send(seq, beat()).await;
    }
    assert_eq!((world.census().await, world.binding("anna").await), before);
}

async fn calls_of_one_pipeline_are_applied_in_order(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut connection = world.store.connect(0).await.expect("connection");
    let numbered =
        |offset, request| Call { incarnation: z.incarnation.clone(), run: z.run.clone(), seq: z.seq + offset, request };
    let calls = [
        numbered(1, Request::Claim(claim("anna"))),
        numbered(2, Request::Claim(Claim { have: 1, ..claim("anna") })),
        numbered(2, Request::Claim(Claim { have: 2, ..claim("anna") })),
        numbered(4, Request::Claim(Claim { have: 3, ..claim("anna") })),
        numbered(3, Request::Declare(vec![declared("anna", "", 0, 0)])),
    ];
    let replies = connection.exchange(&calls).await.expect("answers");
    assert!(matches!(replies[..2], [Reply::Claim(Home::Bound { .. }), Reply::Claim(Home::Bound { .. })]));
    assert_eq!(replies[2..], [Reply::Stale, Reply::Lost, Reply::Declare(vec![])]);
    assert_eq!(connection.exchange(&[]).await.expect("nothing"), []);
    z.seq += 3;
    z.beat().await;
}

async fn a_hello_may_skip_numbers(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    z.seq += 40;
    assert!(!z.hello().await.assert, "calls that were never answered are no loss");
    z.beat().await;
}

async fn a_hello_that_was_overtaken_is_stale(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    let hello = Hello { acked: 0, errand: 0, name: "late".to_owned(), version: String::new() };
    assert_eq!(z.send(z.seq, Request::Hello(hello)).await, Reply::Stale);
}

async fn a_hello_asks_to_assert_if_answered_calls_are_gone(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let copy = world.save().await;
    z.bind("anna", 0).await;
    world.restore(&copy).await;
    assert_eq!(z.call(beat()).await, Reply::Lost, "the call before it is gone");
    let welcome = z.hello().await;
    assert!(welcome.assert);
    assert_eq!(welcome.recovering_ms, 0, "only this one has lost something: nobody else waits");
}

async fn a_hello_asks_again_until_a_heartbeat_says_that_it_was_done(stage: Stage) {
    let (world, _z) = stage.pair().await;
    let mut y = world.peer("y").await;
    assert!(y.hello().await.assert, "a new one knows nothing of what the store holds for it");
    y.acked = 0; // as if the answer had not come
    assert!(y.hello().await.assert);
    y.heartbeat(false, 0).await;
    assert!(y.hello().await.assert);
    y.heartbeat(true, 0).await;
    assert!(!y.hello().await.assert);
}

async fn an_orphan_is_lost_until_it_says_hello(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    world.pass(15_000, &mut [&mut z]).await;
    assert_eq!(z.reap("y").await, Reaped::Orphan);
    assert_eq!(y.call(beat()).await, Reply::Lost);
    let welcome = y.hello().await;
    assert!(!welcome.assert, "nothing was taken apart");
    assert_eq!(welcome.peers, 1);
    y.beat().await;
}
