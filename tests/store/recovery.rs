//! The recovery window: what happens when the store has lost its memory, some of it, or its run.

use homing::model::BackendId;
use homing::store::*;

use crate::stage::*;

contract!(
    an_empty_store_opens_a_window_and_claims_wait_for_it,
    after_a_flush_everybody_is_lost_and_a_window_opens,
    claims_wait_for_those_who_said_hello_until_they_have_asserted,
    claims_do_not_wait_for_ever,
    claims_do_not_wait_for_one_whose_lease_is_over,
    joins_by_declaration_go_on_in_the_window,
    a_new_proxy_outside_the_window_makes_nobody_wait,
    another_run_opens_a_window_and_renews_everybody,
    in_another_run_everybody_asserts,
    a_second_hello_does_not_open_the_window_again,
    what_was_rolled_back_is_declared_anew,
    after_amnesia_the_sums_are_those_of_the_declarations,
);

fn recovering(home: &Home) -> u64 {
    match home {
        Home::Wait { ms, reason: WaitReason::Recovery } => *ms,
        other => panic!("does not wait: {other:?}"),
    }
}

const TABLE: [&str; 2] = ["a", "b"];

async fn bring_table(peer: &mut Peer) {
    peer.table(0, &TABLE.map(|name| (name, up()))).await.expect("table");
}

async fn an_empty_store_opens_a_window_and_claims_wait_for_it(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    assert_eq!(world.census().await, Census::default());
    let mut z = world.peer("z").await;
    let welcome = z.hello().await;
    assert_eq!((welcome.assert, welcome.recovering_ms, welcome.table_version, welcome.peers), (true, 4000, 0, 0));
    assert_eq!(z.beat().await.recovering_ms, 4000);
    bring_table(&mut z).await;
    world.pass(1000, &mut [&mut z]).await;
    assert_eq!(recovering(&z.claim(claim("anna")).await), 3000);
    assert_eq!(world.census().await.recovering_ms, Some(3000));
    world.pass(2900, &mut [&mut z]).await;
    assert_eq!(recovering(&z.claim(claim("anna")).await), 250, "nobody is told to ask faster than that");
    assert_eq!(world.binding("anna").await, None);
    world.pass(100, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "a");
    assert_eq!(world.census().await.recovering_ms, None);
}

async fn after_a_flush_everybody_is_lost_and_a_window_opens(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.bind("anna", 0).await;
    world.flush().await;
    assert_eq!(world.census().await, Census::default());
    let beat = Request::Heartbeat(Heartbeat { asserted: true, table_version: 0, ..Heartbeat::default() });
    assert_eq!(z.call(beat.clone()).await, Reply::Lost);
    let welcome = z.hello().await;
    assert_eq!((welcome.assert, welcome.recovering_ms, welcome.table_version), (true, 4000, 0));
    assert_eq!(y.call(beat).await, Reply::Lost, "although run and epoch are the same");
    assert!(y.hello().await.assert);
    assert_eq!(world.census().await.epoch, 1);
}

async fn claims_wait_for_those_who_said_hello_until_they_have_asserted(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    world.flush().await;
    z.hello().await;
    y.hello().await;
    bring_table(&mut z).await;
    z.beat().await;
    for _ in 0..10 {
        world.pass(1000, &mut [&mut z]).await;
        y.heartbeat(false, 0).await;
    }
    assert_eq!(z.beat().await.recovering_ms, 1);
    assert_eq!(recovering(&z.claim(claim("anna")).await), 250);
    assert_eq!(world.census().await.recovering_ms, Some(1));
    assert_eq!(y.heartbeat(true, 0).await.recovering_ms, 0);
    assert_eq!(z.bind("anna", 0).await, "a");
}

async fn claims_do_not_wait_for_ever(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    world.flush().await;
    z.hello().await;
    y.hello().await;
    bring_table(&mut z).await;
    let end = world.server.ms() + 60_000;
    while world.server.ms() + 1000 < end {
        world.pass(1000, &mut [&mut z]).await;
        y.heartbeat(false, 0).await;
    }
    assert_eq!(recovering(&z.claim(claim("anna")).await), 250);
    world.pass(1000, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "a");
    assert!(y.hello().await.assert, "it still owes");
    assert_eq!(z.bind("bob", 0).await, "b", "but it does not open the window again");
}

async fn claims_do_not_wait_for_one_whose_lease_is_over(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    world.flush().await;
    z.hello().await;
    y.hello().await;
    bring_table(&mut z).await;
    world.pass(15_000, &mut [&mut z]).await;
    recovering(&z.claim(claim("anna")).await);
    assert_eq!(z.reap("y").await, Reaped::Orphan);
    assert_eq!(z.bind("anna", 0).await, "a");
}

