//! The store over Sentinel and Cluster, without proxies: links, orders and subscriptions follow the master.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use homing::config::{Config, RedisConfig, StoreConfig};
use homing::model::{Clock, Incarnation, Key, Tasks};
use homing::store::link::{Identity, Link, LinkState};
use homing::store::redis::Redis;
use homing::store::{Heartbeat, Mark, MarkChange, Nudges, Order, Outcome, Request, Rules, Store};
use rustix::process::Signal;

use crate::harness::redis::NAMESPACE;
use crate::harness::{Cluster, Redis as Server, Result, SentinelSet, Workdir, eventually};

/// How long a link waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `[store]` with these lines says.
pub fn settings(lines: &str) -> Result<RedisConfig> {
    let text = format!(
        "[store]\nkind = \"redis\"\ntimeout = \"6s\"\n{lines}\n[backend.a]\nhost = \"a\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n"
    );
    match Config::parse(&text, "homing.toml").map_err(|faults| anyhow::anyhow!("{faults}"))?.store {
        StoreConfig::Redis(redis) => Ok(*redis),
        StoreConfig::Memory => anyhow::bail!("not redis"),
    }
}

fn store(lines: &str) -> Result<Arc<Redis>> {
    Ok(Arc::new(Redis::new(settings(lines)?, Rules::default())))
}

/// Why no connection can be made; empty if one can.
pub async fn refusal(lines: &str) -> Result<String> {
    Ok(store(lines)?.connect(0).await.err().map(|error| error.to_string()).unwrap_or_default())
}

fn link(store: &Arc<Redis>, shard: u16) -> Link {
    let identity = Identity { incarnation: Incarnation::random(), name: "p".to_owned(), version: "1".to_owned() };
    let tasks = Tasks::new(|task| drop(tokio::spawn(task)));
    Link::start(store.clone(), shard, identity, PATIENCE, Clock::boottime(), &tasks)
}

/// Waits for a hello beyond `hellos`, and gives what is known then.
async fn welcomed(link: &Link, hellos: u64) -> Result<LinkState> {
    let mut state = link.state();
    let up = state.wait_for(|state| state.welcome.is_some() && state.hellos > hellos);
    Ok(tokio::time::timeout(Duration::from_secs(60), up).await.context("no hello")??.clone())
}

fn beat() -> Request {
    Request::Heartbeat(Heartbeat { asserted: true, ..Heartbeat::default() })
}

/// Talks over the link until it breaks, and gives the hello after that.
async fn broken_and_welcomed_anew(link: &Link, hellos: u64) -> Result<LinkState> {
    eventually("the link breaks", Duration::from_secs(60), async || {
        let _ = link.call(beat()).await; // as heartbeats do, only faster
        let now = link.state().borrow().hellos;
        ensure!(now != hellos, "hello number {now} still holds");
        Ok(())
    })
    .await?;
    welcomed(link, hellos).await
}

/// Waits until what is published at `server` is heard.
async fn is_heard(ear: &mut Box<dyn Nudges>, server: SocketAddr) -> Result {
    eventually("a message is heard", Duration::from_secs(60), async || {
        let mut mouth = Server::beside(server).connect().await?;
        let _: u32 = redis::cmd("PUBLISH").arg("{homing:0}:nudge").arg("x").query_async(&mut mouth).await?;
        Ok(tokio::time::timeout(Duration::from_millis(50), ear.next()).await??)
    })
    .await
}

/// Holds a key. Gives the replicas that have it, and how many there are.
async fn hold(store: &Redis, key: &str) -> Result<Option<(u32, u32)>> {
    let mark = Mark { key: Key::new(key), change: MarkChange::Hold(0) };
    let ordered = store.order(0, &Order::Mark(mark)).await?;
    ensure!(matches!(ordered.outcome, Outcome::Mark(_)), "{ordered:?}");
    Ok(ordered.replicas)
}

#[tokio::test]
async fn links_orders_and_subscriptions_leave_a_master_that_is_deposed_while_it_still_takes_writes() -> Result {
    let dir = Workdir::new()?;
    let mut servers = SentinelSet::start(dir.path(), &[], "").await?;
    let before = servers.master().await?;
    let store = store(&servers.store_lines())?;
    let link = link(&store, 0);
    let first = welcomed(&link, 0).await?;
    let mut ear = store.nudges(0, &Incarnation::new("x")).await?;
    is_heard(&mut ear, before).await?;

    servers.fail_over().await?;
    let second = broken_and_welcomed_anew(&link, first.hellos).await?;
    let run = |state: &LinkState| state.welcome.as_ref().map(|welcome| welcome.run.clone());
    ensure!(run(&first) != run(&second), "welcomed by the same server");
    ensure!(
        servers.server(before)?.info("role").await? == "master",
        "the old master was demoted first: this shows nothing"
    );
    let after = servers.switched(before).await?;
    hold(&store, "anna").await?;
    let mut there = Server::beside(after).connect().await?;
    let held: Option<String> = redis::cmd("HGET").arg("{homing:0}:b:anna").arg("hold").query_async(&mut there).await?;
    ensure!(held.is_some());
    is_heard(&mut ear, after).await
}

