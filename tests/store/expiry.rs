//! Two-stage expiry: lease, orphan, freed; and the clock that none of it may run ahead of.

use homing::model::Incarnation;
use homing::store::*;

use crate::stage::*;

contract!(
    a_lease_that_is_renewed_does_not_end,
    a_lease_that_is_over_becomes_a_chore,
    an_orphan_leaves_the_load_but_keeps_its_keys,
    an_orphan_that_returns_counts_as_before,
    an_orphan_is_freed_after_its_grace,
    an_orphan_of_many_keys_is_freed_page_by_page,
    an_orphan_that_returns_half_freed_asserts_again,
    forget_frees_at_once,
    forget_of_a_stranger_is_done,
    chores_are_at_most_ten_and_the_oldest_come_first,
    a_step_of_the_clock_expires_nothing,
    a_kicked_orphan_hears_of_it,
    census_shows_who_lives_and_how_long,
);

fn inc(name: &str) -> Incarnation {
    Incarnation::new(name)
}

async fn a_lease_that_is_renewed_does_not_end(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    world.pass(60_000, &mut [&mut z, &mut y]).await;
    assert_eq!(z.beat().await.chores, []);
    assert_eq!(z.reap("y").await, Reaped::Alive);
    assert_eq!(world.proxy("y").await.expect("y").left_ms, 15_000);
}

async fn a_lease_that_is_over_becomes_a_chore(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    world.welcome("y").await;
    world.pass(14_999, &mut [&mut z]).await;
    assert_eq!(z.beat().await.chores, []);
    assert_eq!(z.reap("y").await, Reaped::Alive);
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(z.beat().await.chores, [inc("y")]);
    assert_eq!(z.reap("y").await, Reaped::Orphan);
    assert_eq!(z.reap("y").await, Reaped::Orphan);
    assert_eq!(z.beat().await.chores, []);
}

async fn an_orphan_leaves_the_load_but_keeps_its_keys(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.bind("anna", 1).await, "a");
    world.pass(15_000, &mut [&mut z]).await;
    z.reap("y").await;
    assert_eq!((world.load("a").await, world.users("a").await), (0, 1));
    let binding = world.binding("anna").await.expect("bound");
    assert_eq!((binding.holders, binding.idle_ms), (vec![(inc("y"), 2)], None));
    let view = world.proxy("y").await.expect("y");
    assert!(view.orphan);
    assert_eq!(view.left_ms, 3_600_000);
    assert_eq!(z.bind("anna", 0).await, "a", "nobody hands its key to another backend");
    assert_eq!(world.load("a").await, 1);
}

async fn an_orphan_that_returns_counts_as_before(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.bind("anna", 1).await;
    world.pass(15_000, &mut [&mut z]).await;
    z.reap("y").await;
    assert!(!y.hello().await.assert);
    assert_eq!(world.load("a").await, 2);
    assert!(!world.proxy("y").await.expect("y").orphan);
    y.release("anna").await;
    assert_eq!(world.load("a").await, 0);
}

