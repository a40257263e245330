//! Votes: which backends the fleet finds dead, and what follows for the table.

use homing::model::BackendId;
use homing::store::*;

use crate::stage::*;

contract!(
    more_than_half_of_the_names_call_a_backend_dead,
    a_name_used_twice_votes_once,
    votes_of_the_dead_fall_away,
    where_only_a_copy_is_nobody_votes,
    never_more_of_a_pool_are_dead_than_may_be,
    a_backend_that_comes_back_begins_slowly,
    a_vote_is_a_new_table_for_everybody,
    whether_a_backend_fails_is_not_for_tables_to_say,
    what_is_not_in_use_is_not_voted_on,
);

async fn vote(peer: &mut Peer, failing: &[&str]) -> Beat {
    let failing = Some(failing.iter().map(BackendId::new).collect());
    let beat = Heartbeat { asserted: true, table_version: u64::MAX >> 12, failing, ..Heartbeat::default() };
    match peer.call(Request::Heartbeat(beat)).await {
        Reply::Heartbeat(beat) => beat,
        other => panic!("heartbeat: {other:?}"),
    }
}

async fn failing(world: &World) -> Vec<String> {
    let backends = world.census().await.backends.into_iter();
    backends.filter(|view| view.row.failing).map(|view| view.backend.to_string()).collect()
}

async fn more_than_half_of_the_names_call_a_backend_dead(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let (mut y, mut x, mut w) = (world.welcome("y").await, world.welcome("x").await, world.welcome("w").await);
    assert_eq!(z.bind("anna", 0).await, "a");
    vote(&mut z, &["a"]).await;
    vote(&mut y, &["a"]).await;
    vote(&mut w, &[]).await;
    let census = world.census().await;
    assert_eq!((census.voters, census.backends[0].votes, census.backends[1].votes), (4, 2, 0));
    assert_eq!(failing(&world).await, [""; 0], "half is not more than half");
    vote(&mut x, &["a", "unheard-of"]).await;
    assert_eq!(failing(&world).await, ["a"]);
    assert_eq!(world.proxy("x").await.expect("x").failing, ["a", "unheard-of"].map(BackendId::new));
    assert_eq!(y.claim(claim("anna")).await, Home::Wait { ms: 250, reason: WaitReason::Closing }, "it counts as down");
    z.release("anna").await;
    assert_eq!(y.bind("anna", 0).await, "b");
    vote(&mut x, &[]).await;
    assert_eq!(failing(&world).await, [""; 0]);
}

async fn a_name_used_twice_votes_once(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let mut twin = world.peer("twin").await;
    let hello = Hello { acked: 0, errand: 0, name: "name of y".to_owned(), version: "2".to_owned() };
    let Reply::Hello(welcome) = twin.call(Request::Hello(hello)).await else { panic!("no welcome") };
    twin.run = welcome.run;
    vote(&mut y, &["a"]).await;
    vote(&mut twin, &["a"]).await;
    let census = world.census().await;
    assert_eq!((census.voters, census.backends[0].votes), (2, 1));
    vote(&mut z, &[]).await;
    assert_eq!(failing(&world).await, [""; 0]);
}

async fn votes_of_the_dead_fall_away(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let (mut y, mut x) = (world.welcome("y").await, world.welcome("x").await);
    vote(&mut y, &["a"]).await;
    vote(&mut x, &["a"]).await;
    assert_eq!(failing(&world).await, ["a"]);
    z.forget("x").await;
    vote(&mut z, &[]).await;
    assert_eq!((world.census().await.voters, failing(&world).await), (2, vec![]));
}

async fn where_only_a_copy_is_nobody_votes(stage: Stage) {
    let rows = [("a", Row { failing: true, ..up() }), ("b", up())];
    let (world, mut z) = stage.open(Rules::default(), &rows).await;
    let before = world.census().await.table_version;
    z.beat().await;
    assert_eq!((failing(&world).await, world.census().await.table_version), (vec!["a".to_owned()], before));
    vote(&mut z, &[]).await;
    assert_eq!(failing(&world).await, [""; 0], "here one vote is enough");
}

async fn never_more_of_a_pool_are_dead_than_may_be(stage: Stage) {
    let rows =
        [("a", up()), ("b", up()), ("c", up()), ("d", up()), ("gold", in_pool("gold")), ("gold2", in_pool("gold"))];
    let (world, mut z) = stage.open(Rules::default(), &rows).await;
    vote(&mut z, &["a", "b"]).await;
    assert_eq!(failing(&world).await, ["a", "b"]);
    vote(&mut z, &["a", "c", "d", "gold"]).await;
    assert_eq!(failing(&world).await, ["a", "gold"], "three of four: the network is the suspect; a was dead before");
    vote(&mut z, &["gold", "gold2"]).await;
    assert_eq!(failing(&world).await, ["gold"]);
}

async fn a_backend_that_comes_back_begins_slowly(stage: Stage) {
    let rules = Rules { slow_start: 100_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    vote(&mut z, &["a"]).await;
    world.pass(10_000, &mut [&mut z]).await;
    let since = world.server.ms();
    assert_eq!(vote(&mut z, &[]).await.table_version, since);
    let row = &world.census().await.backends[0].row;
    assert_eq!((row.failing, row.since), (false, since));
    let mut at_a = 0;
    for n in 0..20 {
        at_a += usize::from(z.bind(&format!("{n}"), 0).await == "a");
    }
    assert_eq!(at_a, 1, "a has 1 % of its share, but not nothing");
}

async fn a_vote_is_a_new_table_for_everybody(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let before = y.beat().await.table_version;
    vote(&mut z, &["a"]).await;
    assert_eq!(vote(&mut y, &["a"]).await.table_version, world.server.ms());
    let beat = z.heartbeat(true, before).await;
    let table = beat.table.expect("a newer one");
    assert!(table.rows[&BackendId::new("a")].failing && !table.rows[&BackendId::new("b")].failing);
    assert_eq!(vote(&mut y, &["a"]).await.table_version, table.version, "nothing new");
}

async fn whether_a_backend_fails_is_not_for_tables_to_say(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    vote(&mut z, &["a"]).await;
    z.set_table(&[("a", weighing(50)), ("b", Row { failing: true, ..up() })]).await;
    assert_eq!(failing(&world).await, ["a"]);
}

async fn what_is_not_in_use_is_not_voted_on(stage: Stage) {
    let rows = [("a", in_state(BackendState::Down)), ("b", up()), ("c", up())];
    let (world, mut z) = stage.open(Rules::default(), &rows).await;
    vote(&mut z, &["a", "b"]).await;
    assert_eq!(failing(&world).await, ["b"], "one of two, and a is down anyway");
}
