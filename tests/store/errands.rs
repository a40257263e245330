//! ask, answer, answers: what every proxy is to do once and to report on. And nudges, which say that it is urgent.

use std::time::Duration;

use homing::model::{BackendId, Incarnation};
use homing::store::*;
use tokio::time::timeout;

use crate::orders::*;
use crate::stage::*;

contract!(
    errands_are_heard_until_they_are_taken_on,
    numbers_of_errands_grow_also_after_old_ones_are_over,
    numbers_of_errands_are_above_what_any_live_proxy_has_taken_on,
    an_errand_is_over_with_its_time,
    answers_name_those_who_are_silent,
    at_most_ten_errands_come_at_once,
    a_kick_nudges_its_holders_and_nobody_else,
    what_concerns_all_nudges_all,
    what_proxies_report_is_seen,
    a_hello_says_which_errands_were_taken_on,
);

async fn told(peer: &mut Peer, errand: u64) -> Vec<(u64, String)> {
    match peer.call(Request::Heartbeat(Heartbeat { asserted: true, errand, ..Heartbeat::default() })).await {
        Reply::Heartbeat(beat) => beat.errands,
        other => panic!("heartbeat: {other:?}"),
    }
}

async fn errands_are_heard_until_they_are_taken_on(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let (first, live) = world.ask("kick *@example.org\nnow", 60_000).await;
    assert_eq!(live, ["y", "z"].map(Incarnation::new));
    let (second, _) = world.ask("", 60_000).await;
    let both = [(first, "kick *@example.org\nnow".to_owned()), (second, String::new())];
    assert_eq!((told(&mut z, 0).await, told(&mut z, 0).await), (both.to_vec(), both.to_vec()));
    assert_eq!(told(&mut z, first).await, both[1..]);
    assert_eq!(told(&mut z, second).await, []);
    assert_eq!(told(&mut y, 0).await, both, "each for itself");
    assert_eq!(world.proxy("z").await.expect("z").errand, second);
}

async fn numbers_of_errands_grow_also_after_old_ones_are_over(stage: Stage) {
    let (world, _z) = stage.pair().await;
    let mut last = 0;
    for _ in 0..5 {
        let (errand, _) = world.ask("x", 1).await;
        assert!(errand > last);
        last = errand;
    }
    world.server.set_ms(world.server.ms() + 2);
    assert!(world.ask("x", 1).await.0 > last);
}

async fn numbers_of_errands_are_above_what_any_live_proxy_has_taken_on(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let (old, _) = world.ask("x", 60_000).await;
    assert_eq!((told(&mut z, 0).await.len(), told(&mut y, 0).await.len()), (1, 1));
    // All is lost, and the server that takes over has a clock an hour behind.
    world.flush().await;
    world.server.set_ms(world.server.ms() - 3_600_000);
    z.hello().await;
    y.hello().await;
    assert_eq!((told(&mut z, 0).await.len(), told(&mut y, old).await.len()), (0, 0));
    let (errand, _) = world.ask("y", 60_000).await;
    assert_eq!(errand, old + 1);
    assert_eq!(told(&mut y, old).await, [(errand, "y".to_owned())], "it is not taken for one that was done");
}

async fn an_errand_is_over_with_its_time(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let (errand, _) = world.ask("x", 5000).await;
    let answer = Order::Answer { errand, incarnation: Incarnation::new("z"), text: "done".to_owned() };
    assert_eq!(world.order(answer.clone()).await, Outcome::Done);
    world.pass(4999, &mut [&mut z]).await;
    assert_eq!((told(&mut z, 0).await.len(), world.answers(errand).await.len()), (1, 1));
    world.pass(1, &mut [&mut z]).await;
    assert_eq!((told(&mut z, 0).await, world.answers(errand).await), (vec![], vec![]));
    assert_eq!(world.order(answer).await, Outcome::Done, "too late, and no matter");
}

async fn answers_name_those_who_are_silent(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let (errand, _) = world.ask("x", 60_000).await;
    for text in ["half", "3 sessions closed"] {
        let incarnation = Incarnation::new("y");
        world.order(Order::Answer { errand, incarnation, text: text.to_owned() }).await;
    }
    let said = (Incarnation::new("y"), Some("3 sessions closed".to_owned()));
    let silent = |name| (Incarnation::new(name), None);
    assert_eq!(world.answers(errand).await, [said.clone(), silent("z")]);
    let _x = world.welcome("x").await;
    assert_eq!(world.answers(errand).await, [silent("x"), said.clone(), silent("z")]);
    y.forget("z").await;
    z.hello().await;
    z.forget("y").await;
    assert_eq!(world.answers(errand).await, [silent("x"), said, silent("z")], "what was said stays");
    assert_eq!(world.answers(errand + 1).await, []);
}

