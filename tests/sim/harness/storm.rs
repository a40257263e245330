//! What befalls a fleet.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::executor::WORLD;
use super::plan::Trouble;
use super::site::Site;
use super::world::Weather;
use super::{clock, operator};

/// Everything bad, one after the other and several at once, for as long as the plan says.
pub async fn rage(site: &Site) {
    let world = &site.world;
    let until = clock::now() + world.plan.storm.as_millis() as u64;
    while clock::now() < until && world.fault().is_none() {
        sleep(world.dice.span(0, world.plan.calm)).await;
        match world.plan.focus.filter(|_| world.dice.percent(50)) {
            Some(focus) => {
                strike_with(site, focus);
                // Such troubles take their time, and show only if little else comes between.
                sleep(world.dice.span(2_000, 7_000)).await;
            }
            None => strike(site),
        }
    }
}

fn strike_with(site: &Site, focus: Trouble) {
    match focus {
        Trouble::Ambush => ambush(site),
        Trouble::TellsLate => tells_late(site),
        Trouble::Cut => cut_off(site),
        Trouble::GoesBack => go_back(site),
        Trouble::ClockSteps => {
            cut_off(site);
            later(site, site.world.dice.span(100, 1_500), step_clock);
        }
        Trouble::Moves => (0..site.world.dice.between(2, 5)).for_each(|_| operator::moves(site)),
    }
}

fn strike(site: &Site) {
    let dice = &site.world.dice;
    match dice.below(100) {
        0..10 => replace(site),
        10..24 => stand_still(site),
        24..28 => ambush(site),
        28..32 => tells_late(site),
        32..46 => foul(site),
        46..54 => cut_off_from_backend(site),
        54..60 => forget(site),
        60..66 => go_back(site),
        66..69 => cut_off(site),
        69..72 => close_store(site),
        72..76 => step_clock(site),
        76..80 => backend_fails(site),
        80..82 => one_is_wrong(site),
        82..86 if site.world.plan.jobs && dice.percent(60) => operator::bulk_work(site),
        82..86 => operator::changes_table(site),
        86..94 => operator::moves(site),
        _ => operator::marks(site),
    }
}

/// Ends a trouble later, or when all troubles end.
fn later(site: &Site, after: Duration, what: impl FnOnce(&Site) + Send + 'static) {
    let site = site.clone();
    site.world.executor.clone().spawn(WORLD, async move {
        let _ = timeout(after, site.peace()).await;
        what(&site);
    });
}

/// How long a trouble lasts: mostly short, sometimes beyond all deadlines.
fn span(site: &Site) -> Duration {
    let dice = &site.world.dice;
    match dice.below(10) {
        0..4 => dice.span(10, 800),
        4..7 => dice.span(800, 4_000),
        7 => dice.span(3_000, 10_000),
        _ => dice.span(6_000, 20_000),
    }
}

/// kill -9, and another start: soon or later, under its name or another.
fn replace(site: &Site) {
    let Some(victim) = site.any_proxy().filter(|_| site.proxies().len() > 1) else { return };
    site.kill(victim.owner);
    let dice = &site.world.dice;
    let name = if dice.percent(70) { victim.name.clone() } else { format!("q{}", victim.owner) };
    later(site, dice.span(50, 3_000), move |site| drop(site.start(&name)));
}

/// SIGSTOP, a machine that sleeps, or one whose clock stands still, too.
fn stand_still(site: &Site) {
    let Some(victim) = site.any_proxy() else { return };
    let (owner, dice, span) = (victim.owner, &site.world.dice, span(site));
    if site.world.facts().proxies.get(&owner).is_none_or(|proxy| proxy.frozen) {
        return;
    }
    let stalled = if dice.percent(15) { span.as_millis() as u64 } else { 0 };
    site.world.freeze(owner);
    later(site, span, move |site| site.world.thaw(owner, stalled));
}

fn foul(site: &Site) {
    let Some(victim) = site.any_proxy() else { return };
    let (owner, dice) = (victim.owner, &site.world.dice);
    let weather = [Weather::Cut, Weather::Silent, Weather::Rough, Weather::Slow][dice.below(4) as usize];
    site.world.set_weather(owner, weather);
    later(site, span(site), move |site| {
        let after = if site.world.dice.percent(30) { Weather::Slow } else { Weather::Fair };
        site.world.set_weather(owner, after);
    });
}

fn cut_off_from_backend(site: &Site) {
    let (Some(victim), backend) = (site.any_proxy(), site.any_backend()) else { return };
    let owner = victim.owner;
    site.world.cut(owner, &backend);
    later(site, span(site), move |site| site.world.mend(owner, &backend));
}

