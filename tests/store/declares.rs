//! declare: absolute counts, and what becomes of a key that has two homes.

use homing::model::BackendId;
use homing::store::*;

use crate::stage::*;

contract!(
    two_homes_of_a_key_are_counted,
    a_declaration_is_the_count_whatever_was_before,
    the_last_release_makes_a_key_idle,
    an_unbound_key_is_bound_as_declared,
    the_same_home_takes_the_higher_generation,
    another_home_with_a_lower_or_equal_generation_is_kicked_and_not_counted,
    another_home_with_a_higher_generation_wins_and_kicks_the_others,
    another_home_stands_if_nobody_else_holds_the_key,
    a_kick_is_repeated_until_the_key_is_declared_zero,
    a_kick_ends_when_the_key_is_claimed_anew,
    a_kick_ends_when_the_sessions_turn_out_to_be_at_home,
    a_kick_of_a_key_without_home_says_so,
    kicks_come_in_portions,
    many_keys_go_in_one_call,
    held_names_exactly_the_keys_with_sessions,
    a_held_page_of_many_keys_leads_to_the_next,
    a_release_of_what_was_never_held_changes_nothing,
);

async fn a_declaration_is_the_count_whatever_was_before(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let home = z.claim(claim("anna")).await;
    let Home::Bound { backend, generation } = home else { panic!("{home:?}") };
    for count in [5, 5, 2, 7] {
        assert_eq!(z.declare(&[declared("anna", backend.as_str(), generation.0, count)]).await, []);
        assert_eq!(world.load("a").await, count);
        assert_eq!(world.binding("anna").await.expect("bound").sessions, count);
        assert_eq!(world.users("a").await, 1);
    }
}

async fn the_last_release_makes_a_key_idle(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    z.release("anna").await;
    world.pass(3000, &mut [&mut z]).await;
    let binding = world.binding("anna").await.expect("remembered");
    assert_eq!((binding.sessions, binding.holders, binding.idle_ms), (0, vec![], Some(3000)));
    assert_eq!((world.load("a").await, world.users("a").await), (0, 0));
    z.release("anna").await;
    assert_eq!(world.binding("anna").await.expect("remembered").idle_ms, Some(3000), "since it became idle");
    assert_eq!(world.proxy("z").await.expect("z").sessions, []);
}

async fn an_unbound_key_is_bound_as_declared(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(z.declare(&[declared("anna", "b", 42, 3)]).await, []);
    let binding = world.binding("anna").await.expect("bound");
    assert_eq!((binding.backend, binding.generation.0, binding.sessions), (Some(BackendId::new("b")), 42, 3));
    assert_eq!(world.load("b").await, 3);
}

async fn the_same_home_takes_the_higher_generation(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    z.declare(&[declared("anna", "b", 42, 1)]).await;
    for (generation, then) in [(41, 42), (43, 43), (40, 43)] {
        assert_eq!(y.declare(&[declared("anna", "b", generation, 2)]).await, []);
        assert_eq!(world.binding("anna").await.expect("bound").generation.0, then);
    }
    assert_eq!(world.load("b").await, 3);
}

async fn another_home_with_a_lower_or_equal_generation_is_kicked_and_not_counted(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    z.declare(&[declared("anna", "a", 42, 1)]).await;
    y.declare(&[declared("anna", "a", 42, 4)]).await;
    for generation in [41, 42] {
        assert_eq!(y.declare(&[declared("anna", "b", generation, 2)]).await, [kick("anna", Some(("a", 42)))]);
        let binding = world.binding("anna").await.expect("bound");
        assert_eq!((binding.backend, binding.sessions), (Some(BackendId::new("a")), 1));
        assert_eq!((world.load("a").await, world.load("b").await), (1, 0), "not even what it had at the right home");
    }
    assert_eq!(y.beat().await.kicks, [kick("anna", Some(("a", 42)))]);
    assert_eq!(y.held().await, []);
}

async fn another_home_with_a_higher_generation_wins_and_kicks_the_others(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let mut x = world.welcome("x").await;
    z.declare(&[declared("anna", "a", 42, 1)]).await;
    y.declare(&[declared("anna", "a", 42, 1)]).await;
    assert_eq!(x.declare(&[declared("anna", "b", 43, 2)]).await, []);
    let binding = world.binding("anna").await.expect("bound");
    assert_eq!((binding.backend, binding.generation.0), (Some(BackendId::new("b")), 43));
    assert_eq!(binding.holders, [(x.incarnation.clone(), 2)]);
    assert_eq!((world.load("a").await, world.load("b").await), (0, 2));
    assert_eq!((world.users("a").await, world.users("b").await), (0, 1));
    for peer in [&mut z, &mut y] {
        assert_eq!(peer.beat().await.kicks, [kick("anna", Some(("b", 43)))]);
    }
    assert_eq!(x.beat().await.kicks, []);
}

async fn another_home_stands_if_nobody_else_holds_the_key(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.declare(&[declared("anna", "a", 42, 3)]).await;
    assert_eq!(z.declare(&[declared("anna", "b", 7, 2)]).await, []);
    let binding = world.binding("anna").await.expect("bound");
    assert_eq!((binding.backend, binding.generation.0, binding.sessions), (Some(BackendId::new("b")), 43, 2));
    assert_eq!((world.load("a").await, world.load("b").await), (0, 2));
    assert_eq!((world.users("a").await, world.users("b").await), (0, 1));
    z.release("anna").await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.declare(&[declared("anna", "a", 5, 1)]).await, [], "also if it is only remembered elsewhere");
    assert_eq!(world.binding("anna").await.expect("bound").idle_ms, None);
}