async fn an_orphan_is_freed_after_its_grace(stage: Stage) {
    let rules = Rules { orphan_grace: 20_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    let mut y = world.welcome("y").await;
    y.bind("anna", 0).await;
    world.pass(18_000, &mut [&mut z]).await;
    z.reap("y").await;
    world.pass(16_999, &mut [&mut z]).await;
    assert_eq!(z.beat().await.chores, []);
    assert_eq!(z.reap("y").await, Reaped::Orphan, "the grace begins with the end of the lease, not with the reaping");
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(z.beat().await.chores, [inc("y")]);
    assert_eq!(z.reap("y").await, Reaped::Gone);
    assert_eq!(z.reap("y").await, Reaped::Gone);
    assert_eq!(z.beat().await.chores, []);
    let binding = world.binding("anna").await.expect("remembered");
    assert_eq!((binding.sessions, binding.idle_ms), (0, Some(0)));
    assert_eq!(world.users("a").await, 0);
    assert_eq!(world.proxy("y").await, None);
    assert!(y.hello().await.assert);
}

/// `y` holds 250 keys.
async fn crowd(world: &World) -> Peer {
    let mut y = world.welcome("y").await;
    let lines: Vec<Declared> = (0..250).map(|n| declared(&format!("k{n}"), "a", 9, 1)).collect();
    for page in lines.chunks(PAGE) {
        y.declare(page).await;
    }
    y
}

async fn an_orphan_of_many_keys_is_freed_page_by_page(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    crowd(&world).await;
    assert_eq!((world.load("a").await, world.users("a").await), (250, 250));
    assert_eq!(z.forget("y").await, Reaped::More);
    assert_eq!((world.load("a").await, world.users("a").await), (0, 250));
    for left in [150, 50] {
        assert_eq!(z.reap("y").await, Reaped::More);
        assert_eq!(world.users("a").await, left);
    }
    assert_eq!(z.reap("y").await, Reaped::Gone);
    assert_eq!(world.users("a").await, 0);
    for key in ["k0", "k249"] {
        assert_eq!(world.binding(key).await.expect("remembered").sessions, 0);
    }
}

async fn an_orphan_that_returns_half_freed_asserts_again(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = crowd(&world).await;
    z.forget("y").await;
    assert_eq!(z.reap("y").await, Reaped::More);
    assert!(y.hello().await.assert);
    assert_eq!(world.load("a").await, 150, "what was not freed counts again");
    assert_eq!(z.reap("y").await, Reaped::Alive);
    assert_eq!(y.held().await.len(), 150);
}

async fn forget_frees_at_once(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.bind("anna", 0).await;
    assert_eq!(z.forget("y").await, Reaped::More);
    assert!(world.proxy("y").await.expect("y").orphan);
    assert_eq!(z.beat().await.chores, [inc("y")], "whoever asked may die before it has reaped");
    assert_eq!(z.reap("y").await, Reaped::Gone);

    let mut x = world.welcome("x").await;
    x.bind("bob", 0).await;
    world.pass(15_000, &mut [&mut z]).await;
    assert_eq!(z.reap("x").await, Reaped::Orphan);
    assert_eq!(z.forget("x").await, Reaped::More);
    assert_eq!(z.reap("x").await, Reaped::Gone);
    assert_eq!(world.binding("bob").await.expect("remembered").sessions, 0);
}

async fn forget_of_a_stranger_is_done(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    assert_eq!(z.forget("stranger").await, Reaped::Gone);
    assert_eq!(z.reap("stranger").await, Reaped::Gone);
    assert_eq!(z.beat().await.chores, []);
}

async fn chores_are_at_most_ten_and_the_oldest_come_first(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    for n in 0..12 {
        world.welcome(&format!("y{n:02}")).await;
    }
    world.pass(1, &mut [&mut z]).await;
    world.welcome("old").await;
    z.forget("old").await;
    world.pass(15_000, &mut [&mut z]).await;
    let chores = z.beat().await.chores;
    assert_eq!(chores, (0..10).map(|n| inc(&format!("y{n:02}"))).collect::<Vec<_>>());
    for chore in &chores {
        z.reap(chore.as_str()).await;
    }
    assert_eq!(z.beat().await.chores, [inc("y10"), inc("y11"), inc("old")], "leases first, then orphans");
}

async fn a_step_of_the_clock_expires_nothing(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let home = y.claim(claim("anna")).await;
    let Home::Bound { generation, .. } = home else { panic!("{home:?}") };
    for step in [3_600_000_i64, -7_200_000, 86_400_000] {
        world.server.set_ms(world.server.ms().saturating_add_signed(step));
        assert_eq!(z.beat().await.chores, [], "{step}");
    }
    let left = world.proxy("y").await.expect("y").left_ms;
    assert_eq!(left, 15_000 - 4000, "2 s for each step forward, nothing for the one back");
    let now = y.bind("bob", 0).await;
    let bob = world.binding("bob").await.expect("bound");
    assert_eq!((now.as_str(), bob.generation.0), ("b", generation.0 + 4000));
}

async fn a_kicked_orphan_hears_of_it(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.declare(&[declared("anna", "a", 42, 1)]).await;
    world.pass(15_000, &mut [&mut z]).await;
    z.reap("y").await;
    assert_eq!(z.declare(&[declared("anna", "b", 42, 1)]).await, [kick("anna", Some(("a", 42)))], "it still holds it");
    assert_eq!(z.declare(&[declared("anna", "b", 43, 1)]).await, []);
    assert_eq!((world.load("a").await, world.load("b").await), (0, 1));
    y.hello().await;
    assert_eq!(world.load("a").await, 0);
    assert_eq!(y.beat().await.kicks, [kick("anna", Some(("b", 43)))]);
}

async fn census_shows_who_lives_and_how_long(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    world.welcome("y").await;
    world.pass(7000, &mut [&mut z]).await;
    let census = world.census().await;
    assert_eq!((census.epoch, census.recovering_ms), (1, None));
    let seen: Vec<_> =
        census.proxies.iter().map(|p| (p.incarnation.as_str(), p.name.as_str(), p.age_ms, p.left_ms)).collect();
    assert_eq!(seen, [("y", "name of y", 7000, 8000), ("z", "name of z", 11_000, 15_000)]);
    assert_eq!(census.proxies[0].version, "1.0");
    let backends: Vec<_> =
        census.backends.iter().map(|b| (b.backend.as_str(), b.row.weight.get(), b.row.state)).collect();
    assert_eq!(backends, [("a", 100, BackendState::Up), ("b", 100, BackendState::Up)]);
}
