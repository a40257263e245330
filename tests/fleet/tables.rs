//! The backend table: proxies whose files differ, reloads, drains, removals.

use std::time::Duration;

use homing::fleet::Rows;
use homing::model::{BackendId, Ending, Refusal};
use homing::store::{BackendState, Rules};

use crate::harness::wait::whether;
use crate::harness::{Proxy, Session, Stage, Weather, eventually, rows, stage, throughout};

const SOON: Duration = Duration::from_secs(60);

fn names(rows: &Rows) -> String {
    rows.keys().map(BackendId::as_str).collect::<Vec<_>>().join(" ")
}

/// Waits until the store and all these proxies have the same table, with those backends.
async fn agreed(stage: &Stage, proxies: &[&Proxy], backends: &str) -> u64 {
    let mut version = 0;
    eventually("all have the same table", SOON, async || {
        version = stage.census().await.table_version;
        for proxy in proxies {
            let (known, rows) = proxy.table();
            whether(known == version && names(&rows) == backends, || {
                format!("{} has {known} with {}, the store has {version}", proxy.name, names(&rows))
            })?;
        }
        Ok(())
    })
    .await;
    version
}

#[tokio::test]
async fn proxies_whose_files_differ_agree_on_one_table_and_leave_it_in_peace() {
    for _ in 0..5 {
        let stage = Stage::new(stage::rules());
        let start = |name, backends| Proxy::start(&stage, name, rows(backends), None);
        let (one, two, three) = tokio::join!(start("p1", "a b"), start("p2", "b c"), start("p3", "b"));
        // Each puts the table once at its start, whatever is in it.
        for proxy in [&one, &two, &three] {
            proxy.fleet.ready().await;
        }
        let version = agreed(&stage, &[&one, &two, &three], "a b c").await;
        for proxy in [&one, &two, &three] {
            proxy.road.beats(4).await;
        }
        assert_eq!(stage.census().await.table_version, version, "the table is pushed to and fro");
    }
}

#[tokio::test]
async fn a_proxy_that_was_alone_when_it_said_hello_does_not_throw_out_who_came_since() {
    let stage = Stage::new(stage::rules());
    let road = stage.road();
    road.set(Weather::Slow);
    let one = Proxy::start_on(&stage, road, "p1", rows("a b"), None).await;
    eventually("it has said hello", SOON, async || {
        whether(stage.census().await.proxies.len() == 1, || "not yet".to_owned())
    })
    .await;
    let two = stage.proxy("p2", "b c").await;
    agreed(&stage, &[&one, &two], "a b c").await;
    one.fleet.ready().await;
    one.road.beats(3).await;
    agreed(&stage, &[&one, &two], "a b c").await;
}

