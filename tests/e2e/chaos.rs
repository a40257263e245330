//! Proxies die without warning, again and again, under a crowd of clients.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::harness::callers::Chronicle;
use crate::harness::crowd::{Dice, percentile, seed};
use crate::harness::wait::heavy;
use crate::harness::{Caller, Callers, Crowd, Fleet, Habit, Protocol, Result, User, Witness};

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

/// What users come by beside IMAP.
const OTHERS: [Protocol; 5] =
    [Protocol::Pop3, Protocol::Sieve, Protocol::Submission, Protocol::Lmtp, Protocol::Doveadm];
/// One key for what the crowd and the callers call a user; the backends see one user, too.
const ONE_KEY: &str = "[fleet]\nbalance_factor = 1.0\naffinity_detail = \"+\"\naffinity_domain = \"test\"";

/// The same users by other protocols: every fifth by POP3, every tenth by ManageSieve, Submission and doveadm, and mail for
/// every fourth, with another one as second recipient. Those who come and go by IMAP, and some who have none, stay away for
/// long here, too.
fn callers_of(users: &[User]) -> Vec<Caller> {
    let caller = |protocol, number: usize, to: &[usize]| {
        let users = to.iter().map(|number| users[*number].clone()).collect();
        let away = if number < 80 { Duration::from_secs(1) } else { Duration::from_secs(11) };
        Caller { protocol, users, away }
    };
    let by_pop3 = (0..users.len()).step_by(5).map(|number| caller(Protocol::Pop3, number, &[number]));
    let tenth = |protocol, first| (first..users.len()).step_by(10).map(move |number| (protocol, number));
    let by_more = tenth(Protocol::Sieve, 0).chain(tenth(Protocol::Submission, 5)).chain(tenth(Protocol::Doveadm, 0));
    let by_more = by_more.map(|(protocol, number)| caller(protocol, number, &[number]));
    let by_mail = (0..users.len()).step_by(4).map(|number| {
        // Of those who stay, one who stays.
        let other = if number < 80 { (number + 37) % 80 } else { 80 + (number - 80 + 7) % (users.len() - 80) };
        caller(Protocol::Lmtp, number, &[number, other])
    });
    by_pop3.chain(by_more).chain(by_mail).collect()
}

/// Holds that nobody was kept out for long: sooner than any lease ends. Each kill hits one in three: if this machine stands
/// still then, it delays a few of all.
fn were_back_soon(who: &str, returns: &[Duration]) -> Result {
    for (share, limit) in [(0.5, 2), (0.9, 3), (1.0, 30)] {
        let span = percentile(returns, share);
        ensure!(span < Duration::from_secs(limit), "{who} back too late: {share} of all after {span:?}");
    }
    Ok(())
}

/// Kills proxies at random and starts them again; gives how often.
async fn kill_and_kill(fleet: &mut Fleet, dice: &mut Dice) -> Result<usize> {
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
    Ok(kills)
}

/// Holds that those who came by other protocols got what they came for, soon, were never refused, and lost no mail.
fn callers_fared_well(chronicle: &Chronicle, witness: &Witness, kills: usize, fleet: &Fleet) -> Result {
    for protocol in OTHERS {
        let came = witness.visits.iter().filter(|visit| visit.protocol == protocol).count();
        println!("{}; the backends saw {came}", chronicle.summary(protocol));
        let done: usize = chronicle.by(protocol).map(|calls| calls.done).sum();
        ensure!(done > kills && came >= done, "{done} visits by {}, the backends saw {came}", protocol.word());
        were_back_soon(protocol.word(), &chronicle.returns(protocol))?;
    }
    ensure!(chronicle.refusals().is_empty(), "refused: {:?}", chronicle.refusals());
    println!("{} mails are there twice, for a killed proxy owed the answer", chronicle.mail_is_whole(fleet)?);
    Ok(())
}

#[tokio::test]
async fn i1_i3_i4_proxies_die_every_two_seconds_and_nobody_is_on_two_backends_lost_or_miscounted() -> Result {
    let _turn = heavy().await;
    let seed = seed();
    let mut dice = Dice::new(seed);
    let plan = Fleet::plan().proxies(3).users(110).protocols(&OTHERS).config(ONE_KEY);
    let mut fleet = plan.dovecot("auth_username_format = %Ln\n").start().await?;
    let clients = crowd_of(&fleet.users[..100]);
    let count = clients.len() as i64;
    let mut crowd = Crowd::enter(&fleet.doors(), clients, seed);
    crowd.rest(count).await?;
    crowd.wake();
    let callers = Callers::enter(&fleet, callers_of(&fleet.users), seed)?;

    let kills = kill_and_kill(&mut fleet, &mut dice).await?;

    let chronicle = callers.go_home().await?;
    crowd.rest(count).await?;
    fleet.counts_agree().await?;
    let story = crowd.go_home().await?;
    println!("{kills} kills; {}", story.summary());
    fleet.empty().await?;
    let witness = fleet.witness()?;
    println!("{} visits, {} users changed backends in between", witness.visits.len(), witness.moved());
    witness.swears_one_home()?;
    ensure!(story.returns().len() > kills, "the kills hit nobody: {}", story.summary());
    were_back_soon("imap", &story.returns())?;
    ensure!(story.refusals().is_empty(), "refused: {:?}", story.refusals());
    story.mail_is_whole(&fleet.backends[0], &fleet.users).await?;
    callers_fared_well(&chronicle, &witness, kills, &fleet)
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
