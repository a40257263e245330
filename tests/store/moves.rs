//! move and settle: the old home is emptied before the new one is opened.

use homing::model::{BackendId, Generation, Incarnation, Key};
use homing::store::*;

use crate::orders::*;
use crate::stage::*;

contract!(
    an_idle_key_is_moved_at_once,
    a_key_that_was_just_left_waits_for_the_kick_delay,
    i1_a_move_waits_for_the_last_session_of_every_holder,
    a_claim_of_the_last_holder_opens_the_new_home,
    sessions_from_before_a_move_are_kicked_when_they_are_declared,
    a_kick_ends_the_sessions_and_leaves_the_home,
    a_forced_move_waits_for_nobody,
    a_forced_move_is_not_undone_by_a_late_declaration_of_who_was_thrown_out,
    a_home_that_is_declared_anew_has_a_generation_of_its_own,
    a_forced_move_replaces_one_that_is_under_way,
    a_first_home_can_be_given_to_a_key_that_has_none,
    a_move_to_where_nobody_may_be_is_refused,
    a_move_under_another_generation_than_was_seen_is_refused,
    one_move_at_a_time,
    a_key_that_is_where_it_should_be_stays,
    at_the_deadline_the_holders_are_named_and_may_stay,
    freed_orphans_do_not_hold_a_move_up,
    a_new_home_that_died_meanwhile_is_not_opened,
    while_the_store_recovers_nothing_is_taken_for_empty,
    a_declaration_of_another_home_ends_a_move,
    an_unproven_key_that_is_moved_is_not_forgotten_on_the_way,
    a_moved_key_is_not_forgotten_however_long_it_takes,
    ten_former_homes_are_known,
);

async fn an_idle_key_is_moved_at_once(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(z.bind("anna", 0).await, "a");
    z.release("anna").await;
    world.pass(2000, &mut [&mut z]).await;
    let (_, before) = world.home("anna").await;
    let Moved::Done { backend, generation } = world.begin(moving("anna", to("b"))).await else { panic!("not done") };
    assert_eq!(backend.as_str(), "b");
    assert!(generation.0 > before);
    let past = world.binding("anna").await.expect("binding").past;
    let first = Past {
        backend: BackendId::new("a"),
        generation: Generation(before),
        until: generation,
        why: "move".to_owned(),
    };
    assert_eq!(past, [first]);
    assert_eq!(z.bind("anna", 0).await, "b");
    assert_eq!(world.home("anna").await, ("b".to_owned(), generation.0));
    assert_eq!((world.census().await.moving, world.users("a").await, world.users("b").await), (0, 0, 1));
}

