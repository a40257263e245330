//! The hook of a move: it runs once, between the end of the old home and the beginning of the new.

use homing::store::*;

use crate::orders::*;
use crate::stage::*;

contract!(
    a_hook_runs_once_when_nobody_is_left,
    a_hook_that_failed_cancels_the_move,
    somebody_else_takes_a_hook_over_once_its_time_is_over,
    only_the_word_of_whoever_runs_the_hook_counts,
    a_hook_that_nobody_ran_in_time_is_not_run_any_more,
    a_session_that_comes_back_while_the_hook_runs_is_waited_for,
);

fn run(again: bool) -> Settled {
    Settled::Run { from: homing::model::BackendId::new("a"), to: to("b"), again }
}

fn waiting(left_ms: u64) -> Settled {
    Settled::Waiting { holders: vec![], left_ms }
}

/// Anna is at `a`, nobody is there any more, and she is to be moved to `b` behind a hook.
async fn emptied(stage: Stage) -> (World, Peer) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    world.begin(Move { hook: true, ..moving("anna", to("b")) }).await;
    assert_eq!(z.beat().await.moves, []);
    z.release("anna").await;
    (world, z)
}

async fn hook_state(world: &World) -> Option<HookState> {
    world.binding("anna").await.expect("binding").moving.map(|moving| moving.hook)
}

async fn a_hook_runs_once_when_nobody_is_left(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    z.bind("anna", 0).await;
    world.begin(Move { hook: true, ..moving("anna", to("b")) }).await;
    let held = Settled::Waiting { holders: vec![holder("z", 1, None)], left_ms: 60_000 };
    assert_eq!(world.settle("anna", "z", None).await, held);
    z.release("anna").await;
    assert_eq!((z.beat().await.moves.len(), hook_state(&world).await), (1, Some(HookState::Pending)));
    assert_eq!(world.settle("anna", "z", None).await, run(false));
    assert_eq!((z.beat().await.moves.len(), hook_state(&world).await), (0, Some(HookState::Running)));
    assert_eq!(world.settle("anna", "y", None).await, waiting(60_000));
    world.pass(3000, &mut [&mut z]).await;
    assert_eq!(z.claim(claim("anna")).await, MOVING, "the kick delay is over, but not the hook");
    let Settled::Done { backend, .. } = world.settle("anna", "z", Some(true)).await else { panic!("not done") };
    assert_eq!((backend.as_str(), z.bind("anna", 0).await.as_str()), ("b", "b"));
}

async fn a_hook_that_failed_cancels_the_move(stage: Stage) {
    let (world, mut z) = emptied(stage).await;
    world.settle("anna", "z", None).await;
    let cancelled = Settled::Cancelled { why: Cancelled::Hook, holders: vec![] };
    assert_eq!(world.settle("anna", "z", Some(false)).await, cancelled);
    assert_eq!(z.bind("anna", 0).await, "a");
    assert_eq!(world.former_homes("anna").await, []);
}

async fn somebody_else_takes_a_hook_over_once_its_time_is_over(stage: Stage) {
    let (world, mut z) = emptied(stage).await;
    assert_eq!(world.settle("anna", "y", None).await, run(false));
    world.pass(39_999, &mut [&mut z]).await;
    assert_eq!((world.settle("anna", "z", None).await, z.beat().await.moves), (waiting(20_001), vec![]));
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(z.beat().await.moves.len(), 1, "somebody should look after it");
    assert_eq!(world.settle("anna", "z", None).await, run(true));
    assert_eq!(world.settle("anna", "y", Some(false)).await, waiting(20_000), "y was given up");
    world.pass(30_000, &mut [&mut z]).await;
    assert!(matches!(world.settle("anna", "z", Some(true)).await, Settled::Done { .. }), "late, but done");
}

async fn only_the_word_of_whoever_runs_the_hook_counts(stage: Stage) {
    let (world, _z) = emptied(stage).await;
    assert_eq!(world.settle("anna", "x", Some(false)).await, run(false), "nobody was told to run it: x is now");
    for verdict in [true, false] {
        assert_eq!(world.settle("anna", "y", Some(verdict)).await, waiting(60_000));
    }
    let done = world.settle("anna", "x", Some(true)).await;
    assert!(matches!(done, Settled::Done { .. }), "at once, for the hook has done what the delay is for: {done:?}");
}

async fn a_hook_that_nobody_ran_in_time_is_not_run_any_more(stage: Stage) {
    let (world, mut z) = emptied(stage).await;
    world.pass(60_000, &mut [&mut z]).await;
    let cancelled = Settled::Cancelled { why: Cancelled::Deadline, holders: vec![] };
    assert_eq!(world.settle("anna", "z", None).await, cancelled);
    assert_eq!(z.bind("anna", 0).await, "a");
}

async fn a_session_that_comes_back_while_the_hook_runs_is_waited_for(stage: Stage) {
    let (world, mut z) = emptied(stage).await;
    world.settle("anna", "z", None).await;
    let mut y = world.welcome("y").await;
    assert_eq!(y.declare(&[declared("anna", "a", 1, 1)]).await.len(), 1, "a stray from before");
    let held = Settled::Waiting { holders: vec![holder("y", 1, None)], left_ms: 60_000 };
    assert_eq!(world.settle("anna", "z", Some(true)).await, held);
    y.release("anna").await;
    world.pass(1999, &mut [&mut z]).await;
    assert_eq!(z.claim(claim("anna")).await, MOVING);
    world.pass(1, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "b");
}
