//! What is measured, in the order in which it is done to one growing store.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{bail, ensure};
use futures_util::future::try_join_all;
use homing::store::redis::Redis;
use homing::store::{Home, PAGE, Reaped, Reply, Request, Rules};

use crate::args::Args;
use crate::proxies::{PROXIES, Proxy};
use crate::report::{self, Cost};
use crate::server::Server;
use crate::work;

/// Claims in one pipeline: what a busy link sends at once.
const CLAIMS: usize = 16;
/// Pages of declarations in one pipeline.
const PAGES: usize = 4;
/// Parts of a measurement, of which the table shows the median and the cheapest.
const SLICES: usize = 10;
/// Proxies that keep the server busy while another waits.
const BUSY: usize = 7;

struct Story {
    server: Server,
    proxies: Vec<Proxy>,
    backends: u32,
    costs: Vec<Cost>,
}

/// Plays it all and returns the tables.
pub(crate) async fn tell(args: &Args) -> anyhow::Result<String> {
    let (keys, calls) = (args.keys(), args.calls());
    let mut story = Story::begin(args.backends).await?;
    let empty = story.server.memory().await?;

    story.declare("declared key: new, 1 session", 0..keys, 1).await?;
    let bound = story.server.memory().await? - empty;
    story.declare("declared key: same count again", 0..calls, 1).await?;
    story.declare("declared key: one session more", 0..calls, 2).await?;
    story.declare("declared key: 0, becomes idle", 0..keys, 0).await?;
    let idle = story.server.memory().await? - empty;
    story.declare("declared key: idle, 1 session", 0..calls, 1).await?;
    story.declare("declared key: 0 once more", 0..calls, 0).await?;

    story.claim("claim: joins an idle home", 0..calls, 0, 0).await?;
    story.claim("claim: joins sessions at another proxy", 0..calls, 1, 0).await?;
    story.claim("claim: joins its own sessions", 0..calls, 0, 1).await?;
    story.claim("claim: new user, is placed", keys..keys + calls, 0, 0).await?;
    story.rules(Rules { user_expire: 0, ..rules() }).await?;
    story.claim("claim: returns after user_expire, is placed", calls..2 * calls, 0, 0).await?;
    story.rules(Rules { slow_start: 3_600_000, ..rules() }).await?;
    story.claim("claim: new user while a backend ramps up", keys + calls..keys + 2 * calls, 0, 0).await?;
    story.rules(rules()).await?;
    story.beat(calls / 10).await?;

    let quiet = story.wait_quietly(2 * calls..2 * calls + calls / 10).await?;
    let loaded = story.wait_under_load(3 * calls..3 * calls + calls / 10).await?;
    story.reap().await?;

    let mut waits = [("one connection, one claim at a time", quiet), ("while seven others pipeline claims", loaded)];
    let memory = [("bound, one holder", bound / f64::from(keys)), ("idle, remembered", idle / f64::from(keys))];
    Ok(report::costs(&story.costs) + &report::waits(&mut waits) + &report::memory(&memory))
}

/// Those of a fleet, but with a recovery window that is over at once.
fn rules() -> Rules {
    Rules { recovery: 1, ..Rules::default() }
}

