//! What must be true once all is well again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use homing::model::{BackendId, Incarnation, Key};
use homing::store::{Census, ProxyView};
use tokio::time::sleep;

use super::proxy::{Proxy, wanted};
use super::session::log_in;
use super::site::Site;
use super::world::{Weather, World};
use super::{clock, operator};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Ends every trouble.
pub fn heal(site: &Site) {
    let world = &site.world;
    world.tell(|| "all is well".to_owned());
    for proxy in site.proxies() {
        world.set_weather(proxy.owner, Weather::Fair);
        world.thaw(proxy.owner, 0);
        site.backends.iter().for_each(|backend| world.mend(proxy.owner, backend));
    }
    site.backends.iter().for_each(|backend| world.switch(backend, true));
    world.server.set_down(world, false);
    site.vote();
}

/// Waits until the fleet is quiet and exact, then has everybody log in everywhere.
pub async fn judge(site: &Site) {
    operator::restores_all(site).await;
    settle(site, "after the storm").await;
    site.bid_good_night();
    let mut clients = Vec::new();
    for key in site.keys.iter() {
        for proxy in site.proxies() {
            match log_in(&site.world, &proxy, wanted(key)).await {
                Ok(client) => clients.push(client),
                Err(why) => site.world.fail(format_args!("liveness: {key} at p{}: {why:?}", proxy.owner)),
            }
        }
    }
    settle(site, "with everybody in").await;
    drop(clients);
    settle(site, "with everybody gone").await;
}

/// I3: in a quiet fleet, and within a bound, the store's numbers are the sessions that exist.
async fn settle(site: &Site, when: &str) {
    let rules = &site.world.plan.rules;
    let bound = clock::now() + rules.lease + rules.orphan_grace + rules.recovery_max + 10_000;
    loop {
        let Err(difference) = compare(site) else { return };
        if site.world.fault().is_some() {
            return;
        }
        if clock::now() > bound {
            return site.world.fail(format_args!("I3 {when}: {difference}"));
        }
        sleep(LOOK).await;
    }
}

fn compare(site: &Site) -> Result<(), String> {
    let (world, proxies) = (&site.world, site.proxies());
    let censuses: Vec<Census> = (0..world.plan.shards).map(|shard| world.server.census(shard)).collect();
    for census in &censuses {
        all_are_registered(census, &proxies)?;
        if census.table_version != censuses[0].table_version {
            return Err(format!("tables of {} and {}", censuses[0].table_version, census.table_version));
        }
    }
    let counts = Counts::of(site, &proxies)?;
    counts.are_stored(world, &censuses)?;
    nothing_is_left_to_declare(site, &proxies)
}

/// The store knows the proxies that run, and no others, and nothing is under way there.
fn all_are_registered(census: &Census, proxies: &[Arc<Proxy>]) -> Result<(), String> {
    if let Some(ms) = census.recovering_ms {
        return Err(format!("still recovering for {ms} ms"));
    }
    if census.moving > 0 {
        return Err(format!("{} keys are being moved", census.moving));
    }
    let runs = |view: &ProxyView| !view.orphan && proxies.iter().any(|proxy| proxy.incarnation == view.incarnation);
    match census.proxies.iter().find(|view| !runs(view)) {
        Some(stranger) => Err(format!("{} is still registered", stranger.incarnation)),
        None if census.proxies.len() == proxies.len() => Ok(()),
        None => Err(format!("{} of {} proxies are registered", census.proxies.len(), proxies.len())),
    }
}

/// The sessions that exist.
#[derive(Default)]
struct Counts {
    by_holder: BTreeMap<(Key, Option<Incarnation>, BackendId), u32>,
    by_backend: BTreeMap<BackendId, u32>,
}

impl Counts {
    fn of(site: &Site, proxies: &[Arc<Proxy>]) -> Result<Self, String> {
        let mut counts = Self::default();
        for visit in site.world.facts().visits.values() {
            let Some(place) = visit.place.as_ref().filter(|_| visit.holds && visit.open) else {
                return Err(format!("a login of {} is under way at p{}", visit.key, visit.owner));
            };
            let holder = proxies.iter().find(|proxy| proxy.owner == visit.owner).map(|proxy| proxy.incarnation.clone());
            *counts.by_holder.entry((visit.key.clone(), holder, place.backend.clone())).or_default() += 1;
            *counts.by_backend.entry(place.backend.clone()).or_default() += 1;
        }
        Ok(counts)
    }

    fn are_stored(&self, world: &World, censuses: &[Census]) -> Result<(), String> {
        let mut stored = BTreeMap::new();
        for (key, binding) in (0..world.plan.shards).flat_map(|shard| world.server.bindings(shard)) {
            for (holder, sessions) in binding.holders {
                let backend = binding.backend.clone().unwrap_or_else(|| BackendId::new(""));
                stored.insert((key.clone(), Some(holder), backend), sessions);
            }
        }
        if stored != self.by_holder {
            return Err(format!("the store counts {stored:?}, there are {:?}", self.by_holder));
        }
        let mut loads: BTreeMap<&BackendId, u32> = BTreeMap::new();
        for view in censuses.iter().flat_map(|census| &census.backends) {
            *loads.entry(&view.backend).or_default() += view.sessions;
        }
        for (backend, load) in loads {
            let there = self.by_backend.get(backend).copied().unwrap_or(0);
            if load != there {
                return Err(format!("{backend} has {there} sessions, the store counts {load}"));
            }
        }
        Ok(())
    }
}

fn nothing_is_left_to_declare(site: &Site, proxies: &[Arc<Proxy>]) -> Result<(), String> {
    let dirty = |proxy: &&Arc<Proxy>| proxy.fleet.shards().iter().any(|shard| shard.ledger.holding().dirty > 0);
    if let Some(proxy) = proxies.iter().find(dirty) {
        return Err(format!("p{} has keys to declare", proxy.owner));
    }
    let empty = |key: &Key| proxies.iter().find(|proxy| proxy.ledger(key).look(key).is_some_and(|(_, held)| held == 0));
    match site.keys.iter().find_map(empty) {
        Some(proxy) => Err(format!("p{} keeps a place", proxy.owner)),
        None => Ok(()),
    }
}