#[tokio::test]
async fn two_files_with_other_weights_do_not_fight_and_the_last_change_stands() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    let weighing = |weight| {
        let mut rows = rows("a b");
        rows.values_mut().for_each(|row| row.weight = homing::model::Weight::new(weight).unwrap());
        rows
    };
    one.reload(rows("a b"), weighing(5));
    two.reload(rows("a b"), weighing(7));
    one.road.beats(3).await;
    two.road.beats(3).await;
    let version = agreed(&stage, &[&one, &two], "a b").await;
    one.road.beats(4).await;
    assert_eq!(stage.census().await.table_version, version);
    one.reload(weighing(5), weighing(9));
    eventually("the last change stands", SOON, async || {
        let census = stage.census().await;
        whether(census.backends.iter().all(|view| view.row.weight.get() == 9), || format!("{:?}", census.backends))
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_starts_alone_puts_its_file_in_the_place_of_what_was() {
    let stage = Stage::new(stage::rules());
    let old = stage.proxy("p1", "a b").await;
    old.fleet.leave().await;
    let new = stage.proxy("p1", "b c").await;
    agreed(&stage, &[&new], "b c").await;
}

#[tokio::test]
async fn a_backend_removed_by_a_reload_ends_its_sessions_everywhere_and_its_users_are_placed_anew() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    let keys: Vec<String> = (0..60).map(|n| format!("user{n}")).collect();
    let mut open: Vec<Session> = Vec::new();
    for key in &keys {
        open.push(one.log_in(key).await.unwrap());
        open.push(two.log_in(key).await.unwrap());
    }
    one.reload(rows("a b"), rows("a"));
    // Everybody who is thrown out comes back at once, at the other proxy than before.
    let comers = open.into_iter().enumerate().map(async |(n, session)| {
        if session.backend() == "a" {
            return session;
        }
        assert_eq!(session.gone().await, Some(Ending::Kicked));
        let proxy = if n % 2 == 0 { &two } else { &one };
        loop {
            let session = proxy.log_in(&keys[n / 2]).await.unwrap();
            if session.backend() == "a" {
                return session;
            }
            // It has joined what that proxy has not closed yet.
            assert_eq!(session.gone().await, Some(Ending::Kicked));
        }
    });
    let open = futures_util::future::join_all(comers).await;
    assert!(open.iter().all(|session| session.backend() == "a" && session.ended().is_none()));
    stage.counts_agree(&[&one, &two], &keys).await;
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn removals_while_the_store_is_away_take_effect_when_it_is_back_and_none_is_forgotten() {
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a b c d").await, stage.proxy("p2", "a b c d").await);
    one.road.set(Weather::Cut);
    one.reload(rows("a b c d"), rows("a b c"));
    one.reload(rows("a b c"), rows("a b"));
    one.reload(rows("a b"), rows("a b e"));
    one.road.set(Weather::Fair);
    agreed(&stage, &[&one, &two], "a b e").await;
}

#[tokio::test]
async fn a_drained_backend_keeps_who_is_there_and_takes_nobody_else() {
    let stage = Stage::new(stage::rules());
    let proxy = stage.proxy("p1", "a b").await;
    let keys: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
    let mut at_a = Vec::new();
    for key in &keys {
        let session = proxy.log_in(key).await.unwrap();
        if session.backend() == "a" {
            at_a.push((key, session));
        }
    }
    let mut drained = rows("a b");
    drained.get_mut(&BackendId::new("a")).unwrap().state = BackendState::Drain;
    proxy.reload(rows("a b"), drained);
    eventually("it drains", SOON, async || {
        let census = stage.census().await;
        whether(census.backends[0].row.state == BackendState::Drain, || format!("{census:?}"))
    })
    .await;
    let (stayer, mut leavers) = (at_a.pop().unwrap(), at_a);
    assert_eq!(proxy.log_in(stayer.0).await.unwrap().backend(), "a", "beside a live session");
    let (key, session) = leavers.pop().unwrap();
    session.leave().await;
    assert_eq!(proxy.log_in(key).await.unwrap().backend(), "b", "without a session, the user leaves");
    assert_eq!(proxy.log_in("newcomer").await.unwrap().backend(), "b");
    assert_eq!(stayer.1.ended(), None);
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn a_key_at_a_backend_that_is_down_waits_until_others_have_closed_and_moves_then() {
    let stage = Stage::new(Rules { strict: true, ..stage::rules() });
    let (one, two) = (stage.proxy("p1", "a").await, stage.proxy("p2", "a").await);
    let here = one.log_in("ann").await.unwrap();
    // p1 does not hear that the backend is gone. Strict: its session may still be there until it is isolated.
    one.road.set(Weather::Silent);
    two.reload(rows("a"), rows("b"));
    eventually("the table has changed", SOON, async || whether(names(&two.table().1) == "b", || "not yet".to_owned()))
        .await;
    // The witness says whether it was let in elsewhere before the session was gone.
    let (ended, moved) = tokio::join!(here.gone(), async {
        loop {
            match two.log_in("ann").await {
                Err(Refusal::HomeUnsettled) => {}
                other => break other,
            }
        }
    });
    assert_eq!(ended, Some(Ending::Isolated));
    assert_eq!(moved.unwrap().backend(), "b");
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn backends_survive_an_amnesia_even_if_a_proxy_that_lacks_them_is_the_first_to_bring_its_table() {
    let stage = Stage::new(Rules { recovery: 3000, ..stage::rules() });
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    let keys: Vec<String> = (0..10).map(|n| format!("user{n}")).collect();
    let open = futures_util::future::try_join_all(keys.iter().map(|key| one.log_in(key))).await.unwrap();
    for proxy in [&one, &two] {
        proxy.road.set(Weather::Cut);
    }
    stage.memory.flush();
    let fresh = Proxy::start(&stage, "p3", rows("a"), None).await;
    agreed(&stage, &[&fresh], "a").await;
    for proxy in [&one, &two] {
        proxy.road.set(Weather::Fair);
    }
    agreed(&stage, &[&one, &two, &fresh], "a b").await;
    stage.counts_agree(&[&one, &two, &fresh], &keys).await;
    assert!(open.iter().all(|session| session.ended().is_none()), "sessions were closed");
}

#[tokio::test]
async fn i1_no_session_slips_in_while_its_backend_is_being_removed() {
    // Logins race the removal: each either sees the new table or is closed by it, so that nobody's key is stuck.
    let stage = Stage::new(Rules { user_expire: 1, balance_factor: 0.0, ..stage::rules() });
    let (one, two) = (stage.proxy("p1", "a b").await, stage.proxy("p2", "a b").await);
    let keys: Vec<String> = (0..40).map(|n| format!("user{n}")).collect();
    for round in 0..6 {
        let (old, new) = if round % 2 == 0 { ("a b", "a") } else { ("a", "a b") };
        let logins = keys.iter().map(async |key| {
            loop {
                let session = one.log_in(key).await.unwrap();
                if session.ended().is_none() {
                    break session;
                }
                session.leave().await;
            }
        });
        let (_, open) = tokio::join!(
            async {
                two.road.beats(1).await;
                two.reload(rows(old), rows(new));
                agreed(&stage, &[&two], new).await;
            },
            futures_util::future::join_all(logins)
        );
        agreed(&stage, &[&one, &two], new).await;
        one.road.beats(1).await; // with that, those who had to go have been told
        throughout("nobody stays where no backend is", one.road.beats(2), async || {
            let astray =
                |session: &&Session| session.ended().is_none() && !new.split(' ').any(|name| name == session.backend());
            whether(!open.iter().any(|session| astray(&session)), || "a session was overlooked".to_owned())
        })
        .await;
        for session in open {
            session.leave().await;
        }
        stage.counts_agree(&[&one, &two], &keys).await;
    }
    stage.witness.swears_one_home();
}

#[tokio::test]
async fn nobody_is_let_in_at_a_backend_of_which_the_proxy_has_not_heard() {
    // A session there could be overlooked when the backend goes again.
    let stage = Stage::new(stage::rules());
    let (one, two) = (stage.proxy("p1", "a").await, stage.proxy("p2", "a").await);
    two.reload(rows("a"), rows("a b"));
    eventually("the store has the new backend", SOON, async || {
        whether(stage.census().await.backends.len() == 2, || "not yet".to_owned())
    })
    .await;
    let logins = (0..20).map(async |n| {
        let session = one.log_in(&format!("user{n}")).await.unwrap();
        let heard = one.table().1.contains_key(&session.place.backend);
        assert!(heard, "let in at {}", session.backend());
        session
    });
    let open = futures_util::future::join_all(logins).await;
    assert!(open.iter().any(|session| session.backend() == "b"));
}
