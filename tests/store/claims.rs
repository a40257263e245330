//! claim: where a key goes, stays and counts.

use homing::model::{BackendId, Pool};
use homing::store::*;

use crate::stage::*;

contract!(
    first_session_of_a_key_binds_it,
    second_session_of_a_key_joins_its_backend,
    a_duplicate_claim_counts_once,
    an_idle_key_keeps_its_home_until_user_expire,
    a_key_keeps_its_home_afterwards_while_the_load_there_is_fair,
    a_key_is_forgotten_after_remember,
    a_key_of_another_pool_is_placed_anew_once_it_is_idle,
    a_pin_decides_for_an_idle_key_but_not_for_a_live_one,
    a_pin_that_is_down_or_unknown_gives_no_backend,
    a_limit_counts_sessions_of_the_whole_fleet_but_not_those_of_orphans,
    a_drained_backend_keeps_live_keys_and_loses_idle_ones,
    a_key_at_a_dead_backend_waits_for_those_who_live,
    a_key_at_a_dead_backend_leaves_orphans_behind,
    a_strict_store_waits_for_orphans_too,
    a_backend_that_left_the_table_is_as_good_as_down,
    an_unproven_binding_is_forgotten_with_its_last_session,
    an_unproven_binding_is_kept_once_a_login_was_proven,
    an_unproven_claim_of_a_known_key_does_not_endanger_it,
    without_a_table_there_is_no_backend_and_nothing_is_taken_apart,
);

fn bound(home: &Home) -> (&str, u64) {
    match home {
        Home::Bound { backend, generation } => (backend.as_str(), generation.0),
        other => panic!("not bound: {other:?}"),
    }
}

const CLOSING: Home = Home::Wait { ms: 250, reason: WaitReason::Closing };

async fn first_session_of_a_key_binds_it(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(world.binding("anna").await, None);
    let home = z.claim(claim("anna")).await;
    assert_eq!(bound(&home), ("a", world.server.ms()));
    let binding = world.binding("anna").await.expect("bound");
    assert_eq!(binding.holders, [(z.incarnation.clone(), 1)]);
    assert_eq!((binding.sessions, binding.idle_ms, binding.unproven), (1, None, false));
    assert_eq!((world.load("a").await, world.users("a").await), (1, 1));
    assert_eq!(world.proxy("z").await.expect("z").sessions, [(BackendId::new("a"), 1)]);
}

async fn second_session_of_a_key_joins_its_backend(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let first = z.claim(claim("anna")).await;
    assert_eq!(z.bind("other", 0).await, "b");
    world.pass(5000, &mut [&mut z]).await;
    assert_eq!(y.claim(claim("anna")).await, first);
    assert_eq!(z.claim(Claim { have: 1, ..claim("anna") }).await, first);
    assert_eq!((world.load("a").await, world.users("a").await), (3, 1));
    assert_eq!(world.binding("anna").await.expect("bound").sessions, 3);
}

async fn a_duplicate_claim_counts_once(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let first = z.claim(claim("anna")).await;
    assert_eq!(z.send(z.seq, Request::Claim(claim("anna"))).await, Reply::Stale);
    assert_eq!(z.claim(claim("anna")).await, first, "under a new number it is counted by the same absolute number");
    assert_eq!(world.load("a").await, 1);
}