#[tokio::test]
async fn an_order_tells_how_many_replicas_have_it() -> Result {
    let dir = Workdir::new()?;
    let servers = SentinelSet::start(dir.path(), &[], "").await?;
    let store = store(&servers.store_lines())?;
    let link = link(&store, 0);
    welcomed(&link, 0).await?;
    // A second is all that is waited for a replica, which may be held up for longer.
    eventually("a replica has it", Duration::from_secs(60), async || {
        let replicas = hold(&store, "anna").await?;
        ensure!(matches!(replicas, Some((1..=2, 2))), "{replicas:?}");
        Ok(())
    })
    .await?;
    for replica in &servers.servers[1..] {
        replica.daemon()?.signal(Signal::STOP)?;
    }
    ensure!(hold(&store, "bert").await? == Some((0, 2)));
    let alone = Server::start(dir.path(), crate::harness::redis::Keep::Nothing).await?;
    let alone = self::store(&format!("url = {:?}", alone.url()))?;
    let link = self::link(&alone, 0);
    welcomed(&link, 0).await?;
    ensure!(hold(&alone, "anna").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_sentinel_that_is_down_and_one_that_hangs_do_not_keep_a_link_from_the_master() -> Result {
    let dir = Workdir::new()?;
    let servers = SentinelSet::start(dir.path(), &[], "").await?;
    let gone = crate::harness::address::fresh_address()?;
    let hanging = std::net::TcpListener::bind(crate::harness::address::fresh_address()?)?;
    let lines = servers.store_lines().replacen('[', &format!("[\"{gone}\", \"{}\", ", hanging.local_addr()?), 1);
    welcomed(&link(&store(&lines)?, 0), 0).await?;
    let silent = format!("sentinels = [\"{}\"]\nmaster = \"mymaster\"", hanging.local_addr()?);
    let said = refusal(&silent).await?;
    ensure!(said.contains("cannot be reached") && !said.contains("none of them knows"), "{said}");
    let said = refusal(&servers.store_lines().replace("mymaster", "hismaster")).await?;
    ensure!(said.contains("none of them knows a master \"hismaster\"; see store.master"), "{said}");
    let sentinel = servers.store_lines().split('"').nth(1).map(|at| format!("url = \"redis://{at}\""));
    let said = refusal(&sentinel.context("no Sentinel")?).await?;
    ensure!(said.contains("it is a Sentinel; give its address in sentinels"), "{said}");
    Ok(())
}

#[tokio::test]
async fn while_no_sentinel_answers_the_master_that_they_named_last_is_found_again() -> Result {
    let dir = Workdir::new()?;
    let mut servers = SentinelSet::start(dir.path(), &[], "").await?;
    let master = servers.master().await?;
    let store = store(&servers.store_lines())?;
    let link = link(&store, 0);
    welcomed(&link, 0).await?;
    servers.lose_sentinels();
    let mut side = Server::beside(master).connect().await?;
    let killed: u32 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query_async(&mut side).await?;
    ensure!(killed > 0);
    broken_and_welcomed_anew(&link, 1).await?;
    ensure!(link.call(beat()).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn the_shards_of_a_cluster_lie_on_several_nodes_and_each_link_follows_its_own() -> Result {
    const SHARDS: u16 = 6;
    let dir = Workdir::new()?;
    let cluster = Cluster::start(dir.path()).await?;
    let store = store(&format!("{}shards = {SHARDS}\n", cluster.store_lines()))?;
    let links: Vec<Link> = (0..SHARDS).map(|shard| link(&store, shard)).collect();
    let mut owners = BTreeSet::new();
    for (shard, link) in links.iter().enumerate() {
        welcomed(link, 0).await?;
        owners.insert(cluster.owner(&format!("{{{NAMESPACE}:{shard}}}:shard")).await?);
        ensure!(store.census(shard as u16).await?.proxies.len() == 1, "shard {shard}");
    }
    ensure!(owners.len() > 1, "all shards are on {owners:?}");

    let key = format!("{{{NAMESPACE}:0}}:shard");
    let before = cluster.owner(&key).await?;
    let mut ear = store.nudges(0, &Incarnation::new("x")).await?;
    is_heard(&mut ear, before).await?;
    cluster.fail_over(before).await?;
    let state = broken_and_welcomed_anew(&links[0], 1).await?;
    ensure!(state.hellos == 2, "{state:?}");
    let after = cluster.switched(&key, before).await?;
    hold(&store, "anna").await?;
    is_heard(&mut ear, after).await?;
    for (shard, link) in links.iter().enumerate() {
        if cluster.owner(&format!("{{{NAMESPACE}:{shard}}}:shard")).await? != after {
            link.call(beat()).await.with_context(|| format!("shard {shard}"))?;
            ensure!(link.state().borrow().hellos == 1, "shard {shard} said hello again");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_and_a_single_server_are_not_taken_for_each_other() -> Result {
    let dir = Workdir::new()?;
    let cluster = Cluster::start(dir.path()).await?;
    let alone = Server::start(dir.path(), crate::harness::redis::Keep::Nothing).await?;
    for (lines, remedy) in [
        (format!("url = {:?}", cluster.nodes[0].url()), "write cluster = "),
        (format!("cluster = [\"{}\"]", alone.address), "write url = "),
    ] {
        let said = refusal(&lines).await?;
        ensure!(said.contains("is unfit") && said.contains(remedy), "{said:?}");
    }
    Ok(())
}
