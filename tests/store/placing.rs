//! place: balance, weights, pools, slow start.

use std::collections::BTreeMap;

use homing::store::*;

use crate::stage::*;

contract!(
    i7_no_backend_has_more_than_its_share_of_distinct_users,
    i7_weights_are_honoured_in_proportion,
    i7_thirty_thousand_logins_over_ten_unequal_backends_keep_their_shares,
    a_backend_of_weight_zero_takes_nobody,
    a_backend_that_is_down_or_draining_takes_nobody,
    i7_users_who_log_out_at_once_are_spread_too,
    i7_users_who_log_out_at_once_are_spread_beside_those_who_stay,
    i7_the_first_users_of_unequal_backends_are_spread,
    equal_loads_go_to_whom_was_given_least_then_by_name,
    who_was_chosen_is_counted_anew_when_the_table_changes,
    loads_that_declares_and_orphans_change_are_seen,
    the_load_of_orphans_does_not_count,
    a_backend_that_came_up_ramps_up_slowly,
    a_home_above_its_weighted_share_is_left,
    a_full_backend_takes_nobody,
    a_removed_backend_and_one_that_fails_are_as_good_as_down,
    a_key_that_the_store_knows_nothing_of_goes_where_it_was_seen,
);

/// Where so many new users go.
async fn spread(peer: &mut Peer, users: usize) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for n in 0..users {
        *spread.entry(peer.bind(&format!("user{n}@example.org"), 0).await).or_default() += 1;
    }
    spread
}

async fn i7_no_backend_has_more_than_its_share_of_distinct_users(stage: Stage) {
    let names: Vec<String> = (0..7).map(|n| format!("mail{n}")).collect();
    let table: Vec<(&str, Row)> = names.iter().map(|name| (name.as_str(), up())).collect();
    let (world, mut z) = stage.open(Rules::default(), &table).await;
    let mut y = world.welcome("y").await;
    let mut counts = spread(&mut z, 500).await;
    for n in 500..1000 {
        *counts.entry(y.bind(&format!("user{n}@example.org"), 0).await).or_default() += 1;
    }
    let most = 1000.0 / 7.0 + 1.0 + 10.0;
    assert!(counts.values().all(|count| *count as f64 <= most), "{counts:?}");
    assert_eq!(counts.len(), 7);
}

async fn i7_weights_are_honoured_in_proportion(stage: Stage) {
    let table = [("a", weighing(100)), ("b", weighing(200)), ("c", weighing(50))];
    let (_world, mut z) = stage.open(Rules::default(), &table).await;
    let counts = spread(&mut z, 700).await;
    for (name, share) in [("a", 200_i64), ("b", 400), ("c", 100)] {
        let count = i64::try_from(counts[name]).expect("a count");
        assert!((count - share).abs() <= 1, "{name}: {count} instead of {share}");
    }
}

async fn i7_thirty_thousand_logins_over_ten_unequal_backends_keep_their_shares(stage: Stage) {
    let names: Vec<String> = (0..10).map(|n| format!("mail{n}")).collect();
    let table: Vec<(&str, Row)> = (1..).zip(&names).map(|(n, name)| (name.as_str(), weighing(n * 20))).collect();
    let (world, _z) = stage.open(Rules::default(), &table).await;
    let mut peers = [world.welcome("a").await, world.welcome("b").await, world.welcome("c").await];
    let mut counts = BTreeMap::new();
    for page in 0..300 {
        let keys: Vec<String> = (0..100).map(|n| format!("user{page}.{n}@example.org")).collect();
        for home in peers[page % 3].bind_all(&keys).await {
            *counts.entry(home).or_default() += 1;
        }
    }
    check_shares(&table, &counts);
    assert_eq!(counts.values().sum::<usize>(), 30_000);
}

async fn a_backend_of_weight_zero_takes_nobody(stage: Stage) {
    let (_world, mut z) = stage.open(Rules::default(), &[("a", weighing(0)), ("b", up())]).await;
    assert_eq!(spread(&mut z, 5).await, BTreeMap::from([("b".to_owned(), 5)]));
}

async fn a_backend_that_is_down_or_draining_takes_nobody(stage: Stage) {
    let down = in_state(BackendState::Down);
    let table = [("a", down.clone()), ("b", up()), ("c", in_state(BackendState::Drain))];
    let (_world, mut z) = stage.open(Rules::default(), &table).await;
    assert_eq!(spread(&mut z, 5).await, BTreeMap::from([("b".to_owned(), 5)]));
    z.set_table(&[("a", down)]).await;
    assert_eq!(z.claim(claim("new")).await, Home::NoBackend);
}

/// Where so many new users go who log out before the next one comes.
async fn passing(peer: &mut Peer, users: usize) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for n in 0..users {
        let key = format!("passing{n}@example.org");
        *spread.entry(peer.bind(&key, 0).await).or_default() += 1;
        peer.release(&key).await;
    }
    spread
}

