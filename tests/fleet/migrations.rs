//! Mailboxes go to another backend, and whatever fails leaves the user where the mailbox is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use homing::config::MovesConfig;
use homing::fleet::{Hook, HookTurn};
use homing::model::{BackendId, Ending, Key};
use homing::placement::{Migration, MigrationReport, MigrationStep, MoveEnd, MoveWish, Quiet};
use homing::store::{Move, Order, Rules, Store, Target};
use tokio::sync::Semaphore;

use crate::harness::script::Does;
use crate::harness::wait::whether;
use crate::harness::{Proxy, Script, Stage, eventually, stage};

const SOON: Duration = Duration::from_secs(60);

fn rules() -> Rules {
    Rules { kick_delay: 200, orphan_grace: 60_000, ..stage::rules() }
}

fn to(backend: &str, script: &Arc<Script>) -> Migration {
    let copy = Some(script.at("the migration") as Arc<dyn Hook>);
    Migration { to: BackendId::new(backend), copy, quiet: None, pin: false }
}

async fn migrate(proxy: &Proxy, key: &str, migration: Migration) -> MigrationReport {
    let key = Key::new(key);
    proxy.operate(move |moves| async move { moves.migrate(&key, &migration).await }).await.unwrap()
}

fn other(backend: &str) -> &'static str {
    if backend == "b1" { "b2" } else { "b1" }
}

/// Whether a lock is on, for how many milliseconds, and which pin.
async fn marks(stage: &Stage, key: &str) -> (Option<u64>, Option<String>) {
    let view = stage.memory.binding(0, &Key::new(key)).await.unwrap().unwrap_or_default();
    (view.lock.map(|lock| lock.left_ms), view.pin.map(|pin| pin.to_string()))
}

/// A copy that takes until somebody says so.
struct Gate {
    inside: AtomicU32,
    most: AtomicU32,
    opened: Semaphore,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { inside: AtomicU32::new(0), most: AtomicU32::new(0), opened: Semaphore::new(0) })
    }

    /// Lets one through.
    fn open(&self) {
        self.opened.add_permits(1);
    }

    async fn entered(&self, by: u32) {
        eventually("the copy is on", SOON, async || {
            let inside = self.inside.load(Relaxed);
            whether(inside == by, || format!("{inside} are inside"))
        })
        .await;
    }
}

#[async_trait]
impl Hook for Gate {
    async fn run(&self, _: &HookTurn) -> Result<(), String> {
        let inside = self.inside.fetch_add(1, Relaxed) + 1;
        self.most.fetch_max(inside, Relaxed);
        self.opened.acquire().await.unwrap().forget();
        self.inside.fetch_sub(1, Relaxed);
        Ok(())
    }
}

fn through(backend: &str, gate: &Arc<Gate>) -> Migration {
    Migration { to: BackendId::new(backend), copy: Some(gate.clone() as Arc<dyn Hook>), quiet: None, pin: false }
}

#[tokio::test]
async fn a_migration_ends_all_sessions_copies_once_and_opens_the_new_home_to_who_waited() {
    let stage = Stage::new(rules());
    let (one, two) = (stage.proxy("p1", "b1 b2").await, stage.proxy("p2", "b1 b2").await);
    let script = Script::new(Does::Succeed);
    let (first, second) = (one.log_in("ann").await.unwrap(), two.log_in("ann").await.unwrap());
    let (old, new) = (first.backend().to_owned(), other(first.backend()));
    stage.counts_agree(&[&one, &two], &["ann".to_owned()]).await;
    let (report, waited) = tokio::join!(migrate(&one, "ann", to(new, &script)), async {
        eventually("it is held", SOON, async || {
            whether(marks(&stage, "ann").await.0.is_some(), || "not yet".to_owned())
        })
        .await;
        eventually("nobody is in", SOON, async || {
            whether(two.ledger().holding().sessions == 0, || "somebody".to_owned())
        })
        .await;
        two.log_in("ann").await
    });
    assert_eq!(report.failed, None);
    assert_eq!((report.closed, report.from.unwrap().as_str(), report.home.unwrap().as_str()), (2, old.as_str(), new));
    assert_eq!(waited.unwrap().backend(), new);
    assert_eq!((first.gone().await, second.gone().await), (Some(Ending::Kicked), Some(Ending::Kicked)));
    let runs = script.runs();
    assert_eq!((runs.len(), runs[0].1.from.as_str()), (1, old.as_str()));
    assert_eq!(marks(&stage, "ann").await, (None, None));
    stage.witness.swears_one_home();
    // To do it again changes nothing.
    assert_eq!(migrate(&two, "ann", to(new, &script)).await.failed, None);
    assert_eq!(script.runs().len(), 1);
}