async fn a_key_that_was_just_left_waits_for_the_kick_delay(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    z.release("anna").await;
    let begun = world.begin(moving("anna", Target::Elsewhere)).await;
    assert!(matches!(begun, Moved::Begun { sessions: 0, .. }), "{begun:?}");
    assert_eq!(world.settle("anna", "z", None).await, Settled::Waiting { holders: vec![], left_ms: 60_000 });
    world.pass(1999, &mut [&mut z]).await;
    assert_eq!(z.claim(claim("anna")).await, MOVING);
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn i1_a_move_waits_for_the_last_session_of_every_holder(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    z.bind("anna", 0).await;
    y.bind("anna", 1).await;
    let (_, before) = world.home("anna").await;
    let Moved::Begun { generation, sessions, holders } = world.begin(moving("anna", to("b"))).await else {
        panic!("not begun")
    };
    assert!(generation.0 > before);
    assert_eq!((sessions, holders), (3, vec![(Incarnation::new("y"), 2), (Incarnation::new("z"), 1)]));
    for peer in [&mut z, &mut y] {
        let beat = peer.beat().await;
        assert_eq!((beat.kicks, beat.moves), (vec![kick("anna", Some(("a", generation.0)))], vec![]));
    }
    let view = world.binding("anna").await.expect("binding").moving;
    assert_eq!(view, Some(MovingView { to: to("b"), left_ms: 60_000, hook: HookState::None }));
    z.release("anna").await;
    assert_eq!(z.claim(claim("anna")).await, MOVING);
    let waiting = Settled::Waiting { holders: vec![holder("y", 2, None)], left_ms: 60_000 };
    assert_eq!(world.settle("anna", "x", None).await, waiting);
    y.release("anna").await;
    world.pass(1999, &mut [&mut z, &mut y]).await;
    assert_eq!((y.claim(claim("anna")).await, z.beat().await.moves), (MOVING, vec![]));
    world.pass(1, &mut [&mut z, &mut y]).await;
    assert_eq!(z.beat().await.moves, [Key::new("anna")], "somebody should open the new home");
    let Settled::Done { from, backend, .. } = world.settle("anna", "z", None).await else { panic!("not done") };
    assert_eq!((from.as_str(), backend.as_str()), ("a", "b"));
    assert_eq!((y.bind("anna", 0).await.as_str(), z.beat().await.moves), ("b", vec![]));
    let (_, generation) = world.home("anna").await;
    let still = Settled::Still { backend: Some(BackendId::new("b")), generation: Generation(generation) };
    assert_eq!(world.settle("anna", "z", None).await, still);
}

async fn a_claim_of_the_last_holder_opens_the_new_home(stage: Stage) {
    let rules = Rules { kick_delay: 0, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    z.bind("anna", 0).await;
    world.begin(moving("anna", to("b"))).await;
    assert_eq!(z.claim(Claim { have: 1, ..claim("anna") }).await, MOVING, "it still has one there");
    assert_eq!(z.bind("anna", 0).await, "b", "that it has none says the claim itself");
    assert_eq!((world.load("a").await, world.load("b").await), (0, 1));
}

async fn sessions_from_before_a_move_are_kicked_when_they_are_declared(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    let (_, before) = world.home("anna").await;
    world.begin(moving("anna", to("b"))).await;
    let (_, generation) = world.home("anna").await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.declare(&[declared("anna", "a", before, 1)]).await, [kick("anna", Some(("a", generation)))]);
    assert_eq!(y.beat().await.kicks, [kick("anna", Some(("a", generation)))]);
    z.release("anna").await;
    let waiting = Settled::Waiting { holders: vec![holder("y", 1, None)], left_ms: 60_000 };
    assert_eq!(world.settle("anna", "z", None).await, waiting, "they count until they are gone");
}

async fn a_kick_ends_the_sessions_and_leaves_the_home(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    let (_, before) = world.home("anna").await;
    assert!(matches!(world.begin(moving("anna", Target::Stay)).await, Moved::Begun { sessions: 1, .. }));
    assert_eq!(z.beat().await.kicks.len(), 1);
    z.release("anna").await;
    world.pass(2000, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "a");
    assert!(world.home("anna").await.1 > before);
    assert_eq!(world.former_homes("anna").await, [("a".to_owned(), "kick".to_owned())]);
    z.release("anna").await;
    let done = world.begin(moving("anna", Target::Stay)).await;
    assert!(matches!(&done, Moved::Done { backend, .. } if backend.as_str() == "a"), "nobody is there: {done:?}");
}

async fn a_forced_move_waits_for_nobody(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    let Moved::Done { backend, generation } = world.begin(Move { force: true, ..moving("anna", to("b")) }).await else {
        panic!("not done")
    };
    assert_eq!(backend.as_str(), "b");
    assert_eq!(z.beat().await.kicks, [kick("anna", Some(("b", generation.0)))]);
    assert_eq!((world.load("a").await, world.users("a").await), (0, 0));
    assert_eq!(world.former_homes("anna").await, [("a".to_owned(), "force".to_owned())]);
}

async fn a_forced_move_is_not_undone_by_a_late_declaration_of_who_was_thrown_out(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    let (_, before) = world.home("anna").await;
    world.begin(Move { force: true, ..moving("anna", to("b")) }).await;
    let (home, forced) = world.home("anna").await;
    // It had not heard of the kick when it declared; and nobody has come to the new home yet.
    let kicks = z.declare(&[declared("anna", "a", before, 1)]).await;
    assert_eq!(kicks, [kick("anna", Some(("b", forced)))]);
    assert_eq!((world.home("anna").await, world.load("a").await), ((home, forced), 0));
    z.release("anna").await;
    assert_eq!(z.bind("anna", 0).await, "b");
    assert_eq!(world.census().await.splits, 0);
}

async fn a_home_that_is_declared_anew_has_a_generation_of_its_own(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.bind("anna", 0).await;
    y.release("anna").await;
    let (home, generation) = world.home("anna").await;
    assert_eq!(home, "a");
    // After an amnesia: whoever lives is right, though the generation is older.
    assert_eq!(z.declare(&[declared("anna", "b", generation - 5, 1)]).await, []);
    assert_eq!(world.home("anna").await, ("b".to_owned(), generation + 1));
}

async fn a_forced_move_replaces_one_that_is_under_way(stage: Stage) {
    let (world, mut z) = stage.open(Rules::default(), &[("a", up()), ("b", up()), ("c", up())]).await;
    z.bind("anna", 0).await;
    world.begin(moving("anna", to("b"))).await;
    let done = world.begin(Move { force: true, ..moving("anna", to("c")) }).await;
    assert!(matches!(&done, Moved::Done { backend, .. } if backend.as_str() == "c"), "{done:?}");
    assert_eq!(world.census().await.moving, 0);
    z.bind("bob", 0).await;
    world.begin(moving("bob", to("a"))).await;
    let (home, _) = world.home("bob").await;
    world.begin(Move { force: true, ..moving("bob", to(&home)) }).await;
    assert_eq!(world.binding("bob").await.expect("binding").moving, None, "back home: it is called off");
}

async fn a_first_home_can_be_given_to_a_key_that_has_none(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(world.begin(moving("anna", Target::Elsewhere)).await, Moved::Unbound);
    assert_eq!(world.begin(moving("anna", to("gone"))).await, Moved::NoBackend);
    let late = Move { seen: Some(Generation(7)), ..moving("anna", to("b")) };
    assert_eq!(world.begin(late).await, Moved::Changed);
    let now = world.server.ms();
    let done = Moved::Done { backend: BackendId::new("b"), generation: Generation(now) };
    assert_eq!(world.begin(moving("anna", to("b"))).await, done);
    assert_eq!(world.binding("anna").await.expect("binding").idle_ms, Some(0));
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn a_move_to_where_nobody_may_be_is_refused(stage: Stage) {
    let failing = Row { failing: true, ..up() };
    let (down, removed) = (in_state(BackendState::Down), in_state(BackendState::Removed));
    let table = [("a", up()), ("down", down), ("removed", removed), ("failing", failing), ("gold", in_pool("gold"))];
    let (world, mut z) = stage.open(Rules::default(), &table).await;
    assert_eq!(z.bind("anna", 0).await, "a");
    for backend in ["down", "removed", "failing", "gold", "unheard-of"] {
        assert_eq!(world.begin(moving("anna", to(backend))).await, Moved::NoBackend, "{backend}");
    }
    assert_eq!(world.begin(moving("anna", Target::Elsewhere)).await, Moved::NoBackend, "there is no other");
    assert_eq!(z.beat().await.kicks, []);
}

async fn a_move_under_another_generation_than_was_seen_is_refused(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    let (_, generation) = world.home("anna").await;
    let seen = |generation| Move { seen: Some(Generation(generation)), ..moving("anna", to("b")) };
    assert_eq!(world.begin(seen(generation - 1)).await, Moved::Changed);
    assert!(matches!(world.begin(seen(generation)).await, Moved::Begun { .. }));
    assert_eq!(world.begin(seen(generation)).await, Moved::Changed, "a move is a generation of its own");
}

async fn one_move_at_a_time(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    world.begin(moving("anna", to("b"))).await;
    assert_eq!(world.begin(moving("anna", Target::Stay)).await, Moved::Busy);
}

async fn a_key_that_is_where_it_should_be_stays(stage: Stage) {
    let (world, mut z) = stage.open(Rules::default(), &[("a", up())]).await;
    z.bind("anna", 0).await;
    let (_, before) = world.home("anna").await;
    let done = |generation| Moved::Done { backend: BackendId::new("a"), generation: Generation(generation) };
    assert_eq!(world.begin(moving("anna", to("a"))).await, done(before));
    world.pass(1000, &mut [&mut z]).await;
    let now = world.server.ms();
    assert_eq!(world.begin(moving("anna", Target::Anywhere)).await, done(now), "placed anew, though here again");
    assert_eq!((z.beat().await.kicks, world.census().await.moving), (vec![], 0));
}

async fn at_the_deadline_the_holders_are_named_and_may_stay(stage: Stage) {
    let rules = Rules { orphan_grace: 600_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    let (mut y, mut x) = (world.welcome("y").await, world.welcome("x").await);
    z.bind("anna", 0).await;
    y.bind("anna", 0).await;
    x.bind("anna", 0).await;
    let (_, before) = world.home("anna").await;
    world.begin(moving("anna", to("b"))).await;
    z.release("anna").await;
    world.pass(59_999, &mut [&mut z, &mut y]).await;
    z.reap("x").await;
    let orphan = holder("x", 1, Some(600_000 + 15_000 - 59_999));
    let waiting = Settled::Waiting { holders: vec![orphan.clone(), holder("y", 1, None)], left_ms: 1 };
    assert_eq!(world.settle("anna", "z", None).await, waiting);
    world.pass(1, &mut [&mut y]).await;
    assert_eq!(z.beat().await.moves, [Key::new("anna")]);
    let holders = vec![Holder { orphan: orphan.orphan.map(|ms| ms - 1), ..orphan }, holder("y", 1, None)];
    let cancelled = Settled::Cancelled { why: Cancelled::Deadline, holders };
    assert_eq!(world.settle("anna", "z", None).await, cancelled);
    assert_eq!((y.beat().await.kicks, world.census().await.moving), (vec![], 0));
    assert_eq!(y.declare(&[declared("anna", "a", before, 1)]).await, [], "whoever stayed may stay");
    assert_eq!(z.bind("anna", 0).await, "a");
}

async fn freed_orphans_do_not_hold_a_move_up(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.bind("anna", 0).await;
    world.begin(moving("anna", to("b"))).await;
    z.forget("y").await;
    let waiting = Settled::Waiting { holders: vec![holder("y", 1, Some(0))], left_ms: 60_000 };
    assert_eq!(world.settle("anna", "z", None).await, waiting);
    assert_eq!(z.reap("y").await, Reaped::Gone);
    world.pass(2000, &mut [&mut z]).await;
    assert_eq!(z.beat().await.moves, [Key::new("anna")]);
    assert!(matches!(world.settle("anna", "z", None).await, Settled::Done { .. }));
}

async fn a_new_home_that_died_meanwhile_is_not_opened(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    world.begin(moving("anna", to("b"))).await;
    z.release("anna").await;
    z.set_table(&[("a", up()), ("b", in_state(BackendState::Down))]).await;
    world.pass(2000, &mut [&mut z]).await;
    let cancelled = Settled::Cancelled { why: Cancelled::NoBackend, holders: vec![] };
    assert_eq!(world.settle("anna", "z", None).await, cancelled);
    assert_eq!(z.bind("anna", 0).await, "a");
}

async fn while_the_store_recovers_nothing_is_taken_for_empty(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    world.begin(moving("anna", to("b"))).await;
    world.server.restart("run2");
    z.hello().await;
    let settle = Order::Settle(Settle { key: Key::new("anna"), incarnation: Incarnation::new("z"), hook: None });
    assert_eq!(world.order(Order::Move(moving("bob", to("a")))).await, Outcome::Recovering(4000));
    assert_eq!(world.order(settle.clone()).await, Outcome::Recovering(4000));
    world.pass(4000, &mut [&mut z]).await;
    assert!(matches!(world.order(settle.clone()).await, Outcome::Settle(Settled::Waiting { .. })), "it goes on");
    world.flush().await;
    for order in [settle, Order::Answers { errand: 1 }, Order::Copy(Table { version: 1, rows: table(&[]) })] {
        assert_eq!(world.order(order).await, Outcome::Recovering(4000), "it has no memory");
    }
}

async fn a_declaration_of_another_home_ends_a_move(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    world.begin(moving("anna", to("b"))).await;
    z.release("anna").await;
    let later = world.server.ms() + 10;
    assert_eq!(z.declare(&[declared("anna", "b", later, 1)]).await, []);
    let still = Settled::Still { backend: Some(BackendId::new("b")), generation: Generation(later) };
    assert_eq!(world.settle("anna", "z", None).await, still);
    assert_eq!(world.former_homes("anna").await, [("a".to_owned(), "declared".to_owned())]);
}

async fn an_unproven_key_that_is_moved_is_not_forgotten_on_the_way(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.claim(Claim { unproven: true, ..claim("anna") }).await;
    world.begin(moving("anna", to("b"))).await;
    z.give_up("anna").await;
    world.pass(2000, &mut [&mut z]).await;
    assert!(matches!(world.settle("anna", "z", None).await, Settled::Done { .. }));
    assert_eq!(world.home("anna").await.0, "b");
}

async fn a_moved_key_is_not_forgotten_however_long_it_takes(stage: Stage) {
    let rules = Rules { remember: 10_000, user_expire: 5000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    z.bind("anna", 0).await;
    z.release("anna").await;
    world.begin(Move { hook: true, ..moving("anna", to("b")) }).await;
    world.pass(20_000, &mut [&mut z]).await;
    assert!(matches!(world.settle("anna", "z", None).await, Settled::Run { .. }));
    assert!(matches!(world.settle("anna", "z", Some(true)).await, Settled::Done { .. }));
    world.pass(9999, &mut [&mut z]).await;
    assert_eq!(world.home("anna").await.0, "b", "it is as fresh as if somebody had just left it");
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(world.binding("anna").await, None);
}

async fn ten_former_homes_are_known(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    for n in 0..12 {
        world.begin(Move { force: true, ..moving("anna", to(["b", "a"][n % 2])) }).await;
    }
    let past = world.binding("anna").await.expect("binding").past;
    assert_eq!(past.len(), PASTS);
    assert!(past.iter().is_sorted_by(|later, earlier| later.generation == earlier.until));
    assert_eq!(past[0].backend.as_str(), "b", "the latest first");
}