/// Nobody has more than the share of its weight, plus one, plus one percent.
fn check_shares(table: &[(&str, Row)], counts: &BTreeMap<String, usize>) {
    let weight = |row: &Row| f64::from(row.weight.get());
    let (users, all) = (counts.values().sum::<usize>() as f64, table.iter().map(|(_, row)| weight(row)).sum::<f64>());
    for (name, row) in table {
        let (count, share) = (counts.get(*name).copied().unwrap_or(0) as f64, users * weight(row) / all);
        assert!(count <= share * 1.01 + 1.0, "{name} has {count}, its share is {share}: {counts:?}");
    }
}

const UNEQUAL: [(&str, u32); 4] = [("a", 100), ("b", 200), ("c", 50), ("d", 400)];

async fn i7_users_who_log_out_at_once_are_spread_too(stage: Stage) {
    for weights in [UNEQUAL, UNEQUAL.map(|(name, _)| (name, 100))] {
        let table = weights.map(|(name, weight)| (name, weighing(weight)));
        let (_world, mut z) = stage.open(Rules::default(), &table).await;
        check_shares(&table, &passing(&mut z, 300).await);
    }
}

async fn i7_users_who_log_out_at_once_are_spread_beside_those_who_stay(stage: Stage) {
    let table = UNEQUAL.map(|(name, weight)| (name, weighing(weight)));
    let (_world, mut z) = stage.open(Rules::default(), &table).await;
    check_shares(&table, &spread(&mut z, 150).await);
    check_shares(&table, &passing(&mut z, 300).await);
}

async fn i7_the_first_users_of_unequal_backends_are_spread(stage: Stage) {
    let names: Vec<String> = (0..20).map(|n| format!("mail{n:02}")).collect();
    let weight = |n: usize| weighing(if n == 7 { 1000 } else { 10 });
    let table: Vec<(&str, Row)> = names.iter().enumerate().map(|(n, name)| (name.as_str(), weight(n))).collect();
    let (_world, mut z) = stage.open(Rules::default(), &table).await;
    check_shares(&table, &spread(&mut z, 19).await);
}

async fn equal_loads_go_to_whom_was_given_least_then_by_name(stage: Stage) {
    let (_world, mut z) = stage.open(Rules::default(), &[("a10", up()), ("a9", up()), ("B", up())]).await;
    assert_eq!(z.bind("x", 0).await, "B", "nobody was given anyone; bytes decide, not a locale");
    z.release("x").await;
    assert_eq!(z.bind("y", 0).await, "a10");
    assert_eq!(z.bind("z", 0).await, "a9");
    z.declare(&[declared("1", "B", 1, 1)]).await;
    assert_eq!(z.bind("p", 0).await, "B", "all three were given one and have one session");
}

async fn who_was_chosen_is_counted_anew_when_the_table_changes(stage: Stage) {
    let (_world, mut z) = stage.pair().await;
    assert_eq!(z.bind("x", 0).await, "a");
    z.release("x").await;
    z.set_table(&[("a", up()), ("b", up())]).await;
    assert_eq!(z.bind("y", 0).await, "a", "not b: that a was given one before is forgotten");
}

async fn loads_that_declares_and_orphans_change_are_seen(stage: Stage) {
    let table = [("a", up()), ("b", up()), ("gold", in_pool("gold")), ("old", in_state(BackendState::Drain))];
    let (world, mut z) = stage.open(Rules::default(), &table).await;
    let mut y = world.welcome("y").await;
    assert_eq!(z.bind("first", 0).await, "a");
    y.declare(&[declared("1", "b", 1, 3), declared("2", "gold", 1, 9), declared("3", "old", 1, 9)]).await;
    assert_eq!((z.bind("s", 0).await, z.bind("t", 0).await), ("a".to_owned(), "a".to_owned()));
    z.forget("y").await;
    assert_eq!((z.bind("u", 0).await, z.bind("v", 0).await), ("b".to_owned(), "b".to_owned()));
    y.hello().await;
    y.beat().await;
    assert_eq!(
        (z.bind("w", 0).await, z.bind("x", 0).await),
        ("a".to_owned(), "a".to_owned()),
        "b has five, a had three"
    );
    y.declare(&[declared("1", "b", 1, 0)]).await;
    assert_eq!(z.bind("y", 0).await, "b");
}

async fn the_load_of_orphans_does_not_count(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let mut y = world.welcome("y").await;
    y.declare(&[declared("1", "a", 1, 5), declared("2", "b", 1, 1)]).await;
    assert_eq!(z.bind("x", 0).await, "b");
    z.forget("y").await;
    assert_eq!(z.bind("y", 0).await, "a");
}