async fn an_idle_key_keeps_its_home_until_user_expire(stage: Stage) {
    let rules = Rules { user_expire: 20_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    let first = z.claim(claim("anna")).await;
    for key in ["1", "2", "3", "4"] {
        z.claim(Claim { pin: Some(BackendId::new("a")), ..claim(key) }).await;
    }
    z.release("anna").await;
    world.pass(19_999, &mut [&mut z]).await;
    assert_eq!(world.binding("anna").await.expect("remembered").idle_ms, Some(19_999));
    assert_eq!(z.claim(claim("anna")).await, first, "although it is the fuller one");
    assert_eq!(world.binding("anna").await.expect("bound").idle_ms, None);
    z.release("anna").await;
    world.pass(20_000, &mut [&mut z]).await;
    let second = z.claim(claim("anna")).await;
    assert_eq!(bound(&second).0, "b");
    assert!(bound(&second).1 > bound(&first).1, "a new home is a new generation");
}

async fn a_key_keeps_its_home_afterwards_while_the_load_there_is_fair(stage: Stage) {
    let rules = Rules { user_expire: 10_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    let at = |backend: &str, key: &str| Claim { pin: Some(BackendId::new(backend)), ..claim(key) };
    let first = z.claim(claim("anna")).await;
    z.release("anna").await;
    // Of 8 + 1 sessions 4.5 are fair, and 5.625 are bearable.
    for key in ["1", "2", "3", "4", "5"] {
        z.claim(at("a", key)).await;
    }
    for key in ["6", "7", "8"] {
        z.claim(at("b", key)).await;
    }
    world.pass(10_000, &mut [&mut z]).await;
    assert_eq!(z.claim(claim("anna")).await, first, "5 < 5.625");
    z.release("anna").await;
    for key in ["9", "10"] {
        z.claim(at("a", key)).await;
    }
    world.pass(10_000, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "b", "7 is not below 1.25 times half of 11");
}

async fn a_key_is_forgotten_after_remember(stage: Stage) {
    let rules = Rules { user_expire: 10_000, remember: 30_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    z.bind("anna", 0).await;
    z.release("anna").await;
    world.pass(29_999, &mut [&mut z]).await;
    assert!(world.binding("anna").await.is_some());
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(world.binding("anna").await, None);
    z.declare(&[declared("anna", "b", 7, 1)]).await;
    assert_eq!(world.binding("anna").await.expect("bound").backend, Some(BackendId::new("b")));
}

async fn a_key_of_another_pool_is_placed_anew_once_it_is_idle(stage: Stage) {
    let (_world, mut z) = stage.open(Rules::default(), &[("a", up()), ("p", in_pool("gold"))]).await;
    let gold = |have| Claim { pool: Pool::new("gold"), have, ..claim("anna") };
    assert_eq!(z.bind("anna", 0).await, "a");
    assert_eq!(bound(&z.claim(gold(1)).await).0, "a", "two homes would be worse than the wrong pool");
    z.release("anna").await;
    assert_eq!(bound(&z.claim(gold(0)).await).0, "p");
    assert_eq!(z.claim(Claim { pool: Pool::new("none"), ..claim("bob") }).await, Home::NoBackend);
}

async fn a_pin_decides_for_an_idle_key_but_not_for_a_live_one(stage: Stage) {
    let (_world, mut z) = stage.open(Rules::default(), &[("a", up()), ("b", up()), ("c", weighing(0))]).await;
    let pinned = |pin: &str, have| Claim { pin: Some(BackendId::new(pin)), have, ..claim("anna") };
    assert_eq!(bound(&z.claim(pinned("c", 0)).await).0, "c", "a weight of 0 binds nobody but those who are pinned");
    assert_eq!(bound(&z.claim(pinned("b", 1)).await).0, "c");
    z.release("anna").await;
    assert_eq!(bound(&z.claim(pinned("b", 0)).await).0, "b");
    z.release("anna").await;
    let again = z.claim(pinned("b", 0)).await;
    z.release("anna").await;
    assert_eq!(z.claim(pinned("b", 0)).await, again, "the same home is the same generation");
}

async fn a_pin_that_is_down_or_unknown_gives_no_backend(stage: Stage) {
    let table = [("a", up()), ("d", in_state(BackendState::Down)), ("e", in_state(BackendState::Drain))];
    let (world, mut z) = stage.open(Rules::default(), &table).await;
    for (pin, takes) in [("d", false), ("unknown", false), ("e", true)] {
        let home = z.claim(Claim { pin: Some(BackendId::new(pin)), ..claim(pin) }).await;
        assert_eq!(matches!(home, Home::Bound { .. }), takes, "{pin}: {home:?}");
        assert_eq!(world.binding(pin).await.is_some(), takes);
    }
}

async fn a_limit_counts_sessions_of_the_whole_fleet_but_not_those_of_orphans(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let limited = |have| Claim { have, limit: 3, ..claim("anna") };
    assert_eq!(y.bind("anna", 1).await, "a");
    z.claim(limited(0)).await;
    assert_eq!(z.claim(limited(1)).await, Home::Limit);
    assert_eq!(world.binding("anna").await.expect("bound").sessions, 3);
    assert_eq!(z.claim(limited(0)).await, z.claim(limited(0)).await, "what it has counts, not what it had");
    world.pass(15_000, &mut [&mut z]).await;
    assert_eq!(z.claim(limited(1)).await, Home::Limit, "until the orphan is reaped it counts");
    assert_eq!(z.reap("y").await, Reaped::Orphan);
    assert_eq!(bound(&z.claim(limited(1)).await).0, "a");
    assert_eq!(z.claim(Claim { limit: 2, ..limited(2) }).await, Home::Limit);
    assert_eq!(world.binding("anna").await.expect("bound").sessions, 4, "2 here, 2 of the orphan");
}

async fn a_drained_backend_keeps_live_keys_and_loses_idle_ones(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    assert_eq!(z.bind("anna", 0).await, "a");
    z.set_table(&[("a", in_state(BackendState::Drain)), ("b", up())]).await;
    assert_eq!(y.bind("anna", 0).await, "a");
    assert_eq!(z.bind("bob", 0).await, "b");
    assert_eq!(z.bind("carl", 0).await, "b");
    z.release("anna").await;
    assert_eq!(z.bind("anna", 0).await, "a", "y is still there");
    z.release("anna").await;
    y.release("anna").await;
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn a_key_at_a_dead_backend_waits_for_those_who_live(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.bind("anna", 0).await, "a");
    z.set_table(&[("a", in_state(BackendState::Down)), ("b", up())]).await;
    assert_eq!(z.claim(claim("anna")).await, CLOSING);
    assert_eq!(y.claim(Claim { have: 1, ..claim("anna") }).await, CLOSING, "also while the own ones are closing");
    assert_eq!(world.binding("anna").await.expect("bound").holders, [(y.incarnation.clone(), 1)]);
    assert_eq!(y.claim(claim("anna")).await, z.claim(claim("anna")).await, "the claim itself said that it has none");
    assert_eq!(world.binding("anna").await.expect("bound").backend, Some(BackendId::new("b")));
    assert_eq!((world.load("a").await, world.load("b").await, world.users("b").await), (0, 2, 1));
}

async fn a_key_at_a_dead_backend_leaves_orphans_behind(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.bind("anna", 0).await, "a");
    world.pass(15_000, &mut [&mut z]).await;
    z.set_table(&[("a", in_state(BackendState::Down))]).await;
    assert_eq!(z.claim(claim("anna")).await, CLOSING, "its lease is over, but nobody has made it an orphan");
    assert_eq!(z.reap("y").await, Reaped::Orphan);
    assert_eq!(z.claim(claim("anna")).await, Home::NoBackend);
    assert_eq!(world.binding("anna").await.expect("bound").sessions, 1, "nothing is taken without a place to go");
    z.set_table(&[("a", in_state(BackendState::Down)), ("b", up())]).await;
    let home = z.claim(claim("anna")).await;
    assert_eq!(bound(&home).0, "b");
    assert_eq!(world.binding("anna").await.expect("bound").holders, [(z.incarnation.clone(), 1)]);
    assert!(!y.hello().await.assert);
    assert_eq!(y.beat().await.kicks, [kick("anna", Some(bound(&home)))], "it hears of it when it returns");
    assert_eq!(y.held().await, []);
}

async fn a_strict_store_waits_for_orphans_too(stage: Stage) {
    let rules = Rules { strict: true, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.bind("anna", 0).await, "a");
    z.set_table(&[("a", in_state(BackendState::Down)), ("b", up())]).await;
    world.pass(15_000, &mut [&mut z]).await;
    assert_eq!(z.reap("y").await, Reaped::Orphan);
    assert_eq!(z.claim(claim("anna")).await, CLOSING);
    assert_eq!(z.forget("y").await, Reaped::More);
    assert_eq!(z.reap("y").await, Reaped::Gone);
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn a_backend_that_left_the_table_is_as_good_as_down(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.bind("anna", 0).await, "a");
    z.set_table(&[("b", up())]).await;
    assert_eq!(z.claim(claim("anna")).await, CLOSING);
    y.release("anna").await;
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn an_unproven_binding_is_forgotten_with_its_last_session(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let unproven = |key: &str| Claim { unproven: true, ..claim(key) };
    z.claim(unproven("anna")).await;
    assert!(world.binding("anna").await.expect("bound").unproven);
    y.claim(unproven("anna")).await;
    z.give_up("anna").await;
    assert!(world.binding("anna").await.is_some());
    y.give_up("anna").await;
    assert_eq!(world.binding("anna").await, None);

    z.claim(unproven("bob")).await;
    z.set_table(&[("a", in_state(BackendState::Down)), ("b", in_state(BackendState::Down))]).await;
    assert_eq!(z.claim(claim("bob")).await, Home::NoBackend);
    assert_eq!(world.binding("bob").await, None, "a claim that says that the last one has gone");

    z.declare(&[Declared { unproven: true, ..declared("carl", "a", 1, 1) }]).await;
    y.declare(&[Declared { unproven: true, ..declared("carl", "a", 1, 1) }]).await;
    z.give_up("carl").await;
    z.forget("y").await;
    assert_eq!(z.reap("y").await, Reaped::Gone);
    assert_eq!(world.binding("carl").await, None, "a proxy that died with the last one");
    assert_eq!((world.load("a").await, world.users("a").await), (0, 0));
}

async fn an_unproven_binding_is_kept_once_a_login_was_proven(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    for key in ["claimed", "declared", "released"] {
        z.claim(Claim { unproven: true, ..claim(key) }).await;
    }
    let home = world.binding("declared").await.expect("bound");
    z.declare(&[Declared {
        unproven: true,
        ..declared("declared", home.backend.as_ref().expect("home").as_str(), home.generation.0, 1)
    }])
    .await;
    assert!(world.binding("declared").await.expect("bound").unproven);
    z.declare(&[declared("declared", home.backend.as_ref().expect("home").as_str(), home.generation.0, 1)]).await;
    z.bind("claimed", 1).await;
    for key in ["claimed", "declared"] {
        assert!(!world.binding(key).await.expect("bound").unproven);
        z.give_up(key).await;
        assert_eq!(world.binding(key).await.expect("remembered").idle_ms, Some(0));
    }
    z.release("released").await;
    assert!(world.binding("released").await.is_some(), "a session that came and went since was accepted");
}

async fn an_unproven_claim_of_a_known_key_does_not_endanger_it(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    z.release("anna").await;
    z.claim(Claim { unproven: true, ..claim("anna") }).await;
    z.release("anna").await;
    assert!(world.binding("anna").await.is_some());
}

async fn without_a_table_there_is_no_backend_and_nothing_is_taken_apart(stage: Stage) {
    let world = stage.empty(Rules::default()).await;
    let mut z = world.welcome("z").await;
    z.declare(&[declared("anna", "a", 5, 2)]).await;
    world.pass(4000, &mut [&mut z]).await;
    assert_eq!(z.claim(Claim { have: 2, ..claim("anna") }).await, Home::NoBackend);
    assert_eq!(world.binding("anna").await.expect("bound").sessions, 2);
}
