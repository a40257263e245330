//! What befalls a fleet.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::clock;
use super::executor::WORLD;
use super::site::Site;
use super::world::Weather;

/// Everything bad, one after the other and several at once, for as long as the plan says.
pub async fn rage(site: &Site) {
    let world = &site.world;
    let until = clock::now() + world.plan.storm.as_millis() as u64;
    while clock::now() < until && world.fault().is_none() {
        sleep(world.dice.span(0, world.plan.calm)).await;
        strike(site);
    }
}

fn strike(site: &Site) {
    let dice = &site.world.dice;
    match dice.below(20) {
        0..2 => replace(site),
        2..6 => stand_still(site),
        6..11 => foul(site),
        11..14 => cut_off_from_backend(site),
        14..16 => forget(site),
        16..18 => site.world.server.save(),
        _ => go_back(site),
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
        _ => dice.span(3_000, 19_000),
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

/// FLUSHALL, or a restart without data.
fn forget(site: &Site) {
    let world = &site.world;
    world.server.flush(world);
    if world.dice.percent(50) {
        world.server.restart(world);
    }
}

/// A failover to a replica that lacks the latest writes, or a restart with all of them.
fn go_back(site: &Site) {
    let world = &site.world;
    if world.dice.percent(70) {
        world.server.roll_back(world);
    }
    world.server.restart(world);
}
