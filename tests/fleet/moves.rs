//! Users are moved, kicked, held and pinned while they are at work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homing::model::{BackendId, Ending, Key, Refusal};
use homing::placement::{MoveEnd, MoveReport, MoveWish, Moves, Next, Refused};
use homing::store::Rules;

use crate::harness::script::Does;
use crate::harness::wait::whether;
use crate::harness::{Proxy, Script, Session, Stage, Weather, eventually, stage, throughout};

const SOON: Duration = Duration::from_secs(60);

fn rules() -> Rules {
    Rules { kick_delay: 300, hook_lease: 1000, orphan_grace: 60_000, ..stage::rules() }
}

fn wish(to: &str) -> MoveWish {
    MoveWish { to: Some(BackendId::new(to)), force: false, hook: true, wait: true }
}

async fn move_to(moves: Arc<Moves>, key: &str, to: &str) -> Result<MoveReport, Refused> {
    moves.move_user(&Key::new(key), &wish(to)).await
}

/// Three proxies over two backends.
async fn three(stage: &Stage) -> [Proxy; 3] {
    [stage.proxy("p1", "b1 b2").await, stage.proxy("p2", "b1 b2").await, stage.proxy("p3", "b1 b2").await]
}

/// A session of that user at each; all are at the first one's backend.
async fn at_each(proxies: &[&Proxy], key: &str) -> Vec<Session> {
    let mut open = Vec::new();
    for proxy in proxies {
        open.push(proxy.log_in(key).await.unwrap());
    }
    assert!(open.iter().all(|session| session.backend() == open[0].backend()));
    open
}

fn other(backend: &str) -> &'static str {
    if backend == "b1" { "b2" } else { "b1" }
}

fn names(report: &MoveReport) -> Vec<(String, u32)> {
    report.left.iter().map(|who| (who.name.clone().unwrap(), who.sessions)).collect()
}

#[tokio::test]
async fn i1_a_move_waits_for_the_end_of_every_session_and_then_logins_that_waited_go_to_the_new_home() {
    let stage = Stage::new(rules());
    let [one, two, three] = three(&stage).await;
    let open = at_each(&[&one, &two, &three], "ann").await;
    let (old, new) = (open[0].backend().to_owned(), other(open[0].backend()));
    three.backends_close_after(Duration::from_millis(900));
    let began = Instant::now();
    let moving = one.operate(|moves| move_to(moves, "ann", new));
    eventually("the move has begun", SOON, async || whether(stage.census().await.moving == 1, || "not yet".to_owned()))
        .await;
    let home_stays = async || {
        let sessions = stage.witness.now().0.get(&Key::new("ann")).copied().unwrap_or(0);
        let home = stage.home("ann").await.unwrap();
        whether(sessions == 0 || home == old, || format!("{sessions} sessions at {old}, and the home is {home}"))
    };
    let left = async { eventually("one is left", SOON, async || one_is_left(&stage).await).await };
    throughout("the home stays while sessions last", left, home_stays).await;
    let (late, later) = tokio::join!(one.log_in("ann"), two.log_in("ann"));
    let (late, later) = (late.unwrap(), later.unwrap());
    assert!(began.elapsed() >= Duration::from_millis(1200), "let in after {:?}", began.elapsed());
    assert_eq!((late.backend(), later.backend()), (new, new));
    let report = moving.await.unwrap().unwrap();
    assert_eq!((report.end, report.proxies, report.sessions, report.left), (MoveEnd::Done, 3, 3, vec![]));
    assert_eq!((report.from.unwrap().as_str(), report.home.unwrap().as_str()), (old.as_str(), new));
    for session in open {
        assert_eq!(session.gone().await, Some(Ending::Kicked));
    }
    stage.witness.swears_one_home();
    stage.counts_agree(&[&one, &two, &three], &["ann".to_owned()]).await;
}

async fn one_is_left(stage: &Stage) -> Result<(), String> {
    let sessions = stage.witness.now().0.get(&Key::new("ann")).copied().unwrap_or(0);
    whether(sessions == 1, || format!("{sessions} sessions"))
}