#[tokio::test]
async fn a_copy_that_fails_lets_the_user_in_again_at_the_old_home_and_no_other_user_suffers() {
    let stage = Stage::new(rules());
    let proxy = stage.proxy("p1", "b1 b2").await;
    let (broken, sound) = (Script::new(Does::Fail), Script::new(Does::Succeed));
    let (ann, bob) = (proxy.log_in("ann").await.unwrap(), proxy.log_in("bob").await.unwrap());
    let (anns, bobs) = (ann.backend().to_owned(), other(bob.backend()));
    let (failed, done) =
        tokio::join!(migrate(&proxy, "ann", to(other(&anns), &broken)), migrate(&proxy, "bob", to(bobs, &sound)));
    assert_eq!(failed.failed, Some((MigrationStep::Copy, "the script says no".to_owned())));
    assert_eq!((failed.home.unwrap().as_str(), done.failed), (anns.as_str(), None));
    assert_eq!(marks(&stage, "ann").await, (None, None), "the hold is off");
    assert_eq!(proxy.log_in("ann").await.unwrap().backend(), anns);
    assert_eq!(proxy.log_in("bob").await.unwrap().backend(), bobs);
}

/// A mail server that does not let go.
struct Clings;

#[async_trait]
impl Quiet for Clings {
    async fn wait(&self, _: &Key, backend: &BackendId) -> Result<(), String> {
        Err(format!("{backend} has a process of the user"))
    }
}

#[tokio::test]
async fn a_mail_server_that_does_not_let_go_of_the_user_stops_the_migration_before_the_copy() {
    let stage = Stage::new(rules());
    let proxy = stage.proxy("p1", "b1 b2").await;
    let script = Script::new(Does::Succeed);
    let open = proxy.log_in("ann").await.unwrap();
    let migration = Migration { quiet: Some(Arc::new(Clings)), ..to(other(open.backend()), &script) };
    let report = migrate(&proxy, "ann", migration).await;
    assert!(matches!(report.failed, Some((MigrationStep::Kick, why)) if why.contains("has a process")));
    assert_eq!((script.runs().len(), marks(&stage, "ann").await.0), (0, None));
}

#[tokio::test]
async fn a_pin_goes_along_and_comes_back_with_a_failure() {
    let stage = Stage::new(rules());
    let proxy = stage.proxy("p1", "b1 b2").await;
    let open = proxy.log_in("ann").await.unwrap();
    let (old, new) = (BackendId::new(open.backend()), other(open.backend()));
    open.leave().await;
    let pin = old.clone();
    proxy.operate(|moves| async move { moves.pin(&Key::new("ann"), &pin, false).await }).await.unwrap().unwrap();
    let failed = migrate(&proxy, "ann", to(new, &Script::new(Does::Fail))).await;
    assert!(failed.failed.is_some());
    assert_eq!(marks(&stage, "ann").await.1.as_deref(), Some(old.as_str()));
    assert_eq!(migrate(&proxy, "ann", to(new, &Script::new(Does::Succeed))).await.failed, None);
    assert_eq!(marks(&stage, "ann").await.1.as_deref(), Some(new));
    assert_eq!(proxy.log_in("ann").await.unwrap().backend(), new);
}

#[tokio::test]
async fn what_cannot_be_done_disturbs_nobody() {
    let stage = Stage::new(rules());
    let proxy = stage.proxy("p1", "b1 b2").await;
    let script = Script::new(Does::Succeed);
    let open = proxy.log_in("ann").await.unwrap();
    let report = migrate(&proxy, "ann", to("b9", &script)).await;
    assert_eq!(report.failed, Some((MigrationStep::Check, "there is no backend b9".to_owned())));
    let report = migrate(&proxy, "stranger", to("b1", &script)).await;
    assert!(matches!(report.failed, Some((MigrationStep::Check, why)) if why.contains("not bound")));
    assert_eq!((open.ended(), script.runs().len()), (None, 0));
}

