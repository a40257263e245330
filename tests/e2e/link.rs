//! The way to the store is bad: cut, silent, or answers are lost.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::harness::crowd::{Dice, seed};
use crate::harness::proxy::text;
use crate::harness::wait::heavy;
use crate::harness::wire::{Mode, Wire};
use crate::harness::{Crowd, Fleet, Habit, Imap, Result, Status, eventually};

/// A fleet whose proxies each reach Redis by a wire of their own.
async fn wired(proxies: usize, users: usize, config: &str) -> Result<(Fleet, Vec<Wire>)> {
    let plan = Fleet::plan().proxies(proxies).users(users).config("[store]\ntimeout = \"1s\"").config(config);
    let mut fleet = plan.start_without_proxies().await?;
    let mut wires = Vec::new();
    for _ in 0..proxies {
        wires.push(Wire::to(fleet.redis.address).await?);
    }
    let mut addresses = wires.iter().map(|wire| wire.address);
    fleet.reconfigure(|config| {
        let address = addresses.next().unwrap();
        config["store"]["url"] = toml::Value::String(format!("redis://{address}/"));
    })?;
    for proxy in &mut fleet.proxies {
        proxy.start().await?;
    }
    Ok((fleet, wires))
}

#[tokio::test]
async fn i1_i3_links_that_break_all_the_time_lose_no_session_and_miscount_none() -> Result {
    let _turn = heavy().await;
    let seed = seed();
    let mut dice = Dice::new(seed);
    let (fleet, wires) = wired(3, 60, "").await?;
    let habit = |n| if n % 2 == 0 { Habit::Stays } else { Habit::Returns(Duration::from_millis(200)) };
    let clients: Vec<_> = fleet.users.iter().enumerate().map(|(n, user)| (user.clone(), habit(n))).collect();
    let mut crowd = Crowd::enter(&fleet.doors(), clients, seed);
    crowd.rest(60).await?;
    crowd.wake();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(15) {
        let wire = &wires[dice.below(3) as usize];
        let modes = [Mode::Cut, Mode::Still, Mode::Deaf, Mode::Open, Mode::Open];
        wire.set(modes[dice.below(5) as usize]);
        tokio::time::sleep(Duration::from_millis(50 + dice.below(400))).await;
        if dice.below(2) == 0 {
            wire.set(Mode::Open);
        }
    }
    for wire in &wires {
        wire.set(Mode::Open);
    }
    crowd.rest(60).await?;
    fleet.counts_agree().await?;
    let story = crowd.go_home().await?;
    println!("{}", story.summary());
    ensure!(story.total(|diary| diary.losses.len()) == 0, "sessions were dropped: {}", story.summary());
    let told: Vec<_> = story.refusals().into_iter().filter(|text| !text.starts_with("No [UNAVAILABLE]")).collect();
    ensure!(told.is_empty(), "refused with other words than [UNAVAILABLE]: {told:?}");
    fleet.empty().await?;
    fleet.witness()?.swears_one_home()?;
    story.mail_is_whole(&fleet.backends[0], &fleet.users).await
}

#[tokio::test]
async fn i3_a_claim_whose_answer_is_lost_is_put_right() -> Result {
    let (fleet, wires) = wired(1, 10, "[fleet]\nlogin_wait = \"2s\"").await?;
    // A heartbeat that is under way when the answers stop keeps the claim back, and nothing is sent: the next user then.
    for user in &fleet.users {
        wires[0].set(Mode::Deaf);
        let mut imap = Imap::connect(fleet.proxy().address()).await?;
        let begun = Instant::now();
        let answer = imap.try_login(user).await?;
        ensure!(answer.status == Status::No && answer.text.starts_with("[UNAVAILABLE]"), "{answer:?}");
        ensure!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
        if fleet.redis.sessions().await? > 0 {
            break;
        }
        wires[0].set(Mode::Open);
        fleet.proxy().log_in(user).await?.logout().await?;
    }
    // The claim was carried out: somebody has to take it back.
    ensure!(fleet.redis.sessions().await? > 0, "nothing was claimed, so nothing is proved");
    wires[0].set(Mode::Cut);
    wires[0].set(Mode::Open);
    fleet.counts_agree().await?;
    ensure!(fleet.redis.sessions().await? == 0);
    let open = fleet.proxy().log_in(&fleet.users[0]).await?;
    fleet.counts_agree().await?;
    drop(open);
    fleet.empty().await
}

#[tokio::test]
async fn i1_a_proxy_cut_off_from_the_store_closes_its_sessions_before_the_store_gives_their_homes_away() -> Result {
    let (fleet, wires) = wired(2, 4, "[fleet]\norphan_grace = \"16s\"").await?;
    let mut open = Vec::new();
    for user in &fleet.users {
        open.push(fleet.proxy().log_in(user).await?);
    }
    fleet.counts_agree().await?;
    wires[0].set(Mode::Cut);
    let cut = Instant::now();
    // Beyond the lease: an orphan that serves what it has, and more of the same users.
    eventually("it is an orphan", Duration::from_secs(10), async || {
        ensure!(fleet.redis.load().await?.is_empty());
        Ok(())
    })
    .await?;
    for session in &mut open {
        session.command("NOOP").await?.ok()?;
    }
    open.push(fleet.proxy().log_in(&fleet.users[0]).await?);
    // Towards the end of its grace: it closes, while the store still keeps the homes.
    for session in &mut open {
        let last = String::from_utf8_lossy(&session.lost().await?).into_owned();
        ensure!(last.starts_with("* BYE"), "{last:?}");
    }
    println!("closed {:?} after the cut", cut.elapsed());
    ensure!(fleet.redis.sessions().await? == 4, "the homes were given away before");
    let ending = fleet.proxy().ending_of(&fleet.users[0].name).await?;
    ensure!(text(&ending, "ending") == "isolated" && text(&ending, "who") == "proxy", "{ending}");
    eventually("the store lets go", Duration::from_secs(60), async || {
        ensure!(fleet.redis.sessions().await? == 0);
        Ok(())
    })
    .await?;
    for user in &fleet.users {
        fleet.proxies[1].log_in(user).await?;
    }
    wires[0].set(Mode::Open);
    eventually("it serves again", Duration::from_secs(60), async || {
        fleet.proxy().log_in(&fleet.users[0]).await.map(drop)
    })
    .await?;
    fleet.empty().await?;
    fleet.witness()?.swears_one_home()
}
