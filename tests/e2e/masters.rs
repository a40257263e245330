//! The store over Sentinel and Cluster, without proxies: links, orders and subscriptions follow the master.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use homing::config::{Config, RedisConfig, StoreConfig};
use homing::model::Incarnation;
use homing::store::link::{Identity, Link, LinkState};
use homing::store::redis::{Redis, Subscription};
use homing::store::{Heartbeat, Request, Rules, Store};
use rustix::process::Signal;

use crate::harness::redis::NAMESPACE;
use crate::harness::{Cluster, Redis as Server, Result, SentinelSet, Workdir, eventually};

const PATIENCE: Duration = Duration::from_secs(2);

/// What `[store]` with these lines says.
pub fn settings(lines: &str) -> Result<RedisConfig> {
    let text = format!(
        "[store]\nkind = \"redis\"\ntimeout = \"2s\"\n{lines}\n[backend.a]\nhost = \"a\"\n\
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
    Link::start(store.clone(), shard, identity, PATIENCE)
}

/// Waits for a hello beyond `hellos`, and gives what is known then.
async fn welcomed(link: &Link, hellos: u64) -> Result<LinkState> {
    let mut state = link.state();
    let up = state.wait_for(|state| state.welcome.is_some() && state.hellos > hellos);
    Ok(tokio::time::timeout(Duration::from_secs(30), up).await.context("no hello")??.clone())
}

fn beat() -> Request {
    Request::Heartbeat(Heartbeat { asserted: true, table_version: 0 })
}

/// Talks over the link until it breaks, and gives the hello after that.
async fn broken_and_welcomed_anew(link: &Link, hellos: u64) -> Result<LinkState> {
    while link.state().borrow().hellos == hellos {
        let _ = link.call(beat()).await;
        tokio::time::sleep(Duration::from_millis(10)).await; // as heartbeats do, only faster
    }
    welcomed(link, hellos).await
}

/// Waits until what is published at `server` is heard.
async fn is_heard(ear: &mut Subscription, channel: &str, server: SocketAddr) -> Result {
    let word = server.to_string();
    eventually("a message is heard", Duration::from_secs(20), async || {
        let mut mouth = Server::beside(server).connect().await?;
        let _: u32 = redis::cmd("PUBLISH").arg(channel).arg(&word).query_async(&mut mouth).await?;
        let message = tokio::time::timeout(Duration::from_millis(50), ear.next()).await?;
        ensure!(message.text == word && message.channel == channel, "{message:?}");
        Ok(())
    })
    .await
}

fn setting(key: &str, value: &str) -> redis::Pipeline {
    let mut order = redis::pipe();
    order.set(key, value).get(key);
    order
}

#[tokio::test]
async fn links_orders_and_subscriptions_leave_a_master_that_is_deposed_while_it_still_takes_writes() -> Result {
    let dir = Workdir::new()?;
    let mut servers = SentinelSet::start(dir.path(), &[], "").await?;
    let before = servers.master().await?;
    let store = store(&servers.store_lines())?;
    let link = link(&store, 0);
    let first = welcomed(&link, 0).await?;
    let channel = store.nudge_channel(0);
    let mut ear = store.subscribe(0, vec![channel.clone()]);
    is_heard(&mut ear, &channel, before).await?;

    servers.fail_over().await?;
    let second = broken_and_welcomed_anew(&link, first.hellos).await?;
    let run = |state: &LinkState| state.welcome.as_ref().map(|welcome| welcome.run.clone());
    ensure!(run(&first) != run(&second), "welcomed by the same server");
    ensure!(
        servers.server(before)?.info("role").await? == "master",
        "the old master was demoted first: this shows nothing"
    );
    let after = servers.switched(before).await?;
    let done = store.replicate(0, &setting("{homing:0}:order", "x")).await?;
    ensure!(done.answers.iter().all(redis::RedisResult::is_ok), "{done:?}");
    let mut there = Server::beside(after).connect().await?;
    let value: String = redis::cmd("GET").arg("{homing:0}:order").query_async(&mut there).await?;
    ensure!(value == "x");
    is_heard(&mut ear, &channel, after).await
}

#[tokio::test]
async fn an_order_tells_how_many_replicas_have_it() -> Result {
    let dir = Workdir::new()?;
    let servers = SentinelSet::start(dir.path(), &[], "").await?;
    let store = store(&servers.store_lines())?;
    let order = setting("{homing:0}:order", "x");
    let done = store.replicate(0, &order).await?;
    ensure!(done.answers.len() == 2 && done.answers.iter().all(redis::RedisResult::is_ok), "{done:?}");
    ensure!(done.replicas == 2 && done.confirmed >= 1, "{done:?}");
    for replica in &servers.servers[1..] {
        replica.daemon()?.signal(Signal::STOP)?;
    }
    let done = store.replicate(0, &order).await?;
    ensure!((done.replicas, done.confirmed) == (2, 0), "{done:?}");
    let alone = Server::start(dir.path(), crate::harness::redis::Keep::Nothing).await?;
    let done = self::store(&format!("url = {:?}", alone.url()))?.replicate(0, &order).await?;
    ensure!((done.replicas, done.confirmed, done.answers.len()) == (0, 0, 2), "{done:?}");
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
    let channel = store.nudge_channel(0);
    let mut ear = store.subscribe(0, vec![channel.clone()]);
    is_heard(&mut ear, &channel, before).await?;
    cluster.fail_over(before).await?;
    let state = broken_and_welcomed_anew(&links[0], 1).await?;
    ensure!(state.hellos == 2, "{state:?}");
    let after = cluster.switched(&key, before).await?;
    ensure!(store.replicate(0, &setting("{homing:0}:order", "x")).await?.answers.iter().all(redis::RedisResult::is_ok));
    is_heard(&mut ear, &channel, after).await?;
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