#[tokio::test]
async fn the_death_of_the_proxy_that_migrates_locks_nobody_out_for_long_and_another_finishes() {
    let stage = Stage::new(rules());
    let (one, two) = (stage.proxy("p1", "b1 b2").await, stage.proxy("p2", "b1 b2").await);
    let script = Script::new(Does::HangOnce);
    let open = two.log_in("ann").await.unwrap();
    let new = other(open.backend());
    let (key, migration) = (Key::new("ann"), to(new, &script));
    let migrating = one.operate(move |moves| async move { moves.migrate(&key, &migration).await });
    eventually("the copy is on", SOON, async || whether(script.runs().len() == 1, || "not yet".to_owned())).await;
    one.kill();
    assert!(migrating.await.is_err());
    let locked = marks(&stage, "ann").await.0.unwrap();
    assert!((1..=120_000).contains(&locked), "locked for {locked} ms");
    let early = migrate(&two, "ann", to(new, &script)).await;
    assert!(matches!(early.failed, Some((MigrationStep::Check, why)) if why.contains("is under way at p1")));
    // It may live, for all that is known, until the lock lapses or an operator says otherwise.
    two.operate(|moves| async move { moves.forget_proxy("p1", true).await }).await.unwrap().unwrap();
    let report = migrate(&two, "ann", to(new, &script)).await;
    assert_eq!((report.failed, script.runs().len()), (None, 2));
    assert_eq!(two.log_in("ann").await.unwrap().backend(), new);
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn a_second_migration_of_a_user_is_refused_and_nothing_lets_the_user_in_before_the_end_of_the_first() {
    let stage = Stage::new(rules());
    let (one, two) = (stage.proxy("p1", "b1 b2 b3").await, stage.proxy("p2", "b1 b2 b3").await);
    let open = one.log_in("ann").await.unwrap();
    let new = other(open.backend());
    let gate = Gate::new();
    let (key, migration) = (Key::new("ann"), through(new, &gate));
    let first = one.operate(move |moves| async move { moves.migrate(&key, &migration).await });
    gate.entered(1).await;
    let refused = "another migration or confirmed move of ann is under way at p1";
    for proxy in [&one, &two] {
        let second = migrate(proxy, "ann", through("b3", &Gate::new())).await;
        assert!(matches!(&second.failed, Some((MigrationStep::Check, why)) if why.starts_with(refused)), "{second:?}");
        let wish = MoveWish { to: Some(BackendId::new("b3")), force: false, hook: true, wait: true };
        let moved = proxy.operate(|moves| async move { moves.move_user(&Key::new("ann"), &wish).await });
        assert!(moved.await.unwrap().unwrap_err().to_string().starts_with(refused));
        let kicked = proxy.operate(|moves| async move { moves.kick(&Key::new("ann"), true).await });
        assert!(kicked.await.unwrap().unwrap_err().to_string().starts_with(refused));
    }
    // An operator's hold comes and goes: it is none of the migration's business, nor the other way round.
    two.operate(|moves| async move { moves.hold(&Key::new("ann"), None, false).await }).await.unwrap().unwrap();
    two.operate(|moves| async move { moves.release(&Key::new("ann")).await }).await.unwrap().unwrap();
    assert!(marks(&stage, "ann").await.0.is_some());
    two.operate(|moves| async move { moves.hold(&Key::new("ann"), None, false).await }).await.unwrap().unwrap();
    gate.open();
    assert_eq!(first.await.unwrap().failed, None);
    let view = stage.memory.binding(0, &Key::new("ann")).await.unwrap().unwrap();
    assert_eq!((view.lock, view.hold_ms), (None, Some(0)), "the operator's hold is still on");
    two.operate(|moves| async move { moves.release(&Key::new("ann")).await }).await.unwrap().unwrap();
    assert_eq!(two.log_in("ann").await.unwrap().backend(), new);
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn a_migration_whose_lock_the_store_has_forgotten_breaks_off_and_does_not_switch() {
    let stage = Stage::new(rules());
    let (one, two) = (stage.proxy("p1", "b1 b2").await, stage.proxy("p2", "b1 b2").await);
    let (anns, bobs) = (Gate::new(), Gate::new());
    let mut migrations = Vec::new();
    for (key, gate) in [("ann", &anns), ("bob", &bobs)] {
        let open = two.log_in(key).await.unwrap();
        let migration = through(other(open.backend()), gate);
        migrations.push(one.operate(move |moves| async move { moves.migrate(&Key::new(key), &migration).await }));
        open.gone().await;
        gate.entered(1).await;
    }
    let (bob, ann) = (migrations.pop().unwrap(), migrations.pop().unwrap());
    stage.memory.flush();
    // Nothing keeps them out any more: what the copies have taken along is not all there is.
    let home = two.log_in("ann").await.unwrap();
    let home = (home.backend().to_owned(), home.leave().await).0;
    anns.open();
    let report = ann.await.unwrap();
    let forgotten = |why: &str| why.starts_with("the store has forgotten that");
    assert!(matches!(&report.failed, Some((_, why)) if forgotten(why)), "{report:?}");
    assert_eq!(stage.home("ann").await, Some(home));
    // The other copy would go on for ever: the next renewal ends it.
    let report = bob.await.unwrap();
    assert!(matches!(&report.failed, Some((MigrationStep::Copy, why)) if forgotten(why)), "{report:?}");
}

#[tokio::test]
async fn a_user_who_got_another_home_during_the_copy_is_not_switched() {
    let stage = Stage::new(rules());
    let proxy = stage.proxy("p1", "b1 b2 b3").await;
    let open = proxy.log_in("ann").await.unwrap();
    let (gate, key) = (Gate::new(), Key::new("ann"));
    let migration = through(other(open.backend()), &gate);
    let migrating = proxy.operate(move |moves| async move { moves.migrate(&Key::new("ann"), &migration).await });
    gate.entered(1).await;
    let to = Target::Backend(BackendId::new("b3"));
    let force = Move { key, seen: None, to, force: true, hook: false, timeout: 1000, pace: None };
    stage.memory.order(0, &Order::Move(force)).await.unwrap();
    gate.open();
    let report = migrating.await.unwrap();
    let changed = "the home of ann has just changed; look again".to_owned();
    assert_eq!(report.failed, Some((MigrationStep::Switch, changed)));
    assert_eq!((stage.home("ann").await.as_deref(), marks(&stage, "ann").await.0), (Some("b3"), None));
}

#[tokio::test]
async fn no_more_migrations_are_under_way_at_once_than_may_be_and_who_waits_for_a_turn_is_not_kept_out() {
    let stage = Stage::new(rules());
    stage.moves.store(Arc::new(MovesConfig { max_parallel_migrations: 2, ..MovesConfig::default() }));
    let proxy = stage.proxy("p1", "b1 b2").await;
    let (gate, mut migrations, mut open) = (Gate::new(), Vec::new(), Vec::new());
    for n in 0..5 {
        let session = proxy.log_in(&format!("user{n}")).await.unwrap();
        let (key, migration) = (Key::new(format!("user{n}")), through(other(session.backend()), &gate));
        open.push(session);
        migrations.push(proxy.operate(move |moves| async move { moves.migrate(&key, &migration).await }));
    }
    gate.entered(2).await;
    assert_eq!(open.iter().filter(|session| session.ended().is_none()).count(), 3);
    (0..5).for_each(|_| gate.open());
    for migration in migrations {
        assert_eq!(migration.await.unwrap().failed, None);
    }
    assert_eq!(gate.most.load(Relaxed), 2);
}

/// A mail server that lets go when somebody says so.
#[async_trait]
impl Quiet for Gate {
    async fn wait(&self, _: &Key, _: &BackendId) -> Result<(), String> {
        self.inside.fetch_add(1, Relaxed);
        self.opened.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[tokio::test]
async fn a_confirmed_move_opens_the_new_home_only_when_the_old_backend_has_let_go() {
    let stage = Stage::new(rules());
    let (one, two) = (stage.proxy("p1", "b1 b2").await, stage.proxy("p2", "b1 b2").await);
    let open = two.log_in("ann").await.unwrap();
    let (old, new) = (open.backend().to_owned(), other(open.backend()));
    let wish = || MoveWish { to: Some(BackendId::new(new)), force: false, hook: true, wait: true };
    let clings: Arc<dyn Quiet> = Arc::new(Clings);
    let (mine, wished) = (clings.clone(), wish());
    let stays = one.operate(|moves| async move { moves.move_confirmed(&Key::new("ann"), &wished, &mine).await });
    let stays = stays.await.unwrap().unwrap();
    let why = format!("{old} has a process of the user");
    assert_eq!((stays.end, stays.quiet), (MoveEnd::Cancelled(why.clone()), Some(Err(why.clone()))));
    assert_eq!((open.gone().await, two.log_in("ann").await.unwrap().backend()), (Some(Ending::Kicked), &*old));

    let gate = Gate::new();
    let (quiet, wished): (Arc<dyn Quiet>, _) = (gate.clone(), wish());
    let moving = one.operate(|moves| async move { moves.move_confirmed(&Key::new("ann"), &wished, &quiet).await });
    gate.entered(1).await;
    assert_eq!(stage.home("ann").await.as_deref(), Some(&*old));
    let (moved, waited) = tokio::join!(
        async {
            gate.open();
            moving.await.unwrap().unwrap()
        },
        two.log_in("ann")
    );
    assert_eq!((moved.end, moved.quiet, moved.home.unwrap().as_str()), (MoveEnd::Done, Some(Ok(())), new));
    assert_eq!(waited.unwrap().backend(), new);

    let kicked = one.operate(|moves| async move { moves.kick_confirmed(&Key::new("ann"), &clings).await });
    let kicked = kicked.await.unwrap().unwrap();
    assert_eq!((kicked.end, kicked.quiet), (MoveEnd::Done, Some(Err(format!("{new} has a process of the user")))));
    assert_eq!(marks(&stage, "ann").await.0, None);
    stage.witness.swears_one_home();
}
