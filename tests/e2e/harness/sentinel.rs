//! A master, two replicas and three Sentinels that watch over them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::address::{free_port, fresh_ip};
use super::process::Daemon;
use super::redis::{Keep, Redis, program};
use super::{Result, eventually};

/// What the Sentinels call the master.
pub const NAME: &str = "mymaster";

/// How long a server may be silent before a Sentinel calls it down.
const DOWN_AFTER_MS: u32 = 1000;

/// All of them.
pub struct SentinelSet {
    /// The first is the first master.
    pub servers: Vec<Redis>,
    sentinels: Vec<(SocketAddr, Daemon)>,
}

impl SentinelSet {
    /// Starts them with files in `dir`, and waits until each Sentinel knows all the others. `server` and `sentinel` are
    /// further arguments and lines of the configuration.
    pub async fn start(dir: &Path, server: &[&str], sentinel: &str) -> Result<Self> {
        Self::start_at(None, dir, server, sentinel).await
    }

    /// The same, all at one address of the test's choice, or each at one of its own.
    pub async fn start_at(ip: Option<IpAddr>, dir: &Path, server: &[&str], sentinel: &str) -> Result<Self> {
        let address = || free_port(ip.unwrap_or_else(fresh_ip));
        let mut servers = vec![start_server(address()?, dir, 0, server).await?];
        let (ip, port) = (servers[0].address.ip().to_string(), servers[0].address.port().to_string());
        for number in 1..3 {
            let arguments = [server, &["--replicaof", &ip, &port, "--repl-diskless-sync-delay", "0"]].concat();
            servers.push(start_server(address()?, dir, number, &arguments).await?);
        }
        let mut set = Self { servers, sentinels: Vec::new() };
        for number in 0..3 {
            let master = set.servers[0].address;
            set.sentinels.push(start_sentinel(address()?, dir, number, master, sentinel)?);
        }
        set.settled().await?;
        set.be_awake_again_soon().await;
        Ok(set)
    }

    /// `[store]` of a proxy.
    pub fn store_lines(&self) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(|(address, _)| address.to_string()).collect();
        format!("sentinels = {addresses:?}\nmaster = {NAME:?}\n")
    }

    /// A Sentinel that finds its clock has jumped by 2 s does nothing for 30 s, unless told otherwise. That may be all right
    /// for a machine that stood still, but not for one that does so every now and then. Servers before 7.0 cannot be told.
    async fn be_awake_again_soon(&self) {
        for (address, _) in &self.sentinels {
            let _: Result<String> = ask(*address, &["DEBUG", "TILT-PERIOD", "1500"]).await;
        }
    }

    /// Waits until the Sentinels know of two other Sentinels and, of a reachable master, two good replicas.
    pub async fn settled(&self) -> Result {
        for (address, _) in &self.sentinels {
            eventually("the Sentinels know each other", Duration::from_secs(60), async || {
                let about: Vec<String> = ask(*address, &["MASTER", NAME]).await?;
                let field = |name: &str| about.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
                let known = (field("num-other-sentinels"), field("num-slaves"), field("flags"));
                ensure!(known == (Some("2"), Some("2"), Some("master")), "{known:?}");
                let replicas: Vec<Vec<String>> = ask(*address, &["REPLICAS", NAME]).await?;
                let fit = |replica: &&Vec<String>| replica.chunks(2).any(|pair| pair == ["flags", "slave"]);
                ensure!(replicas.iter().filter(fit).count() == 2, "{replicas:?}");
                Ok(())
            })
            .await?;
        }
        eventually("both replicas are in step", Duration::from_secs(60), async || {
            let master = self.master().await?;
            for server in self.servers.iter().filter(|server| server.address != master) {
                ensure!(server.info("master_link_status").await? == "up", "{} is not", server.address);
            }
            Ok(())
        })
        .await
    }

    /// The master, by the word of the first Sentinel.
    pub async fn master(&self) -> Result<SocketAddr> {
        let at: (String, u16) = ask(self.sentinels[0].0, &["GET-MASTER-ADDR-BY-NAME", NAME]).await?;
        Ok(SocketAddr::new(at.0.parse()?, at.1))
    }

    /// A planned failover, asked for but not waited for.
    pub async fn fail_over(&self) -> Result {
        let done: String = ask(self.sentinels[0].0, &["FAILOVER", NAME]).await?;
        ensure!(done == "OK", "{done}");
        Ok(())
    }

    /// Kills the Sentinels.
    pub fn lose_sentinels(&mut self) {
        self.sentinels.clear();
    }

    /// The server at that address.
    pub fn server(&mut self, address: SocketAddr) -> Result<&mut Redis> {
        self.servers.iter_mut().find(|server| server.address == address).context("no such server")
    }

    /// Waits until the Sentinels name another master than `before`, and gives it.
    pub async fn switched(&self, before: SocketAddr) -> Result<SocketAddr> {
        eventually("the Sentinels name another master", Duration::from_secs(60), async || {
            let master = self.master().await?;
            ensure!(master != before, "still {before}");
            Ok(master)
        })
        .await
    }
}

async fn start_server(address: SocketAddr, dir: &Path, number: u32, extra: &[&str]) -> Result<Redis> {
    let dir = dir.join(format!("server{number}"));
    // Sentinels learn of replicas from the master, which else names the address that they connect from.
    let ip = address.ip().to_string();
    let arguments = [extra, &["--replica-announce-ip", &ip]].concat();
    Redis::start_at(address, &dir, Keep::Everything, &arguments).await
}

/// A Sentinel rewrites its configuration file, so it has a directory of its own.
fn start_sentinel(
    address: SocketAddr,
    dir: &Path,
    number: u32,
    master: SocketAddr,
    more: &str,
) -> Result<(SocketAddr, Daemon)> {
    let dir = dir.join(format!("sentinel{number}"));
    std::fs::create_dir_all(&dir)?;
    let (ip, port, file) = (address.ip(), address.port(), dir.join("sentinel.conf"));
    let text = format!(
        "bind {ip}\nprotected-mode no\nport {port}\ndir {}\nsentinel announce-ip {ip}\nsentinel monitor {NAME} {} {} 2\n\
         sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\nsentinel failover-timeout {NAME} 10000\n{more}\n",
        dir.display(),
        master.ip(),
        master.port(),
    );
    std::fs::write(&file, text)?;
    let arguments = [file.display().to_string(), "--sentinel".to_owned()];
    Ok((address, Daemon::start(&program(), arguments, &dir.join("log"))?))
}

async fn ask<T: redis::FromRedisValue>(sentinel: SocketAddr, words: &[&str]) -> Result<T> {
    let mut connection = Redis::beside(sentinel).connect().await?;
    Ok(redis::cmd("SENTINEL").arg(words).query_async(&mut connection).await?)
}