/// FLUSHALL, or a restart without data; or one shard of several forgets.
fn forget(site: &Site) {
    let world = &site.world;
    if world.plan.shards > 1 && world.dice.percent(50) {
        let shard = world.dice.below(u64::from(world.plan.shards)) as u16;
        return world.server.flush_shard(world, shard);
    }
    world.server.flush(world);
    if world.dice.percent(50) {
        world.server.restart(world);
    }
}

/// A failover to a replica that lacks the latest writes, a restart with all of them, or, E5, data that go back and
/// nothing shows it.
fn go_back(site: &Site) {
    let (world, dice) = (&site.world, &site.world.dice);
    world.server.save();
    let kind = dice.below(10);
    later(site, dice.span(50, 2_500), move |site| match kind {
        0..5 if site.world.plan.rollbacks => site.world.server.roll_back(&site.world, false),
        0..8 => site.world.server.roll_back(&site.world, true),
        _ => site.world.server.restart(&site.world),
    });
}

/// Somebody is cut off from the store for longer than its lease, and does not know whether for ever.
fn cut_off(site: &Site) {
    let Some(victim) = site.any_proxy() else { return };
    let (owner, dice) = (victim.owner, &site.world.dice);
    site.world.set_weather(owner, if dice.percent(50) { Weather::Cut } else { Weather::Silent });
    let lease = site.world.plan.rules.lease;
    later(site, dice.span(lease, lease * 5), move |site| site.world.set_weather(owner, Weather::Fair));
}

/// Somebody stands still while it waits for an answer, and meanwhile the store forgets all.
fn ambush(site: &Site) {
    let (site, world) = (site.clone(), site.world.clone());
    world.executor.clone().spawn(WORLD, async move {
        for proxy in site.proxies() {
            world.set_weather(proxy.owner, Weather::Slow);
        }
        while site.is_open() {
            let asker = world.who_asks().filter(|owner| site.proxy(*owner).is_some());
            if let Some(owner) = asker {
                let span = world.dice.span(2_500, 5_000);
                sleep(world.dice.span(0, 60)).await;
                world.freeze(owner);
                later(&site, span, move |site| site.world.thaw(owner, 0));
                sleep(world.dice.span(100, 300)).await;
                return if site.is_open() {
                    world.server.flush(&world)
                };
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
}

/// Somebody comes back when the window that a loss has opened is nearly over, and is slow to tell what is there.
fn tells_late(site: &Site) {
    let Some(victim) = site.any_proxy() else { return };
    let (owner, dice) = (victim.owner, &site.world.dice);
    site.world.freeze(owner);
    site.world.server.flush(&site.world);
    let window = site.world.plan.rules.recovery;
    later(site, dice.span(window - 800, window + 300), move |site| {
        site.world.set_weather(owner, Weather::Slow);
        site.world.thaw(owner, 0);
    });
}

/// Nobody answers at the store for a while.
fn close_store(site: &Site) {
    site.world.server.set_down(&site.world, true);
    later(site, span(site), |site| site.world.server.set_down(&site.world, false));
}

/// Backwards whenever it likes; forwards once, for each time costs the store up to two seconds of its margin.
fn step_clock(site: &Site) {
    let (world, dice) = (&site.world, &site.world.dice);
    let by = dice.between(100, 60_000).cast_signed();
    if dice.percent(40) {
        world.server.step_clock(world, -by);
    } else if world.server.is_calm(world) && site.once() {
        world.server.step_clock(world, by);
    }
}

/// A backend dies, which all who look find out, and comes back.
fn backend_fails(site: &Site) {
    let backend = site.any_backend();
    if site.world.is_off(&backend) {
        return;
    }
    site.world.switch(&backend, false);
    later(site, site.world.dice.span(50, 600), Site::vote);
    later(site, span(site), move |site| {
        site.world.switch(&backend, true);
        later(site, site.world.dice.span(50, 600), Site::vote);
    });
}

/// One proxy finds a backend dead that is not; sometimes all do.
fn one_is_wrong(site: &Site) {
    let backend = site.any_backend();
    let all = site.world.dice.percent(30);
    let wrong = if all { site.proxies() } else { site.any_proxy().into_iter().collect() };
    for proxy in wrong {
        site.world.tell(|| format!("p{} believes that {backend} is dead", proxy.owner));
        proxy.fleet.shards()[0].reports.failing(vec![backend.clone()]);
    }
    later(site, span(site), Site::vote);
}
