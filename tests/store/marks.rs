//! mark: pins and holds of operators, on keys that are bound and on those that are not.

use homing::model::{BackendId, Incarnation, Key};
use homing::store::*;

use crate::orders::*;
use crate::stage::*;

contract!(
    a_held_key_waits_until_it_is_released,
    a_hold_with_an_end_ends,
    a_hold_says_who_is_still_there,
    a_held_key_can_be_moved,
    a_pin_decides_before_that_of_the_passdb,
    a_pin_moves_a_key_once_it_is_idle,
    a_pin_to_where_nobody_may_be_changes_nothing,
    marks_outlive_the_binding,
    marks_of_an_unproven_key_outlive_its_login,
    a_binding_outlives_its_marks,
    marks_survive_the_death_of_whoever_holds_the_key,
    a_lock_keeps_logins_waiting_until_its_owner_ends_it_or_lets_it_lapse,
    a_lock_is_nobody_elses_and_a_hold_is_none,
    a_lock_that_has_lapsed_is_not_renewed,
    a_lock_of_a_proxy_that_is_known_to_be_dead_is_taken_over,
    bindings_are_listed_with_their_marks_page_by_page,
);

async fn a_held_key_waits_until_it_is_released(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(world.mark("anna", MarkChange::Hold(0)).await, Marked::default());
    assert_eq!(z.claim(claim("anna")).await, HOLD);
    world.pass(100_000, &mut [&mut z]).await;
    assert_eq!(z.claim(claim("anna")).await, HOLD);
    let view = world.binding("anna").await.expect("a hold");
    assert_eq!(view, BindingView { hold_ms: Some(0), ..BindingView::default() });
    world.mark("anna", MarkChange::Release).await;
    assert_eq!(world.binding("anna").await, None);
    z.bind("anna", 0).await;
}

async fn a_hold_with_an_end_ends(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    world.mark("anna", MarkChange::Hold(5000)).await;
    world.pass(4999, &mut [&mut z]).await;
    assert_eq!(z.claim(Claim { have: 1, ..claim("anna") }).await, HOLD, "also of a key that has a session");
    assert_eq!(world.binding("anna").await.expect("binding").hold_ms, Some(1));
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(world.binding("anna").await.expect("binding").hold_ms, None);
    z.bind("anna", 1).await;
}

async fn a_hold_says_who_is_still_there(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 1).await;
    let (_, generation) = world.home("anna").await;
    let marked = Marked {
        backend: Some(BackendId::new("a")),
        generation: homing::model::Generation(generation),
        sessions: 2,
        holders: vec![(z.incarnation.clone(), 2)],
        no_backend: false,
        lock: None,
    };
    assert_eq!(world.mark("anna", MarkChange::Hold(0)).await, marked);
    z.claim(claim("anna")).await;
    assert_eq!(world.mark("anna", MarkChange::Hold(0)).await.sessions, 0, "the claim counted what it still had");
}

