//! Mailboxes go to another backend, and whatever fails leaves the user where the mailbox is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use homing::fleet::Hook;
use homing::model::{BackendId, Ending, Key};
use homing::placement::{Migration, MigrationReport, MigrationStep, Quiet};
use homing::store::{Rules, Store};

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

/// Whether a hold is on, and which pin.
async fn marks(stage: &Stage, key: &str) -> (Option<u64>, Option<String>) {
    let view = stage.memory.binding(0, &Key::new(key)).await.unwrap().unwrap_or_default();
    (view.hold_ms, view.pin.map(|pin| pin.to_string()))
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
    let held = marks(&stage, "ann").await.0.unwrap();
    assert!((1..=120_000).contains(&held), "held for {held} ms");
    let report = migrate(&two, "ann", to(new, &script)).await;
    assert_eq!((report.failed, script.runs().len()), (None, 2));
    assert_eq!(two.log_in("ann").await.unwrap().backend(), new);
    stage.witness.swears_one_home();
}