async fn joins_by_declaration_go_on_in_the_window(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    world.flush().await;
    z.hello().await;
    assert_eq!(z.declare(&[declared("anna", "b", 42, 2)]).await, []);
    assert_eq!(world.binding("anna").await.expect("bound").sessions, 2);
    recovering(&z.claim(Claim { have: 1, ..claim("anna") }).await);
    assert_eq!(world.binding("anna").await.expect("bound").sessions, 1, "a claim that waits still says what it has");
    bring_table(&mut z).await;
    world.pass(4000, &mut [&mut z]).await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.bind("anna", 0).await, "b");
}

async fn a_new_proxy_outside_the_window_makes_nobody_wait(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.peer("y").await;
    assert!(y.hello().await.assert);
    assert_eq!(z.bind("anna", 0).await, "a");
    assert_eq!(z.beat().await.recovering_ms, 0);
}

async fn another_run_opens_a_window_and_renews_everybody(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    for name in ["x", "y"] {
        world.welcome(name).await.bind(name, 0).await;
    }
    world.pass(10_000, &mut [&mut z]).await;
    assert_eq!(z.forget("x").await, Reaped::More);
    world.server.restart("run2");
    let welcome = z.hello().await;
    assert_eq!(welcome.run, "run2");
    assert_eq!((welcome.assert, welcome.recovering_ms, welcome.peers), (true, 4000, 1));
    assert_eq!(welcome.table_version, world.census().await.table_version);
    assert_eq!(world.census().await.epoch, 2);
    assert_eq!(world.proxy("y").await.expect("y").left_ms, 15_000);
    assert_eq!(world.proxy("x").await.expect("x").left_ms, 3_615_000, "what made it an orphan may have been undone");
    assert_eq!(world.binding("y").await.expect("bound").sessions, 1);
    recovering(&z.claim(claim("y")).await);
}

async fn in_another_run_everybody_asserts(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    world.server.restart("run2");
    z.hello().await;
    let beat = Request::Heartbeat(Heartbeat { asserted: true, table_version: 0, ..Heartbeat::default() });
    assert_eq!(y.call(beat.clone()).await, Reply::Lost);
    y.run = "run2".to_owned();
    assert_eq!(y.call(beat).await, Reply::Lost, "its epoch is over");
    assert!(y.hello().await.assert);
    y.beat().await;
    assert!(!y.hello().await.assert);
}

async fn a_second_hello_does_not_open_the_window_again(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    world.flush().await;
    z.hello().await;
    world.pass(3000, &mut [&mut z]).await;
    assert_eq!(z.hello().await.recovering_ms, 1000);
    assert_eq!(world.welcome("y").await.hello().await.recovering_ms, 1000);
    assert_eq!(world.census().await.epoch, 1);
}

async fn what_was_rolled_back_is_declared_anew(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    z.bind("anna", 0).await;
    let copy = world.save().await;
    y.bind("bob", 0).await;
    z.release("anna").await;
    world.restore(&copy).await;
    world.server.restart("run2");
    assert!(z.hello().await.assert);
    assert!(y.hello().await.assert);
    assert_eq!(world.binding("bob").await, None);
    assert_eq!(z.held().await.len(), 1, "what its ledger lacks");
    z.release("anna").await;
    y.declare(&[declared("bob", "b", 42, 1)]).await;
    assert_eq!((world.load("a").await, world.load("b").await), (0, 1));
    world.pass(4000, &mut [&mut z, &mut y]).await;
    assert_eq!(z.bind("bob", 0).await, "b");
}

async fn after_amnesia_the_sums_are_those_of_the_declarations(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    for n in 0..20 {
        z.bind(&format!("z{n}"), 0).await;
        y.bind(&format!("y{n}"), 0).await;
    }
    world.flush().await;
    for peer in [&mut z, &mut y] {
        peer.hello().await;
        let name = peer.incarnation.to_string();
        let lines: Vec<Declared> = (0..20).map(|n| declared(&format!("{name}{n}"), TABLE[n % 2], 42, 1)).collect();
        assert_eq!(peer.declare(&lines).await, []);
        peer.beat().await;
    }
    bring_table(&mut z).await;
    for backend in TABLE {
        assert_eq!((world.load(backend).await, world.users(backend).await), (20, 20));
    }
    let sessions = world.proxy("y").await.expect("y").sessions;
    assert_eq!(sessions, TABLE.map(|name| (BackendId::new(name), 10)));
}
