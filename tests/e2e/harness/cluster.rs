//! A Redis Cluster of three masters, each with a replica.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::address::{free_port, fresh_ip};
use super::redis::{Keep, Redis};
use super::{Result, eventually};

/// Slots of a Cluster.
const SLOTS: u16 = 16_384;
const MASTERS: usize = 3;

/// The nodes: first the masters, then a replica of each.
pub struct Cluster {
    /// All nodes.
    pub nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts the nodes with files in `dir`, joins them and waits until all slots are served.
    pub async fn start(dir: &Path) -> Result<Self> {
        let starts = (0..MASTERS * 2).map(|number| start_node(dir, number));
        let cluster = Self { nodes: futures_util::future::try_join_all(starts).await? };
        let share = SLOTS / MASTERS as u16;
        for (number, node) in cluster.nodes.iter().enumerate() {
            if number < MASTERS {
                let first = share * number as u16;
                let last = if number + 1 == MASTERS { SLOTS - 1 } else { first + share - 1 };
                let _: () = call(node, &["ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await?;
            }
            // Equal epochs of new nodes would have to be sorted out first.
            let _: () = call(node, &["SET-CONFIG-EPOCH", &(number + 1).to_string()]).await?;
            cluster.meet(node).await?;
        }
        cluster.all_known().await?;
        for number in 0..MASTERS {
            let id: String = call(&cluster.nodes[number], &["MYID"]).await?;
            let _: () = call(&cluster.nodes[MASTERS + number], &["REPLICATE", &id]).await?;
        }
        cluster.whole().await?;
        Ok(cluster)
    }

    /// `[store]` of a proxy.
    pub fn store_lines(&self) -> String {
        let addresses: Vec<String> = self.nodes[..MASTERS].iter().map(|node| node.address.to_string()).collect();
        format!("cluster = {addresses:?}\n")
    }

    /// The master that has a key, by the word of the nodes that answer.
    pub async fn owner(&self, key: &str) -> Result<SocketAddr> {
        for node in &self.nodes {
            let Ok(slot) = call::<u16>(node, &["KEYSLOT", key]).await else { continue };
            let ranges: Vec<(u16, u16, (String, u16))> = masters(node).await?;
            let range = ranges.into_iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
            let (.., (host, port)) = range.with_context(|| format!("nobody has slot {slot}"))?;
            return Ok(SocketAddr::new(host.parse()?, port));
        }
        anyhow::bail!("no node answers")
    }

    /// The node at that address.
    pub fn node(&mut self, address: SocketAddr) -> Result<&mut Redis> {
        self.nodes.iter_mut().find(|node| node.address == address).context("no such node")
    }

    /// A planned failover: the replica of `master` takes over.
    pub async fn fail_over(&self, master: SocketAddr) -> Result {
        for node in &self.nodes {
            if node.info("role").await? == "slave" && node.info("master_port").await? == master.port().to_string() {
                return take_over(node).await;
            }
        }
        anyhow::bail!("{master} has no replica")
    }

    /// Waits until another node than `before` has the key, and gives it.
    pub async fn switched(&self, key: &str, before: SocketAddr) -> Result<SocketAddr> {
        eventually("another node has the slot", Duration::from_secs(60), async || {
            let owner = self.owner(key).await?;
            ensure!(owner != before, "still {before}");
            Ok(owner)
        })
        .await
    }

    async fn meet(&self, node: &Redis) -> Result {
        let (ip, port) = (self.nodes[0].address.ip().to_string(), self.nodes[0].address.port().to_string());
        let bus = bus(self.nodes[0].address).to_string();
        call(node, &["MEET", &ip, &port, &bus]).await
    }

    async fn all_known(&self) -> Result {
        for node in &self.nodes {
            eventually("the nodes know each other", Duration::from_secs(60), async || {
                let info: String = call(node, &["INFO"]).await?;
                let all = format!("cluster_known_nodes:{}\r", self.nodes.len());
                ensure!(info.contains(&all), "{info}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until every node serves, and every replica is in step.
    async fn whole(&self) -> Result {
        for (number, node) in self.nodes.iter().enumerate() {
            eventually("the Cluster is whole", Duration::from_secs(60), async || {
                let info: String = call(node, &["INFO"]).await?;
                ensure!(info.contains("cluster_state:ok"), "{info}");
                // Until a master has heard who its replica is, it takes no request of it to hand over.
                let roles: String = call(node, &["NODES"]).await?;
                let replicas = roles.lines().filter(|line| line.contains("slave")).count();
                ensure!(replicas == self.nodes.len() - MASTERS, "{roles}");
                ensure!(number < MASTERS || node.info("master_link_status").await? == "up", "a replica is behind");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// Has a replica take over from its master, which it gives up after 5 s if it was held up, and then has to be told again.
async fn take_over(replica: &Redis) -> Result {
    let mut told: Option<Instant> = None;
    eventually("the replica takes over", Duration::from_secs(60), async || {
        if replica.info("role").await? == "master" {
            return Ok(());
        }
        if told.is_none_or(|at| at.elapsed() > Duration::from_secs(6)) {
            let _: () = call(replica, &["FAILOVER"]).await?;
            told = Some(Instant::now());
        }
        anyhow::bail!("it is a replica still")
    })
    .await
}

/// Nodes speak to each other at another port of their address.
fn bus(address: SocketAddr) -> u16 {
    // Beyond those that servers are given, below those of outgoing connections.
    address.port() + 10_000
}

async fn start_node(dir: &Path, number: usize) -> Result<Redis> {
    let address = free_port(fresh_ip())?;
    let bus = bus(address).to_string();
    let arguments = [
        ["--cluster-enabled", "yes"],
        ["--cluster-port", &bus],
        ["--cluster-config-file", "nodes.conf"],
        ["--cluster-node-timeout", "4000"],
        ["--cluster-announce-ip", &address.ip().to_string()],
        ["--repl-diskless-sync-delay", "0"],
    ];
    Redis::start_at(address, &dir.join(format!("node{number}")), Keep::Everything, &arguments.concat()).await
}

async fn call<T: redis::FromRedisValue>(node: &Redis, words: &[&str]) -> Result<T> {
    Ok(redis::cmd("CLUSTER").arg(words).query_async(&mut node.connect().await?).await?)
}

/// First and last slot of each range, and its master.
async fn masters(node: &Redis) -> Result<Vec<(u16, u16, (String, u16))>> {
    let ranges: Vec<Vec<redis::Value>> = call(node, &["SLOTS"]).await?;
    let read = |range: Vec<redis::Value>| {
        let mut parts = range.into_iter();
        let mut next = || parts.next().context("a range is cut short");
        let (first, last) = (redis::from_redis_value(next()?)?, redis::from_redis_value(next()?)?);
        let node: Vec<redis::Value> = redis::from_redis_value(next()?)?;
        let [host, port, ..] = &node[..] else { anyhow::bail!("a node is cut short") };
        Ok((first, last, (redis::from_redis_value(host.clone())?, redis::from_redis_value(port.clone())?)))
    };
    ranges.into_iter().map(read).collect()
}