async fn at_most_ten_errands_come_at_once(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    for n in 0..12 {
        world.ask(&format!("{n}"), 60_000).await;
    }
    let first = told(&mut z, 0).await;
    assert_eq!((first.len(), first[9].1.as_str()), (10, "9"));
    assert_eq!(told(&mut z, first[9].0).await.len(), 2);
}

async fn listen(world: &World, incarnation: &str) -> Box<dyn Nudges> {
    world.store.nudges(0, &Incarnation::new(incarnation)).await.expect("ears")
}

async fn hears(nudges: &mut Box<dyn Nudges>) {
    let heard = timeout(Duration::from_secs(10), nudges.next()).await;
    heard.expect("a nudge in time").expect("a nudge");
}

async fn a_kick_nudges_its_holders_and_nobody_else(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let _y = world.welcome("y").await;
    z.bind("anna", 0).await;
    let (mut at_z, mut at_y) = (listen(&world, "z").await, listen(&world, "y").await);
    world.begin(moving("anna", Target::Stay)).await;
    hears(&mut at_z).await;
    world.ask("x", 1000).await;
    hears(&mut at_y).await;
    // What was said to z came before what was said to all, so y would have heard it by now.
    assert!(timeout(Duration::ZERO, at_y.next()).await.is_err(), "the kick was none of its business");
}

async fn what_concerns_all_nudges_all(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    let mut ears = [listen(&world, "z").await, listen(&world, "y").await];
    world.ask("x", 1000).await;
    for ear in &mut ears {
        hears(ear).await;
    }
    let version = z.set_table(&[("a", up()), ("b", up()), ("c", up())]).await;
    for ear in &mut ears {
        hears(ear).await;
    }
    world.order(Order::Copy(Table { version: version + 1, rows: table(&[("a", up()), ("b", up())]) })).await;
    for ear in &mut ears {
        hears(ear).await;
    }
    let beat = Heartbeat { asserted: true, failing: Some(vec![BackendId::new("a")]), ..Heartbeat::default() };
    z.call(Request::Heartbeat(beat.clone())).await;
    y.call(Request::Heartbeat(beat)).await;
    for ear in &mut ears {
        hears(ear).await;
    }
}

async fn what_proxies_report_is_seen(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let left = |(name, pinned)| Left { backend: BackendId::new(name), keys: 3, pinned };
    let left = [("b", 2), ("a \"quoted\" ä", 1)].map(left).to_vec();
    let failing = Some(vec![BackendId::new("b"), BackendId::new("\u{1}]"), BackendId::new("b")]);
    let beat = Heartbeat { asserted: true, left: left.clone(), failing, errand: 7, ..Heartbeat::default() };
    z.call(Request::Heartbeat(beat)).await;
    let view = world.proxy("z").await.expect("z");
    assert_eq!((view.left, view.errand), (left, 7));
    assert_eq!(view.failing, [BackendId::new("\u{1}]"), BackendId::new("b")]);
}

async fn a_hello_says_which_errands_were_taken_on(stage: Stage) {
    let (mut world, mut z) = stage.pair().await;
    let (old, _) = world.ask("x", 60_000).await;
    // All is lost, and the server that takes over has a clock an hour behind.
    world.flush().await;
    world.server.set_ms(world.server.ms() - 3_600_000);
    z.errand = old;
    z.hello().await;
    assert_eq!(world.proxy("z").await.expect("z").errand, old);
    assert_eq!(world.ask("y", 60_000).await.0, old + 1, "before its first heartbeat");
}

/// What stands in the server is read by versions that do not know how many are pinned, and written by them.
#[tokio::test]
async fn what_is_left_to_do_is_understood_by_an_older_version_and_of_one() {
    let (mut world, mut z) = Stage::Redis.pair().await;
    let left = vec![Left { backend: BackendId::new("b"), keys: 3, pinned: 2 }];
    z.call(Request::Heartbeat(Heartbeat { asserted: true, left, ..Heartbeat::default() })).await;
    let Back::Redis(namespace) = &mut world.back else { panic!("it is Redis") };
    let name = namespace.keys().await.into_iter().find(|key| key.ends_with("}:p:z")).expect("what is known of z");
    let written: String = namespace.ask(::redis::cmd("HGET").arg(&name).arg("left")).await;
    assert_eq!(written, r#"[["b",3]]"#);
    namespace.ask::<u64>(::redis::cmd("HDEL").arg(&name).arg("pinned")).await;
    namespace.ask::<u64>(::redis::cmd("HSET").arg(&name).arg("left").arg(r#"[["b",0],["c",4]]"#)).await;
    let left = |(name, keys)| Left { backend: BackendId::new(name), keys, pinned: 0 };
    assert_eq!(world.proxy("z").await.expect("z").left, [("b", 0), ("c", 4)].map(left));
}