/// Makes `z` the one who is kicked, for `y` has the key at `b` in generation 43.
async fn conflict(world: &World, z: &mut Peer, key: &str) -> Peer {
    let mut y = world.welcome("y").await;
    z.declare(&[declared(key, "a", 42, 1)]).await;
    y.declare(&[declared(key, "b", 43, 1)]).await;
    y
}

async fn a_kick_is_repeated_until_the_key_is_declared_zero(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = conflict(&world, &mut z, "anna").await;
    for _ in 0..3 {
        assert_eq!(z.beat().await.kicks, [kick("anna", Some(("b", 43)))]);
    }
    assert_eq!(z.declare(&[declared("anna", "a", 42, 1)]).await, [kick("anna", Some(("b", 43)))]);
    assert_eq!(z.beat().await.kicks.len(), 1);
    z.release("anna").await;
    assert_eq!(z.beat().await.kicks, []);
    assert_eq!(y.beat().await.kicks, []);
    assert_eq!(world.binding("anna").await.expect("bound").holders, [(y.incarnation.clone(), 1)]);
}

async fn a_kick_ends_when_the_key_is_claimed_anew(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let _y = conflict(&world, &mut z, "anna").await;
    assert_eq!(z.bind("anna", 1).await, "b");
    assert_eq!(z.beat().await.kicks.len(), 1, "the sessions that it still has may be the ones to close");
    assert_eq!(z.bind("anna", 0).await, "b");
    assert_eq!(z.beat().await.kicks, []);
}

async fn a_kick_ends_when_the_sessions_turn_out_to_be_at_home(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let _y = conflict(&world, &mut z, "anna").await;
    assert_eq!(z.declare(&[declared("anna", "b", 43, 1)]).await, []);
    assert_eq!(z.beat().await.kicks, []);
}

async fn a_kick_of_a_key_without_home_says_so(stage: Stage) {
    let rules = Rules { user_expire: 10_000, remember: 20_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    let mut y = conflict(&world, &mut z, "anna").await;
    y.release("anna").await;
    assert_eq!(z.beat().await.kicks, [kick("anna", Some(("b", 43)))]);
    world.pass(20_000, &mut [&mut z, &mut y]).await;
    assert_eq!(z.beat().await.kicks, [kick("anna", None)]);
}

async fn kicks_come_in_portions(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let keys: Vec<String> = (0..KICKS + 100).map(|n| format!("key{n:04}")).collect();
    for page in keys.chunks(PAGE) {
        let at = |backend: &str, generation| -> Vec<Declared> {
            page.iter().map(|key| declared(key, backend, generation, 1)).collect()
        };
        z.declare(&at("a", 42)).await;
        y.declare(&at("b", 43)).await;
    }
    let kicks = z.beat().await.kicks;
    assert_eq!(kicks.len(), KICKS);
    assert!(kicks.is_sorted_by(|a, b| a.key < b.key));
    for page in kicks.chunks(PAGE) {
        let zero: Vec<Declared> = page.iter().map(|kick| declared(kick.key.as_str(), "", 0, 0)).collect();
        z.declare(&zero).await;
    }
    assert_eq!(z.beat().await.kicks.len(), 100);
}

async fn many_keys_go_in_one_call(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let lines: Vec<Declared> = (0..PAGE).map(|n| declared(&format!("k{n}"), ["a", "b"][n % 2], 9, 2)).collect();
    assert_eq!(z.declare(&lines).await, []);
    assert_eq!((world.load("a").await, world.users("a").await), (100, 50));
    assert_eq!((world.load("b").await, world.users("b").await), (100, 50));
    assert_eq!(z.declare(&[declared("k0", "a", 9, 4), declared("k0", "a", 9, 1)]).await, [], "the last line counts");
    assert_eq!(world.load("a").await, 99);
}

async fn held_names_exactly_the_keys_with_sessions(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    assert_eq!(z.held().await, []);
    z.bind("anna", 0).await;
    z.bind("bob", 0).await;
    z.bind("carl", 0).await;
    z.release("bob").await;
    let names: Vec<String> = z.held().await.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["anna", "carl"]);
}

async fn a_held_page_of_many_keys_leads_to_the_next(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    for page in 0..7 {
        let lines: Vec<Declared> = (0..PAGE).map(|n| declared(&format!("k{page}-{n}"), "a", 9, 1)).collect();
        z.declare(&lines).await;
    }
    assert_eq!(z.held().await.len(), 700);
    let before = z.seq;
    z.held().await;
    assert!(z.seq > before + 3, "in pages");
}

async fn a_release_of_what_was_never_held_changes_nothing(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.bind("anna", 0).await;
    let before = (world.binding("anna").await, world.load("a").await);
    z.release("anna").await;
    z.release("nobody").await;
    assert_eq!((world.binding("anna").await, world.load("a").await), before);
    assert_eq!(world.binding("nobody").await, None);
}

async fn two_homes_of_a_key_are_counted(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = conflict(&world, &mut z, "anna").await;
    assert_eq!(world.census().await.splits, 1);
    y.declare(&[declared("bob", "a", 5, 1)]).await;
    assert_eq!(z.declare(&[declared("bob", "b", 5, 1)]).await.len(), 1, "also if it is refused");
    assert_eq!(world.census().await.splits, 2);
    y.release("bob").await;
    z.declare(&[declared("bob", "b", 6, 1)]).await;
    assert_eq!(world.census().await.splits, 2, "nobody else was there");
}