async fn a_backend_that_came_up_ramps_up_slowly(stage: Stage) {
    let rules = Rules { slow_start: 100_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("old", up())]).await;
    let since = world.server.ms();
    z.set_table(&[("new", Row { since, ..up() }), ("old", up())]).await;
    let counts = spread(&mut z, 100).await;
    assert_eq!(counts.get("new"), Some(&1), "at least 1 %, never nothing: {counts:?}");
    world.pass(50_000, &mut [&mut z]).await;
    let mut new = 1;
    for n in 0..50 {
        new += usize::from(z.bind(&format!("more{n}"), 0).await == "new");
    }
    assert!((49..=50).contains(&new), "of 150 with weights 50 to 100: {new}");
    world.pass(50_000, &mut [&mut z]).await;
    for n in 0..50 {
        new += usize::from(z.bind(&format!("most{n}"), 0).await == "new");
    }
    assert_eq!(new, 100);
}

async fn a_home_above_its_weighted_share_is_left(stage: Stage) {
    let rules = Rules { user_expire: 10_000, ..Rules::default() };
    let (world, mut z) = stage.open(rules, &[("a", weighing(300)), ("b", weighing(100))]).await;
    z.declare(&[declared("anna", "b", 1, 1), declared("bob", "a", 1, 1)]).await;
    z.declare(&[declared("anna", "", 0, 0), declared("bob", "", 0, 0)]).await;
    z.declare(&[declared("1", "a", 1, 2), declared("2", "b", 1, 2)]).await;
    world.pass(10_000, &mut [&mut z]).await;
    assert_eq!(z.bind("anna", 0).await, "a", "2 is not below 1.25 times a quarter of 5");
    z.release("anna").await;
    assert_eq!(z.bind("bob", 0).await, "a");
}

async fn a_full_backend_takes_nobody(stage: Stage) {
    let small = |max_sessions| Row { max_sessions, ..up() };
    let (world, mut z) = stage.open(Rules::default(), &[("a", small(2)), ("b", small(3))]).await;
    assert_eq!(spread(&mut z, 5).await, BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 3)]));
    assert_eq!(z.claim(claim("new")).await, Home::NoBackend);
    assert_eq!(
        z.claim(Claim { have: 1, ..claim("user0@example.org") }).await,
        Home::Full,
        "also for those at home there"
    );
    let again = z.claim(claim("user0@example.org")).await;
    assert!(matches!(&again, Home::Bound { .. }), "the one that it had is not counted against it: {again:?}");
    let (home, _) = world.home("user0@example.org").await;
    z.release("user0@example.org").await;
    z.bind("other", 0).await;
    assert_eq!(z.claim(claim("user0@example.org")).await, Home::Full, "not even for one that it remembers");
    let pinned = Claim { pin: Some(homing::model::BackendId::new(&home)), ..claim("pinned") };
    assert!(matches!(z.claim(pinned).await, Home::Bound { .. }), "whoever pinned it knows why");
}

async fn a_removed_backend_and_one_that_fails_are_as_good_as_down(stage: Stage) {
    for row in [in_state(BackendState::Removed), Row { failing: true, ..up() }] {
        let (world, mut z) = stage.open(Rules::default(), &[("a", up()), ("b", row.clone())]).await;
        let mut y = world.welcome("y").await;
        y.declare(&[declared("anna", "b", 1, 1)]).await;
        assert_eq!(spread(&mut z, 3).await, BTreeMap::from([("a".to_owned(), 3)]));
        assert_eq!(z.claim(claim("anna")).await, Home::Wait { ms: 250, reason: WaitReason::Closing });
        let pinned = Claim { pin: Some(homing::model::BackendId::new("b")), ..claim("pinned") };
        assert_eq!(z.claim(pinned).await, Home::NoBackend);
        y.release("anna").await;
        assert_eq!(z.bind("anna", 0).await, "a");
        assert_eq!(world.binding("anna").await.expect("bound").past[0].why, "dead");
    }
}

async fn a_key_that_the_store_knows_nothing_of_goes_where_it_was_seen(stage: Stage) {
    let (world, mut z) = stage.pair().await;
    let seen_at = |key: &str, backend: &str| Claim { hint: Some(homing::model::BackendId::new(backend)), ..claim(key) };
    let at = async |peer: &mut Peer, claim: Claim| match peer.claim(claim).await {
        Home::Bound { backend, .. } => backend.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(at(&mut z, seen_at("anna", "b")).await, "b", "although a comes first");
    assert_eq!(at(&mut z, Claim { have: 1, ..seen_at("anna", "a") }).await, "b", "the store knows better");
    z.release("anna").await;
    assert_eq!(at(&mut z, seen_at("anna", "a")).await, "b");
    let mut y = world.welcome("y").await;
    y.declare(&[declared("1", "b", 1, 9)]).await;
    assert_eq!(at(&mut z, seen_at("bob", "b")).await, "a", "not to where the load is beyond what is fair");
    assert_eq!(at(&mut z, seen_at("carl", "unheard-of")).await, "a");
}