async fn a_held_key_can_be_moved(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    world.mark("anna", MarkChange::Hold(0)).await;
    world.begin(moving("anna", to("b"))).await;
    assert_eq!(z.claim(claim("anna")).await, HOLD);
    world.pass(2000, &mut [&mut z]).await;
    assert_eq!(z.claim(claim("anna")).await, HOLD);
    assert!(matches!(world.settle("anna", "z", None).await, Settled::Done { .. }));
    world.mark("anna", MarkChange::Release).await;
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn a_pin_decides_before_that_of_the_passdb(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    world.mark("anna", MarkChange::Pin(BackendId::new("b"))).await;
    let claim = Claim { pin: Some(BackendId::new("a")), ..claim("anna") };
    let home = z.claim(claim.clone()).await;
    assert!(matches!(&home, Home::Bound { backend, .. } if backend.as_str() == "b"), "{home:?}");
    z.release("anna").await;
    world.mark("anna", MarkChange::Unpin).await;
    let home = z.claim(claim).await;
    assert!(matches!(&home, Home::Bound { backend, .. } if backend.as_str() == "a"), "{home:?}");
    assert_eq!(world.former_homes("anna").await, [("b".to_owned(), "pin".to_owned())]);
}

async fn a_pin_moves_a_key_once_it_is_idle(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(z.bind("anna", 0).await, "a");
    assert_eq!(world.mark("anna", MarkChange::Pin(BackendId::new("b"))).await.sessions, 1);
    assert_eq!(z.bind("anna", 1).await, "a", "sessions elsewhere are left alone");
    z.release("anna").await;
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn a_pin_to_where_nobody_may_be_changes_nothing(stage: Stage) {
    let (world, mut z) = stage.open(Rules::default(), &[("a", up()), ("b", in_state(BackendState::Down))]).await;
    for backend in ["b", "unheard-of"] {
        assert!(world.mark("anna", MarkChange::Pin(BackendId::new(backend))).await.no_backend);
    }
    assert_eq!(world.binding("anna").await, None);
    assert_eq!(z.bind("anna", 0).await, "a");
}

async fn marks_outlive_the_binding(stage: Stage) {
    let rules = Rules { user_expire: 1000, remember: 5000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", up()), ("b", up())]).await;
    z.bind("anna", 0).await;
    world.mark("anna", MarkChange::Pin(BackendId::new("b"))).await;
    z.release("anna").await;
    world.pass(5000, &mut [&mut z]).await;
    let view = world.binding("anna").await.expect("a pin");
    assert_eq!((view.backend, view.pin), (None, Some(BackendId::new("b"))));
    assert_eq!(z.bind("anna", 0).await, "b");
}

async fn marks_of_an_unproven_key_outlive_its_login(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.claim(Claim { unproven: true, ..claim("anna") }).await;
    world.mark("anna", MarkChange::Hold(0)).await;
    z.give_up("anna").await;
    let view = world.binding("anna").await.expect("a hold");
    assert_eq!((view.backend, view.hold_ms, view.idle_ms), (None, Some(0), None));
}

async fn a_binding_outlives_its_marks(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    assert_eq!(z.bind("anna", 0).await, "a");
    z.release("anna").await;
    world.mark("anna", MarkChange::Hold(0)).await;
    world.mark("anna", MarkChange::Release).await;
    assert_eq!(world.home("anna").await.0, "a");
}

async fn marks_survive_the_death_of_whoever_holds_the_key(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.claim(Claim { unproven: true, ..claim("anna") }).await;
    world.mark("anna", MarkChange::Pin(BackendId::new("b"))).await;
    world.mark("anna", MarkChange::Hold(60_000)).await;
    z.forget("y").await;
    z.reap("y").await;
    let view = world.binding("anna").await.expect("marks");
    assert_eq!((view.backend, view.pin, view.hold_ms), (None, Some(BackendId::new("b")), Some(60_000)));
}

async fn bindings_are_listed_with_their_marks_page_by_page(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut expected = Vec::new();
    for chunk in (0..2500).collect::<Vec<_>>().chunks(PAGE) {
        let lines: Vec<Declared> = chunk.iter().map(|n| declared(&format!("k[{n}]*"), "a", 9, 1)).collect();
        z.declare(&lines).await;
        expected.extend(lines.into_iter().map(|line| line.key));
    }
    world.mark("held", MarkChange::Hold(0)).await;
    expected.push(Key::new("held"));
    expected.sort();
    let (mut listed, mut cursor, mut pages) = (Vec::new(), "0".to_owned(), 0);
    loop {
        let page = world.store.bindings(0, &cursor).await.expect("page");
        listed.extend(page.bindings);
        pages += 1;
        match page.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert!(pages > 2, "{pages}");
    for (key, view) in &listed {
        assert_eq!(Some(view), world.binding(key.as_str()).await.as_ref());
    }
    let mut keys: Vec<Key> = listed.into_iter().map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys, expected);
}

fn locker(incarnation: &str, number: u64) -> Locker {
    Locker { incarnation: Incarnation::new(incarnation), number }
}

/// Who has it locked after that change.
async fn locked(world: &World, change: MarkChange) -> Option<Lock> {
    let lock = world.mark("anna", change).await.lock;
    assert_eq!(world.binding("anna").await.and_then(|view| view.lock), lock);
    lock
}

fn lock(locker: &Locker, left_ms: u64) -> Option<Lock> {
    Some(Lock { locker: locker.clone(), left_ms })
}

async fn a_lock_keeps_logins_waiting_until_its_owner_ends_it_or_lets_it_lapse(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let own = locker("z", 1);
    assert_eq!(locked(&world, MarkChange::Lock(own.clone(), 5000)).await, lock(&own, 5000));
    assert_eq!(z.claim(claim("anna")).await, HOLD);
    world.pass(4000, &mut [&mut z]).await;
    assert_eq!(locked(&world, MarkChange::Renew(own.clone(), 5000)).await, lock(&own, 5000));
    world.pass(4999, &mut [&mut z]).await;
    assert_eq!(z.claim(claim("anna")).await, HOLD);
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(world.binding("anna").await, None);
    assert_eq!(z.bind("anna", 0).await, "a");
    z.release("anna").await;
    locked(&world, MarkChange::Lock(own.clone(), 5000)).await;
    assert_eq!(z.claim(claim("anna")).await, HOLD);
    assert_eq!(locked(&world, MarkChange::Unlock(own)).await, None);
    assert_eq!(z.bind("anna", 0).await, "a");
}

async fn a_lock_is_nobody_elses_and_a_hold_is_none(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let (own, same_proxy, other) = (locker("z", 1), locker("z", 2), locker("y", 1));
    let _y = world.welcome("y").await;
    locked(&world, MarkChange::Lock(own.clone(), 5000)).await;
    for stranger in [same_proxy, other] {
        assert_eq!(locked(&world, MarkChange::Lock(stranger.clone(), 9000)).await, lock(&own, 5000));
        assert_eq!(locked(&world, MarkChange::Renew(stranger.clone(), 9000)).await, lock(&own, 5000));
        assert_eq!(locked(&world, MarkChange::Unlock(stranger)).await, lock(&own, 5000));
    }
    // An operator's hold is another mark: neither ends with the other.
    world.mark("anna", MarkChange::Hold(0)).await;
    assert_eq!(locked(&world, MarkChange::Release).await, lock(&own, 5000));
    assert_eq!(z.claim(claim("anna")).await, HOLD);
    world.mark("anna", MarkChange::Hold(0)).await;
    assert_eq!(locked(&world, MarkChange::Unlock(own)).await, None);
    assert_eq!(z.claim(claim("anna")).await, HOLD);
}

async fn a_lock_that_has_lapsed_is_not_renewed(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let own = locker("z", 1);
    assert_eq!(locked(&world, MarkChange::Renew(own.clone(), 5000)).await, None, "it never was");
    locked(&world, MarkChange::Lock(own.clone(), 1000)).await;
    world.pass(1000, &mut [&mut z]).await;
    assert_eq!(locked(&world, MarkChange::Renew(own, 5000)).await, None);
    assert_eq!(z.bind("anna", 0).await, "a");
}

async fn a_lock_of_a_proxy_that_is_known_to_be_dead_is_taken_over(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    world.welcome("y").await;
    let (dead, next) = (locker("y", 1), locker("z", 1));
    locked(&world, MarkChange::Lock(dead.clone(), 600_000)).await;
    world.pass(20_000, &mut [&mut z]).await;
    z.reap("y").await;
    assert_eq!(locked(&world, MarkChange::Lock(next.clone(), 1000)).await, lock(&dead, 580_000), "an orphan may live");
    z.forget("y").await;
    z.reap("y").await;
    assert_eq!(locked(&world, MarkChange::Lock(next.clone(), 1000)).await, lock(&next, 1000));
    assert_eq!(locked(&world, MarkChange::Renew(dead, 1000)).await, lock(&next, 1000));
}
