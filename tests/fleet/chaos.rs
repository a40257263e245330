//! Everything at once: calls and answers lost, late, repeated and torn, proxies killed and cut off, backends removed and
//! brought back, while clients come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homing::store::Rules;
use tokio::time::sleep;

use crate::harness::crowd::{Doors, Habits};
use crate::harness::wait::whether;
use crate::harness::{Crowd, Dice, Proxy, Stage, Weather, eventually, rows, stage};

const SPAN: Duration = Duration::from_secs(8);
const BACKENDS: &str = "b1 b2 b3";

/// Starts a proxy in foul weather; clients come when it is ready.
async fn arrive(stage: &Stage, doors: &Doors, name: &str) {
    let proxy = Proxy::start(stage, name, rows(BACKENDS), None).await;
    proxy.road.set(Weather::Rough);
    proxy.fleet.ready().await;
    doors.lock().unwrap().insert(name.to_owned(), Arc::new(proxy));
}

fn door(doors: &Doors, name: &str) -> Arc<Proxy> {
    doors.lock().unwrap()[name].clone()
}

/// Does something bad every now and then.
async fn torment(stage: &Stage, doors: &Doors, dice: &Dice) {
    let began = Instant::now();
    let mut lacking = false;
    while began.elapsed() < SPAN {
        sleep(Duration::from_millis(300 + dice.below(700))).await;
        let name = format!("p{}", 1 + dice.below(3));
        let victim = door(doors, &name);
        match dice.below(10) {
            0..3 => {
                victim.kill();
                arrive(stage, doors, &name).await;
            }
            3 => victim.stand_still(Duration::from_millis(dice.below(1500))).await,
            4..6 => {
                victim.road.set(if dice.once_in(2) { Weather::Cut } else { Weather::Silent });
                // Sometimes beyond its lease, sometimes beyond its isolation deadline.
                sleep(Duration::from_millis(dice.below(4000))).await;
                victim.road.set(Weather::Rough);
            }
            6..8 => {
                let (old, new) = if lacking { ("b1 b2", BACKENDS) } else { (BACKENDS, "b1 b2") };
                victim.reload(rows(old), rows(new));
                lacking = !lacking;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_no_key_has_two_homes_whatever_befalls_store_and_proxies_and_all_is_well_afterwards() {
    // Homes are changed as often as can be: nothing is remembered. Strict: no exception for backends that are removed.
    let rules = Rules { user_expire: 1, balance_factor: 0.0, strict: true, orphan_grace: 2500, ..stage::rules() };
    let mut stage = Stage::new(rules);
    stage.login_wait = Duration::from_secs(30);
    // Of what is never answered there is plenty.
    stage.patience = Duration::from_millis(100);
    let doors: Doors = Arc::new(Mutex::new(BTreeMap::new()));
    for name in ["p1", "p2", "p3"] {
        arrive(&stage, &doors, name).await;
    }
    let keys: Vec<String> = (0..25).map(|n| format!("user{n}")).collect();
    let dice = Dice::new(stage.seed);
    let crowd = Crowd::enter(&doors, 40, &keys, Habits { stay: 150, long_stay: 5000, unproven: 3 }, stage.seed);
    torment(&stage, &doors, &dice).await;
    let diary = crowd.go_home().await;
    println!("{}", diary.summary());
    stage.witness.swears_one_home();

    let proxies: Vec<Arc<Proxy>> = doors.lock().unwrap().values().cloned().collect();
    proxies.iter().for_each(|proxy| proxy.road.set(Weather::Fair));
    let living: Vec<&Proxy> = proxies.iter().map(AsRef::as_ref).collect();
    let only_they_are_left = async || {
        let census = stage.census().await;
        whether(census.proxies.len() == 3, || format!("{:?}", census.proxies))
    };
    eventually("what the dead held is free", Duration::from_secs(60), only_they_are_left).await;
    stage.counts_agree(&living, &keys).await;
    // Everybody can log in everywhere, and is at one home.
    let logins = keys.iter().flat_map(|key| living.iter().map(|proxy| proxy.log_in(key)));
    let open = futures_util::future::join_all(logins).await;
    let refused: Vec<_> = open.iter().filter_map(|login| login.as_ref().err()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    stage.counts_agree(&living, &keys).await;
    drop(open);
    stage.counts_agree(&living, &keys).await;
    assert!(diary.logins.load(std::sync::atomic::Ordering::Relaxed) > 200, "{}", diary.summary());
    stage.witness.swears_one_home();
}