#[tokio::test]
async fn i1_a_silent_proxy_is_named_and_the_move_given_up_and_logins_meanwhile_get_a_temporary_failure() {
    let mut stage = Stage::new(Rules { lease: 10_000, ..rules() });
    (stage.move_timeout, stage.login_wait) = (Duration::from_secs(8), Duration::from_secs(1));
    let [one, two, three] = three(&stage).await;
    let open = at_each(&[&two, &three], "ann").await;
    let (old, new) = (open[0].backend().to_owned(), other(open[0].backend()));
    stage.counts_agree(&[&one, &two, &three], &["ann".to_owned()]).await;
    three.road.set(Weather::Silent);
    let moving = one.operate(|moves| move_to(moves, "ann", new));
    eventually("the move has begun", SOON, async || whether(stage.census().await.moving == 1, || "not yet".to_owned()))
        .await;
    assert_eq!(one.log_in("ann").await.err(), Some(Refusal::HomeUnsettled));
    assert_eq!(stage.census().await.moving, 1, "it was told before the end of the move");
    let report = moving.await.unwrap().unwrap();
    assert!(matches!(&report.end, MoveEnd::Cancelled(why) if why.contains("in time")), "{:?}", report.end);
    assert!(report.took >= stage.move_timeout && report.took < stage.move_timeout + SOON, "{:?}", report.took);
    assert_eq!((names(&report), report.proxies, report.sessions), (vec![("p3".to_owned(), 1)], 2, 2));
    assert_eq!(stage.home("ann").await.as_deref(), Some(old.as_str()));
    let again = one.log_in("ann").await.unwrap();
    assert_eq!((again.backend(), open[1].ended()), (old.as_str(), None));
    stage.witness.swears_one_home();
    three.road.set(Weather::Fair);
    stage.counts_agree(&[&one, &two, &three], &["ann".to_owned()]).await;
    assert_eq!(open[1].ended(), None, "the move was given up: whoever has not closed keeps the session");
}

#[tokio::test]
async fn an_orphan_that_keeps_a_user_is_named_as_such_and_forgetting_it_lets_the_move_go_on() {
    let mut stage = Stage::new(rules());
    stage.move_timeout = Duration::from_secs(6);
    let [one, two, dead] = three(&stage).await;
    let open = at_each(&[&two, &dead], "ann").await;
    let new = other(open[0].backend());
    stage.counts_agree(&[&one, &two, &dead], &["ann".to_owned()]).await;
    let refused = one.operate(|moves| async move { moves.forget_proxy("p3", false).await }).await.unwrap().unwrap();
    assert_eq!((refused.freed.len(), refused.alive.len()), (0, 1), "it lives");
    dead.kill();
    eventually("it is an orphan", SOON, async || {
        let census = stage.census().await;
        whether(census.proxies.iter().any(|proxy| proxy.orphan && proxy.name == "p3"), || format!("{census:?}"))
    })
    .await;
    let report = one.operate(|moves| move_to(moves, "ann", new)).await.unwrap().unwrap();
    assert!(matches!(report.end, MoveEnd::Cancelled(_)), "{:?}", report.end);
    assert_eq!(names(&report), [("p3".to_owned(), 1)]);
    let left = report.left[0].orphan_ms.unwrap();
    assert!((30_000..60_000).contains(&left), "freed in {left} ms");
    let freed = two.operate(|moves| async move { moves.forget_proxy("p3", false).await }).await.unwrap().unwrap();
    assert_eq!((freed.freed.len(), freed.alive.len()), (1, 0));
    let report = one.operate(|moves| move_to(moves, "ann", new)).await.unwrap().unwrap();
    assert_eq!(report.end, MoveEnd::Done);
    assert_eq!(stage.home("ann").await.as_deref(), Some(new));
}