impl Story {
    async fn begin(backends: u32) -> anyhow::Result<Self> {
        let server = Server::start().await?;
        let store = Redis::new(server.settings(), rules());
        let mut proxies = Vec::new();
        for _ in 0..PROXIES {
            proxies.push(Proxy::start(&store).await?);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        let rows = work::table(backends, u64::try_from(now)?);
        match proxies[0].exchange(vec![Request::Table { based_on: 0, rows }]).await?.pop() {
            Some(Reply::Table(Ok(_))) => Ok(Self { server, proxies, backends, costs: Vec::new() }),
            other => bail!("the table was answered {other:?}"),
        }
    }

    async fn rules(&mut self, rules: Rules) -> anyhow::Result<()> {
        let store = Redis::new(self.server.settings(), rules);
        for proxy in &mut self.proxies {
            proxy.change_rules(&store).await?;
        }
        Ok(())
    }

    /// Measures a kind of work in slices: each proxy sends pipelines about so many of the users who come to it, which is
    /// `away` from the one that is theirs; all proxies side by side.
    async fn measure(
        &mut self,
        name: &'static str,
        users: Range<u32>,
        away: u32,
        in_pipeline: usize,
        requests: impl Fn(&[u32]) -> Vec<Request>,
    ) -> anyhow::Result<()> {
        let users: Vec<u32> = users.collect();
        let mut cpu = Vec::new();
        self.server.reset().await?;
        for slice in users.chunks(users.len().div_ceil(SLICES)) {
            let before = self.server.cpu().await?;
            let lanes = by_proxy(slice, away);
            let lanes = self.proxies.iter_mut().zip(&lanes);
            try_join_all(lanes.map(|(proxy, users)| send(proxy, users, in_pipeline, &requests))).await?;
            cpu.push((self.server.cpu().await? - before) / slice.len() as f64);
        }
        let script = self.server.script_time().await?;
        self.costs.push(Cost { name, units: users.len(), cpu, script });
        Ok(())
    }

    /// Every proxy declares the users that it holds.
    async fn declare(&mut self, name: &'static str, users: Range<u32>, count: u32) -> anyhow::Result<()> {
        let backends = self.backends;
        let requests = |users: &[u32]| work::declares(users, count, backends);
        self.measure(name, users, 0, PAGES * PAGE, requests).await
    }

    /// Users log in at the proxy `away` from the one that is theirs, which has `have` sessions of each.
    async fn claim(&mut self, name: &'static str, users: Range<u32>, away: u32, have: u32) -> anyhow::Result<()> {
        let requests = |users: &[u32]| users.iter().map(|user| work::claim(*user, have)).collect();
        self.measure(name, users, away, CLAIMS, requests).await
    }

    async fn beat(&mut self, times: u32) -> anyhow::Result<()> {
        self.server.reset().await?;
        let before = self.server.cpu().await?;
        for time in 0..times {
            self.proxies[work::proxy_of(time)].beat().await?;
        }
        let cpu = vec![(self.server.cpu().await? - before) / f64::from(times)];
        let script = self.server.script_time().await?;
        self.costs.push(Cost { name: "heartbeat", units: times as usize, cpu, script });
        Ok(())
    }

    /// The first proxy claims idle users one by one while nobody else calls.
    async fn wait_quietly(&mut self, users: Range<u32>) -> anyhow::Result<Vec<Duration>> {
        let users: Vec<u32> = users.collect();
        one_by_one(&mut self.proxies[0], &users).await
    }

    /// The same while others keep the server busy.
    async fn wait_under_load(&mut self, users: Range<u32>) -> anyhow::Result<Vec<Duration>> {
        let users: Vec<u32> = users.collect();
        let busy = AtomicBool::new(true);
        let Some((first, others)) = self.proxies.split_first_mut() else { bail!("there is no proxy") };
        let others = try_join_all(others.iter_mut().take(BUSY).map(|proxy| keep_busy(proxy, &users, &busy)));
        let first = async {
            let waits = one_by_one(first, &users).await;
            busy.store(false, Ordering::Relaxed);
            waits
        };
        Ok(tokio::try_join!(first, others)?.0)
    }

    /// One proxy is dead: another frees its keys, page by page.
    async fn reap(&mut self) -> anyhow::Result<()> {
        let orphan = self.proxies[0].incarnation.clone();
        self.proxies[1].exchange(vec![Request::Forget { dead: orphan.clone() }]).await?;
        self.server.reset().await?;
        let before = self.server.cpu().await?;
        let mut pages = 0_u32;
        loop {
            pages += 1;
            match self.proxies[1].exchange(vec![Request::Reap { orphan: orphan.clone() }]).await?.pop() {
                Some(Reply::Reap(Reaped::More)) => {}
                Some(Reply::Reap(Reaped::Gone)) => break,
                other => bail!("a reap was answered {other:?}"),
            }
        }
        let cpu = vec![(self.server.cpu().await? - before) / f64::from(pages)];
        let script = self.server.script_time().await?;
        self.costs.push(Cost { name: "reap: page of 100 keys", units: pages as usize, cpu, script });
        Ok(())
    }
}

/// The users who come to each proxy.
fn by_proxy(users: &[u32], away: u32) -> Vec<Vec<u32>> {
    let mut all = vec![Vec::new(); PROXIES as usize];
    for user in users {
        all[work::proxy_of(user + away)].push(*user);
    }
    all
}

async fn send(
    proxy: &mut Proxy,
    users: &[u32],
    in_pipeline: usize,
    requests: &impl Fn(&[u32]) -> Vec<Request>,
) -> anyhow::Result<()> {
    for users in users.chunks(in_pipeline) {
        for reply in proxy.exchange(requests(users)).await? {
            let done = match &reply {
                Reply::Claim(home) => matches!(home, Home::Bound { .. }),
                Reply::Declare(kicks) => kicks.is_empty(),
                _ => false,
            };
            ensure!(done, "the answer was {reply:?}");
        }
    }
    Ok(())
}

/// Claims the same users again and again, until told to stop.
async fn keep_busy(proxy: &mut Proxy, users: &[u32], busy: &AtomicBool) -> anyhow::Result<()> {
    for users in users.chunks(CLAIMS).cycle() {
        proxy.exchange(users.iter().map(|user| work::claim(*user, 0)).collect()).await?;
        if !busy.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

async fn one_by_one(proxy: &mut Proxy, users: &[u32]) -> anyhow::Result<Vec<Duration>> {
    let mut waits = Vec::new();
    for user in users {
        let begin = Instant::now();
        proxy.exchange(vec![work::claim(*user, 0)]).await?;
        waits.push(begin.elapsed());
    }
    Ok(waits)
}
