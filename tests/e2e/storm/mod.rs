//! Everything at once: proxies, Redis and mail servers are killed, stopped and cut off while a crowd works and an operator
//! moves its users about. The mail servers' logs are the witness of what happened.
//!
//! What happens is chosen by the seed; `fault.rs` says what may happen together. An even seed has Redis with Sentinels,
//! which fail over; an odd one a single server with an append-only file. Every other pair of them is `strict`.

mod astray;
mod fault;
mod operator;
mod weather;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use self::fault::{BACKENDS, CLOSE_TIMEOUT, Climate, PROXIES, RECOVERY};
use self::operator::Operator;
use self::weather::Weather;
use crate::harness::apart::apart;
use crate::harness::crowd::{Dice, Temper, percentile, seed};
use crate::harness::wait::heavy;
use crate::harness::{Crowd, Fleet, Habit, Lan, Net, Result, SentinelSet, User, Workdir, eventually};

/// How long the storm lasts, unless `HOMING_CHAOS_SECONDS` says otherwise.
const SPAN: u64 = 20;
/// Beyond this, a client that tries all the time has been forgotten rather than delayed. The longest delays add up: a cut
/// of 7 s, a window of 4 s, Sentinels (who do nothing for 30 s once they find that their clock has jumped), and all of it again
/// before the client had its turn.
const LATEST: Duration = Duration::from_secs(100);

const CONFIG: &str = r#"
[store]
timeout = "1s"
[fleet]
balance_factor = 1.0
login_wait = "4s"
[moves]
kick_delay = "1s"
timeout = "8s"
[health]
interval = "1s"
fast_interval = "300ms"
timeout = "2s"
"#;

fn span() -> Duration {
    let seconds = std::env::var("HOMING_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(SPAN))
}

/// 100 users, 120 clients: most stay, some come and go, some have two clients.
fn crowd_of(users: &[User]) -> Vec<(User, Habit)> {
    let away = Habit::Returns(Duration::from_secs(11));
    let client = |(number, user): (usize, &User)| {
        let habit = if number < 75 { Habit::Stays } else { away };
        let clients = if (10..90).contains(&number) { 1 } else { 2 };
        std::iter::repeat_n((user.clone(), habit), clients)
    };
    users.iter().enumerate().flat_map(client).collect()
}

// Two threads: who ends a fault in time must not wait for one who waits for a server's last process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i3_i4_i5_i6_whatever_dies_stops_or_is_cut_off_nobody_is_on_two_backends_lost_or_miscounted() -> Result {
    let _turn = heavy().await;
    apart!(i1_i3_i4_i5_i6_whatever_dies_stops_or_is_cut_off_nobody_is_on_two_backends_lost_or_miscounted, async |lan| {
        storm(lan, seed()).await
    })
    .await
}

async fn storm(mut lan: Lan, seed: u64) -> Result {
    // Forwarders would not follow the Sentinels' addresses.
    let climate = Climate { sentinels: lan.is_real() && seed.is_multiple_of(2), strict: seed % 4 < 2 };
    println!("{climate:?}, cables are {}", if lan.is_real() { "veth" } else { "forwarders" });
    // Its servers end before it does.
    let dir = Workdir::new()?;
    let trio = match climate.sentinels {
        true => Some(SentinelSet::start_at(Some(lan.server_ip(Net::Store)?), dir.path(), &[], "").await?),
        false => None,
    };
    let fleet = fleet(lan, climate, trio.as_ref()).await?;
    let clients = crowd_of(&fleet.users);
    let count = clients.len() as i64;
    let temper = Temper { connect: Duration::from_secs(2), answer: Duration::from_secs(6), shut_out: LATEST };
    let mut crowd = Crowd::enter_with(temper, &fleet.doors(), clients, seed);
    // Who comes and goes is in with all others only if nobody goes.
    crowd.rest(count).await?;
    crowd.wake();

    let operator = Operator::at_work(&fleet, Dice::new(seed ^ 1));
    let mut weather = Weather::new(fleet, trio, climate, Dice::new(seed ^ 2));
    let raged = weather.rage(span()).await;
    let records = operator.stop().await?;
    raged?;
    println!("{} faults: {}", weather.faults(), weather.summary());
    println!("operator: {records:?}");
    let story = settle(&weather.fleet, crowd, count).await?;
    judge(&weather, &records, &story).await
}

async fn fleet(lan: Lan, climate: Climate, trio: Option<&SentinelSet>) -> Result<Fleet> {
    let mut plan = Fleet::plan().proxies(PROXIES).backends(BACKENDS).users(100).mortal_backends().durable().lan(lan);
    plan = plan.config(CONFIG).config(&format!(
        "[fleet]\nrecovery = \"{}s\"\nstrict = {}\n[limits]\nclose_timeout = \"{}s\"",
        RECOVERY.as_secs(),
        climate.strict,
        CLOSE_TIMEOUT.as_secs()
    ));
    for number in 1..=BACKENDS {
        plan = plan.config(&format!(
            "[backend.mail{number}]\nconnect_timeout = \"1s\"\nlogin_timeout = \"4s\"\nretry_budget = \"4s\""
        ));
    }
    if let Some(trio) = trio {
        plan = plan.store(&trio.store_lines(), trio.master().await?);
    }
    plan.start().await
}

/// After the storm: everybody is in, moves are over, the counts are exact; then everybody goes home, and nothing is left.
async fn settle(fleet: &Fleet, mut crowd: Crowd, count: i64) -> Result<crate::harness::crowd::Story> {
    let calm = Instant::now();
    operator::all_up(fleet).await?;
    crowd.rest(count).await?;
    println!("everybody is in {} ms after the storm", calm.elapsed().as_millis());
    eventually("all moves are over", Duration::from_secs(60), async || {
        let moving: Vec<String> = redis::cmd("ZRANGE")
            .arg("{homing:0}:moving")
            .arg(0)
            .arg(-1)
            .query_async(&mut fleet.redis.connect().await?)
            .await?;
        ensure!(moving.is_empty(), "{moving:?}");
        Ok(())
    })
    .await?;
    // The last moves have kicked some who were at rest.
    crowd.rest(count).await?;
    fleet.counts_agree().await?;
    println!("counts are exact {} ms after the storm", calm.elapsed().as_millis());
    let story = crowd.go_home().await?;
    fleet.empty().await?;
    Ok(story)
}

async fn judge(weather: &Weather, records: &operator::Records, story: &crate::harness::crowd::Story) -> Result {
    let fleet = &weather.fleet;
    let witness = fleet.witness()?;
    println!("{}; {} visits, {} users changed backends", story.summary(), witness.visits.len(), witness.moved());
    witness.swears_one_home()?;
    let returns = story.returns();
    ensure!(percentile(&returns, 1.0) < LATEST, "back too late: {}", story.summary());
    let odd: Vec<_> = story.refusals().into_iter().filter(|text| !text.starts_with("No [UNAVAILABLE]")).collect();
    ensure!(odd.is_empty(), "refused with other words than [UNAVAILABLE]: {odd:?}");
    let moves = records.get("move done").context("no move was done")?;
    ensure!(weather.faults() > 5 && returns.len() > 20 && *moves > 5, "that was no storm");
    story.mail_is_whole(&fleet.backends[0], &fleet.users).await
}