#[tokio::test]
async fn a_move_ends_although_the_proxy_that_ran_it_is_killed_in_the_middle() {
    let stage = Stage::new(rules());
    let [one, two, three] = three(&stage).await;
    let open = at_each(&[&two, &three], "ann").await;
    let new = other(open[0].backend());
    three.backends_close_after(Duration::from_millis(600));
    let moving = one.operate(|moves| move_to(moves, "ann", new));
    eventually("the move has begun", SOON, async || whether(stage.census().await.moving == 1, || "not yet".to_owned()))
        .await;
    one.kill();
    assert!(moving.await.is_err(), "it has died with its proxy");
    eventually("the move is over without any login", SOON, async || {
        let (home, moving) = (stage.home("ann").await, stage.census().await.moving);
        whether(home.as_deref() == Some(new) && moving == 0, || format!("{home:?}, {moving} moving"))
    })
    .await;
    assert_eq!(two.log_in("ann").await.unwrap().backend(), new);
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn a_proxy_that_goes_down_takes_no_more_duties() {
    let stage = Stage::new(Rules { kick_delay: 0, ..rules() });
    let [one, two, three] = three(&stage).await;
    let open = at_each(&[&two], "ann").await;
    let new = other(open[0].backend());
    [&one, &two, &three].iter().for_each(|proxy| proxy.closing.cancel());
    let wish = MoveWish { wait: false, ..wish(new) };
    let begun = one.operate(|moves| async move { moves.move_user(&Key::new("ann"), &wish).await });
    assert_eq!(begun.await.unwrap().unwrap().end, MoveEnd::Begun);
    open.into_iter().next().unwrap().gone().await;
    three.road.beats(10).await;
    assert_eq!(stage.census().await.moving, 1, "somebody has looked after it");
    // Whoever logs in opens the new home, too.
    assert_eq!(two.log_in("ann").await.unwrap().backend(), new);
}

#[tokio::test]
async fn the_hook_runs_once_when_nobody_is_left_and_before_the_new_home_opens() {
    let mut stage = Stage::new(rules());
    let script = Script::new(Does::Succeed);
    stage.hook = Some(script.clone());
    let [one, two, three] = three(&stage).await;
    for n in 0..5 {
        let name = format!("user{n}");
        let open = at_each(&[&one, &two, &three], &name).await;
        let (old, new) = (open[0].backend().to_owned(), other(open[0].backend()));
        let report = one.operate(|moves| async move { move_to(moves, &name, new).await }).await.unwrap().unwrap();
        assert_eq!(report.end, MoveEnd::Done);
        let runs = script.runs();
        assert_eq!(runs.len(), n + 1, "{runs:?}");
        let turn = &runs[n].1;
        assert_eq!(turn.from.as_str(), old);
        assert_eq!(turn.to.as_ref().unwrap().as_str(), new);
        assert_eq!((turn.again, turn.from_up, turn.from_weight.get()), (false, true, 100));
    }
    let none = MoveWish { hook: false, ..wish("b1") };
    one.operate(|moves| async move { moves.move_user(&Key::new("user0"), &none).await }).await.unwrap().unwrap();
    assert_eq!(script.runs().len(), 5, "--no-hook");
}

#[tokio::test]
async fn a_hook_whose_runner_dies_is_run_again_by_another_who_is_told_so() {
    let mut stage = Stage::new(rules());
    let script = Script::new(Does::HangOnce);
    stage.hook = Some(script.clone());
    let proxies = three(&stage).await;
    let open = proxies[1].log_in("ann").await.unwrap();
    let new = other(open.backend());
    drop(open);
    let wish = MoveWish { wait: false, ..wish(new) };
    proxies[0].operate(|moves| async move { moves.move_user(&Key::new("ann"), &wish).await }).await.unwrap().unwrap();
    eventually("somebody runs the hook", SOON, async || {
        whether(script.runs().len() == 1, || format!("{:?}", script.runs()))
    })
    .await;
    let first = script.runs()[0].0.clone();
    proxies.iter().find(|proxy| proxy.name == first).unwrap().kill();
    eventually("the new home is open", SOON, async || {
        let home = stage.home("ann").await;
        whether(home.as_deref() == Some(new), || format!("{home:?}"))
    })
    .await;
    let runs = script.runs();
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_ne!(runs[1].0, first);
    assert_eq!((runs[0].1.again, runs[1].1.again), (false, true));
}

#[tokio::test]
async fn a_hook_that_fails_leaves_the_user_at_home_and_its_reason_is_told() {
    let mut stage = Stage::new(rules());
    let script = Script::new(Does::Fail);
    stage.hook = Some(script.clone());
    let proxy = stage.proxy("p1", "b1 b2").await;
    let open = proxy.log_in("ann").await.unwrap();
    let (old, new) = (open.backend().to_owned(), other(open.backend()));
    let report = proxy.operate(|moves| move_to(moves, "ann", new)).await.unwrap().unwrap();
    assert!(matches!(&report.end, MoveEnd::Cancelled(why) if why.contains("the script says no")), "{:?}", report.end);
    assert_eq!(open.gone().await, Some(Ending::Kicked));
    assert_eq!(proxy.log_in("ann").await.unwrap().backend(), old);
    assert_eq!(script.runs().len(), 1);
}

#[tokio::test]
async fn a_second_move_is_told_that_one_is_on_and_a_pin_that_would_undo_one_is_named() {
    let stage = Stage::new(rules());
    let proxy = stage.proxy("p1", "b1 b2").await;
    let open = proxy.log_in("ann").await.unwrap();
    let (old, new) = (open.backend().to_owned(), other(open.backend()));
    let moving = proxy.operate(|moves| move_to(moves, "ann", new));
    eventually("the move has begun", SOON, async || whether(stage.census().await.moving == 1, || "not yet".to_owned()))
        .await;
    let second = proxy.operate(|moves| move_to(moves, "ann", "b1")).await.unwrap();
    assert_eq!(second.unwrap_err(), Refused::Busy(Key::new("ann")));
    assert_eq!(moving.await.unwrap().unwrap().end, MoveEnd::Done);
    let back = BackendId::new(&old);
    let pin = back.clone();
    let pinned = proxy.operate(|moves| async move { moves.pin(&Key::new("ann"), &pin, true).await });
    let pinned = pinned.await.unwrap().unwrap();
    assert_eq!((pinned.home.as_ref(), pinned.moved.unwrap().end), (Some(&back), MoveEnd::Done));
    let away = proxy.operate(|moves| move_to(moves, "ann", new)).await.unwrap();
    assert_eq!(away.unwrap_err(), Refused::Pinned(Key::new("ann"), back));
    let nowhere = proxy.operate(|moves| move_to(moves, "bob", "b9")).await.unwrap().unwrap_err();
    assert!(nowhere.to_string().contains("there is no backend b9"), "{nowhere}");
}

#[tokio::test]
async fn a_kick_closes_everywhere_the_home_stays_and_logins_wait_for_the_kick_delay() {
    let stage = Stage::new(Rules { kick_delay: 1000, ..rules() });
    let [one, two, three] = three(&stage).await;
    let open = at_each(&[&one, &two, &three, &three], "ann").await;
    let home = open[0].backend().to_owned();
    stage.counts_agree(&[&one, &two, &three], &["ann".to_owned()]).await;
    let began = Instant::now();
    let report = one.operate(|moves| async move { moves.kick(&Key::new("ann"), true).await }).await.unwrap().unwrap();
    assert_eq!((report.end, report.proxies, report.sessions, report.left), (MoveEnd::Done, 3, 4, vec![]));
    for session in open {
        assert_eq!(session.gone().await, Some(Ending::Kicked));
    }
    assert_eq!(two.log_in("ann").await.unwrap().backend(), home);
    assert!(began.elapsed() >= Duration::from_secs(1), "let in after {:?}", began.elapsed());
    let nobody =
        one.operate(|moves| async move { moves.kick(&Key::new("nobody"), true).await }).await.unwrap().unwrap();
    assert_eq!((nobody.end, nobody.sessions), (MoveEnd::Done, 0));
}

#[tokio::test]
async fn a_held_user_stays_out_until_release_or_the_end_of_the_hold_and_is_out_when_it_says_so() {
    let mut stage = Stage::new(rules());
    stage.login_wait = Duration::from_secs(4);
    let [one, two, _three] = three(&stage).await;
    let open = at_each(&[&one], "ann").await;
    let ann = || Key::new("ann");
    stage.counts_agree(&[&one, &two], &["ann".to_owned()]).await;
    let held =
        two.operate(|moves| async move { moves.hold(&Key::new("ann"), None, false).await }).await.unwrap().unwrap();
    assert_eq!(
        held.holders.iter().map(|who| (who.name.as_deref(), who.sessions)).collect::<Vec<_>>(),
        [(Some("p1"), 1)]
    );
    assert_eq!(two.log_in("ann").await.err(), Some(Refusal::HomeUnsettled));
    let beside = one.log_in("ann").await.unwrap();
    assert_eq!(beside.place, open[0].place, "who is in has company");
    let out =
        two.operate(|moves| async move { moves.hold(&Key::new("ann"), None, true).await }).await.unwrap().unwrap();
    assert_eq!((out.holders.len(), out.moved.unwrap().end), (0, MoveEnd::Done));
    assert_eq!(stage.witness.now().0.get(&ann()).copied().unwrap_or(0), 0);
    assert_eq!(one.log_in("ann").await.err(), Some(Refusal::HomeUnsettled));
    one.operate(|moves| async move { moves.release(&Key::new("ann")).await }).await.unwrap().unwrap();
    assert_eq!(one.log_in("ann").await.unwrap().place.backend, open[0].place.backend);
    let short = Some(Duration::from_millis(300));
    one.operate(move |moves| async move { moves.hold(&Key::new("bob"), short, false).await }).await.unwrap().unwrap();
    one.log_in("bob").await.unwrap();
}

#[tokio::test]
async fn explain_foretells_where_the_store_puts_a_login() {
    let stage = Stage::new(Rules { user_expire: 100, ..rules() });
    let proxy = stage.proxy("p1", "b1 b2 b3").await;
    let foretell = async |name: &str| {
        let key = Key::new(name);
        proxy.operate(move |moves| async move { moves.explain(&key, None).await }).await.unwrap().unwrap()
    };
    let (mut open, mut seen) = (Vec::new(), BTreeMap::<String, u32>::new());
    for n in 0..60 {
        // Half of them are new, the others return after they have expired.
        let name = format!("user{}", n % 30);
        let told = foretell(&name).await;
        let Next::Goes(backend, _) = told.next else { panic!("{:?}", told.next) };
        let session = proxy.log_in(&name).await.unwrap();
        assert_eq!(session.backend(), backend.as_str(), "{name}, the {n}th");
        *seen.entry(backend.to_string()).or_default() += 1;
        if n % 3 == 0 {
            open.push(session)
        } else {
            session.leave().await
        }
        eventually("the store has heard", SOON, async || {
            whether(proxy.ledger().holding().dirty == 0, || "not yet".to_owned())
        })
        .await;
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    let hold = proxy.operate(|moves| async move { moves.hold(&Key::new("user1"), None, false).await });
    hold.await.unwrap().unwrap();
    assert!(matches!(foretell("user1").await.next, Next::Waits(why) if why.contains("holds")));
}

/// The figures that operators feel. Printed; the bounds are for the quickest, since a busy machine holds up many.
#[tokio::test]
async fn kicks_and_moves_take_effect_in_milliseconds() {
    let stage = Stage::new(Rules { user_expire: 60_000, ..rules() });
    let [one, two, three] = three(&stage).await;
    let (mut closed, mut kicks, mut moves) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..15 {
        let name = format!("kicked{n}");
        let open = at_each(&[&one, &two, &three], &name).await;
        let key = Key::new(&name);
        stage.counts_agree(&[&one, &two, &three], &[name]).await;
        let began = Instant::now();
        let kick = one.operate(|moves| async move { moves.kick(&key, true).await });
        for session in open {
            assert_eq!(session.gone().await, Some(Ending::Kicked));
        }
        closed.push(began.elapsed());
        let report = kick.await.unwrap().unwrap();
        assert_eq!((report.end, report.sessions), (MoveEnd::Done, 3));
        kicks.push(report.took);
    }
    for n in 0..15 {
        let name = format!("idle{n}");
        let session = one.log_in(&name).await.unwrap();
        let new = other(session.backend());
        session.leave().await;
        stage.counts_agree(&[&one, &two, &three], std::slice::from_ref(&name)).await;
        let report = two.operate(|moves| async move { move_to(moves, &name, new).await }).await.unwrap().unwrap();
        assert_eq!(report.end, MoveEnd::Done);
        moves.push(report.took.saturating_sub(Duration::from_millis(stage.rules.kick_delay)));
    }
    let quickest = |what: &str, mut spans: Vec<Duration>| {
        spans.sort();
        println!("{what}: shortest {:?}, median {:?}, longest {:?}", spans[0], spans[spans.len() / 2], spans.last());
        spans[0]
    };
    let closed = quickest("kick of 3 sessions at 3 proxies until all are closed", closed);
    let kicks = quickest("and until the operator is told so", kicks);
    let moves = quickest("move of an idle user, beyond the kick delay", moves);
    assert!(closed < Duration::from_millis(300), "{closed:?}");
    assert!(kicks.max(moves) < Duration::from_millis(500), "{kicks:?}, {moves:?}");
}
