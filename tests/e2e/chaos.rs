//! Proxies die without warning, again and again, under a crowd of clients.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::harness::crowd::{Dice, percentile, seed};
use crate::harness::wait::heavy;
use crate::harness::{Crowd, Fleet, Habit, Result, User};

/// A proxy is killed this often.
const EVERY: Duration = Duration::from_secs(2);
/// And started again so long after its death.
const DOWN: Duration = Duration::from_millis(700);

fn span() -> Duration {
    let seconds = std::env::var("HOMING_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// 100 users, 120 clients. Most stay; ten have two clients, at different proxies as often as not; twenty come and go, away
/// for so long that their home may change, and half of these come with two clients at once.
fn crowd_of(users: &[User]) -> Vec<(User, Habit)> {
    let away = Habit::Returns(Duration::from_secs(11));
    let client = |(number, user): (usize, &User)| {
        let habit = if number < 80 { Habit::Stays } else { away };
        let clients = if (10..90).contains(&number) { 1 } else { 2 };
        std::iter::repeat_n((user.clone(), habit), clients)
    };
    users.iter().enumerate().flat_map(client).collect()
}

#[tokio::test]
async fn i1_i3_i4_proxies_die_every_two_seconds_and_nobody_is_on_two_backends_lost_or_miscounted() -> Result {
    let _turn = heavy().await;
    let seed = seed();
    let mut dice = Dice::new(seed);
    let mut fleet = Fleet::plan().proxies(3).users(100).config("[fleet]\nbalance_factor = 1.0").start().await?;
    let clients = crowd_of(&fleet.users);
    let count = clients.len() as i64;
    let mut crowd = Crowd::enter(&fleet.doors(), clients, seed);
    crowd.rest(count).await?;
    crowd.wake();

    let (begun, mut kills) = (Instant::now(), 0);
    while begun.elapsed() < span() {
        let next = Instant::now() + EVERY;
        let victim = &mut fleet.proxies[dice.below(3) as usize];
        victim.kill();
        kills += 1;
        tokio::time::sleep(DOWN).await;
        victim.start().await?;
        tokio::time::sleep(next.saturating_duration_since(Instant::now())).await;
    }

    crowd.rest(count).await?;
    fleet.counts_agree().await?;
    let story = crowd.go_home().await?;
    println!("{kills} kills; {}", story.summary());
    fleet.empty().await?;
    let witness = fleet.witness()?;
    println!("{} visits, {} users changed backends in between", witness.visits.len(), witness.moved());
    witness.swears_one_home()?;
    let returns = story.returns();
    ensure!(returns.len() > kills, "the kills hit nobody: {}", story.summary());
    // Sooner than any lease ends. Each kill hits one in three: if this machine stands still then, it delays a few of all.
    ensure!(percentile(&returns, 0.5) < Duration::from_secs(1), "back too late: {}", story.summary());
    ensure!(percentile(&returns, 0.9) < Duration::from_secs(3), "back too late: {}", story.summary());
    ensure!(percentile(&returns, 1.0) < Duration::from_secs(30), "back too late: {}", story.summary());
    ensure!(story.refusals().is_empty(), "refused: {:?}", story.refusals());
    story.mail_is_whole(&fleet.backends[0], &fleet.users).await
}

#[tokio::test]
async fn i1_a_proxy_that_dies_for_good_takes_nobody_elsewhere_and_leaves_the_load_within_a_lease() -> Result {
    let mut fleet = Fleet::plan().proxies(2).users(12).start().await?;
    let mut homes = Vec::new();
    let mut sessions = Vec::new();
    for user in &fleet.users {
        let mut imap = fleet.proxy().log_in(user).await?;
        homes.push(imap.backend().await?);
        sessions.push(imap);
    }
    fleet.counts_agree().await?;
    fleet.proxies[0].kill();
    for (user, home) in fleet.users.iter().zip(&homes) {
        let mut imap = fleet.proxies[1].log_in(user).await?;
        ensure!(imap.backend().await? == *home, "{} was taken elsewhere", user.name);
        sessions.push(imap);
    }
    // The dead proxy's sessions are counted until its lease is over; then only what lives is.
    let load = |load: &std::collections::BTreeMap<String, i64>| load.values().sum::<i64>();
    crate::harness::eventually("the dead are off the load", Duration::from_secs(20), async || {
        let now = fleet.redis.load().await?;
        ensure!(load(&now) == 12, "{now:?}");
        Ok(())
    })
    .await?;
    fleet.witness()?.swears_one_home()
}
