//! A login's way to its home, and what it costs.

use std::time::{Duration, Instant};

use homing::model::Refusal;
use homing::store::Rules;

use crate::harness::proxy::wanted;
use crate::harness::wait::whether;
use crate::harness::{Session, Stage, Weather, eventually, stage};

/// Within this, whoever cannot be served is told; a fraction of how long a login may wait for its home.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn i8_a_login_costs_one_call_and_none_beside_a_live_session() {
    let stage = Stage::new(stage::rules());
    let proxy = stage.proxy("p1", "b1 b2").await;
    let names: Vec<String> = (0..50).map(|n| format!("user{n}")).collect();
    let mut open: Vec<Session> = Vec::new();
    for name in &names {
        open.push(proxy.log_in(name).await.unwrap());
    }
    assert_eq!(proxy.road.asked("claim"), 50);
    for name in &names {
        open.push(proxy.log_in(name).await.unwrap());
    }
    assert_eq!(proxy.road.asked("claim"), 50, "a login beside a live session asked the store");
    let before = proxy.road.asked("declare");
    stage.counts_agree(&[&proxy], &names).await;
    open.into_iter().for_each(drop);
    stage.counts_agree(&[&proxy], &names).await;
    let declares = proxy.road.asked("declare") - before;
    assert!(declares <= 20, "{declares} calls for 50 users who joined and 100 sessions that ended");
}

#[tokio::test]
async fn logins_of_one_key_that_come_together_ask_once_and_share_the_answer() {
    let stage = Stage::new(stage::rules());
    let proxy = stage.proxy("p1", "b1 b2").await;
    let logins: Vec<_> = (0..40).map(|_| proxy.log_in("ann")).collect();
    let open: Vec<Session> = futures_util::future::try_join_all(logins).await.unwrap();
    assert!(open.iter().all(|session| session.place == open[0].place));
    assert_eq!(proxy.road.asked("claim"), 1);
    stage.counts_agree(&[&proxy], &["ann".to_owned()]).await;
}

#[tokio::test]
async fn a_limit_holds_for_the_whole_fleet_however_the_logins_race() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "b1").await, stage.proxy("p2", "b1").await);
    let ask = |n: usize| {
        let limited = homing::placement::Wanted { limit: 7, ..wanted("ann") };
        if n.is_multiple_of(2) { one.log_in_as(limited) } else { two.log_in_as(limited) }
    };
    let answers = futures_util::future::join_all((0..30).map(ask)).await;
    let (open, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(open.len(), 7);
    assert!(refused.into_iter().all(|refused| refused.err() == Some(Refusal::TooManySessions)));
    stage.counts_agree(&[&one, &two], &["ann".to_owned()]).await;
}

#[tokio::test]
async fn a_login_that_was_never_accepted_leaves_no_binding() {
    let stage = Stage::new(stage::rules());
    let proxy = stage.proxy("p1", "b1").await;
    let guess = homing::placement::Wanted { unproven: true, ..wanted("guess") };
    proxy.log_in_as(guess).await.unwrap().leave().await;
    proxy.log_in("ann").await.unwrap().leave().await;
    eventually("the binding is forgotten", Duration::from_secs(60), async || {
        whether(stage.home("guess").await.is_none(), || "it is still there".to_owned())
    })
    .await;
    assert_eq!(stage.home("ann").await.as_deref(), Some("b1"));
}

#[tokio::test]
async fn i6_without_a_store_friends_come_in_strangers_hear_so_soon_and_nothing_piles_up() {
    for weather in [Weather::Cut, Weather::Silent] {
        let mut stage = Stage::new(Rules { orphan_grace: 200_000, ..stage::rules() });
        stage.login_wait = 3 * SOON;
        let proxy = stage.proxy("p1", "b1 b2").await;
        let friend = proxy.log_in("friend").await.unwrap();
        stage.counts_agree(&[&proxy], &["friend".to_owned()]).await;
        proxy.road.set(weather);
        let began = Instant::now();
        let strangers = (0..300).map(|n| format!("stranger{n}")).collect::<Vec<_>>();
        let answers = futures_util::future::join_all(strangers.iter().map(|name| proxy.log_in(name))).await;
        assert!(answers.into_iter().all(|answer| answer.err() == Some(Refusal::StoreUnavailable)));
        assert!(began.elapsed() < SOON, "{weather:?}: told after {:?}", began.elapsed());
        // The line is known to be down: what is asked now is never sent, so that there is nothing to set right later.
        let before = proxy.ledger().holding().dirty;
        let more = (0..300).map(|n| format!("more{n}")).collect::<Vec<_>>();
        let answers = futures_util::future::join_all(more.iter().map(|name| proxy.log_in(name))).await;
        assert!(answers.into_iter().all(|answer| answer.err() == Some(Refusal::StoreUnavailable)));
        let after = proxy.ledger().holding().dirty;
        assert!(after <= before, "{weather:?}: {after} keys wait to be declared, {before} before");
        let beside = proxy.log_in("friend").await.unwrap();
        assert_eq!(beside.place, friend.place);
        proxy.road.set(Weather::Fair);
        eventually("strangers come in again", Duration::from_secs(60), async || {
            proxy.log_in("stranger0").await.map(drop).map_err(|refusal| format!("{refusal:?}"))
        })
        .await;
        stage.counts_agree(&[&proxy], &[strangers, vec!["friend".to_owned()]].concat()).await;
        assert_eq!((friend.ended(), beside.ended()), (None, None));
    }
}

#[tokio::test]
async fn logins_of_one_key_are_told_together_that_the_store_is_away() {
    let mut stage = Stage::new(stage::rules());
    stage.login_wait = 3 * SOON;
    let proxy = stage.proxy("p1", "b1").await;
    proxy.road.set(Weather::Silent);
    let began = Instant::now();
    let answers = futures_util::future::join_all((0..20).map(|_| proxy.log_in("ann"))).await;
    assert!(answers.into_iter().all(|answer| answer.is_err()));
    assert!(began.elapsed() < SOON, "the last was told after {:?}", began.elapsed());
}
