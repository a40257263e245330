//! A real Redis, and what the fleet keeps in it, read past homing's own code.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::address::fresh_address;
use super::process::Daemon;
use super::{Result, eventually};

/// Namespace of every fleet's keys.
pub const NAMESPACE: &str = "homing";

/// How long a server may take to answer on a machine that stands still every now and then.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program: `HOMING_REDIS` names another, such as `valkey-server`.
pub fn program() -> String {
    std::env::var("HOMING_REDIS").unwrap_or_else(|_| "redis-server".to_owned())
}

/// A running Redis server.
pub struct Redis {
    /// Where it listens.
    pub address: SocketAddr,
    dir: PathBuf,
    keep: Keep,
    extra: Vec<String>,
    daemon: Option<Daemon>,
}

/// What outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: each start is empty.
    Nothing,
    /// All writes, in an append-only file.
    Everything,
}

/// A key's home as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Which backend.
    pub backend: String,
    /// Sessions that are counted.
    pub sessions: i64,
    /// The same per incarnation.
    pub held: BTreeMap<String, i64>,
}

/// Everything that a server receives.
pub struct Monitor {
    stream: TcpStream,
    heard: Vec<u8>,
    control: MultiplexedConnection,
}

impl Monitor {
    /// Gives what was heard up to now, each command in a line, arguments in double quotes.
    pub async fn stop(mut self) -> Result<String> {
        let last = "that-was-all";
        let _: String = redis::cmd("ECHO").arg(last).query_async(&mut self.control).await?;
        self.until(last).await?;
        Ok(String::from_utf8(self.heard)?)
    }

    async fn until(&mut self, word: &str) -> Result {
        let mut buffer = vec![0; 65_536];
        while memchr::memmem::find(&self.heard, word.as_bytes()).is_none() {
            let count = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await??;
            ensure!(count > 0, "Redis has closed");
            self.heard.extend_from_slice(&buffer[..count]);
        }
        Ok(())
    }
}

impl Redis {
    /// Starts a server with files in `dir`.
    pub async fn start(dir: &Path, keep: Keep) -> Result<Self> {
        Self::start_at(fresh_address()?, &dir.join("redis"), keep, &[]).await
    }

    /// Starts a server at an address of the test's choice with files in `dir` itself, and with more arguments.
    pub async fn start_at(address: SocketAddr, dir: &Path, keep: Keep, extra: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let extra = extra.iter().map(|word| (*word).to_owned()).collect();
        let mut redis = Self { address, dir: dir.to_owned(), keep, extra, daemon: None };
        redis.launch().await?;
        Ok(redis)
    }

    /// What somebody else runs at that address, to look into.
    pub fn beside(address: SocketAddr) -> Self {
        Self { address, dir: PathBuf::new(), keep: Keep::Nothing, extra: Vec::new(), daemon: None }
    }

    /// One field of INFO.
    pub async fn info(&self, field: &str) -> Result<String> {
        let info: String = redis::cmd("INFO").query_async(&mut self.connect().await?).await?;
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::to_owned).with_context(|| format!("no {field} in INFO"))
    }

    /// Starts it again at the same address after [`Redis::kill`].
    pub async fn launch(&mut self) -> Result {
        ensure!(self.daemon.is_none(), "Redis runs already");
        let append = if self.keep == Keep::Everything { "yes" } else { "no" };
        let (ip, port, dir) =
            (self.address.ip().to_string(), self.address.port().to_string(), self.dir.display().to_string());
        let arguments = [
            ["--bind", &ip],
            ["--port", &port],
            ["--dir", &dir],
            ["--save", ""],
            ["--appendonly", append],
            ["--appendfsync", "no"],
            ["--rdbcompression", "no"],
            ["--maxmemory-policy", "noeviction"],
            // Beyond loopback it would else serve nobody without a password.
            ["--protected-mode", "no"],
        ];
        let arguments = arguments.concat().into_iter().map(str::to_owned).chain(self.extra.iter().cloned());
        self.daemon = Some(Daemon::start(&program(), arguments, &self.dir.join("log"))?);
        let this = &*self;
        eventually("Redis answers", Duration::from_secs(60), async || {
            let pong: String = redis::cmd("PING").query_async(&mut this.connect().await?).await?;
            ensure!(pong == "PONG", "{pong}");
            Ok(())
        })
        .await
    }

    /// Makes it a replica of that master when it starts again.
    pub fn follow(&mut self, master: SocketAddr) {
        if let Some(at) = self.extra.iter().position(|word| word == "--replicaof") {
            self.extra.drain(at..at + 3);
        }
        self.extra.extend(["--replicaof".to_owned(), master.ip().to_string(), master.port().to_string()]);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// The process itself, for signals.
    pub fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("Redis is not running")
    }

    /// For `[store] url`.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> Result<MultiplexedConnection> {
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        Ok(redis::Client::open(self.url())?.get_multiplexed_async_connection_with_config(&patient).await?)
    }

    /// Forgets everything.
    pub async fn flush(&self) -> Result {
        Ok(redis::cmd("FLUSHALL").arg("SYNC").query_async(&mut self.connect().await?).await?)
    }

    /// Listens to every command that the server receives from now on.
    pub async fn monitor(&self) -> Result<Monitor> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(b"MONITOR\r\n").await?;
        let mut monitor = Monitor { stream, heard: Vec::new(), control: self.connect().await? };
        monitor.until("+OK").await?;
        Ok(monitor)
    }

    /// Writes the RDB file and gives its path.
    pub async fn save(&self) -> Result<PathBuf> {
        let _: String = redis::cmd("SAVE").query_async(&mut self.connect().await?).await?;
        Ok(self.dir.join("dump.rdb"))
    }

    /// The clock of the first shard, in milliseconds: what leases and other spans of the fleet are measured by.
    pub async fn clock(&self) -> Result<u64> {
        Ok(self.connect().await?.hget(format!("{{{NAMESPACE}:0}}:shard"), "clock").await?)
    }

    /// How often each command was called from outside scripts or within.
    pub async fn calls(&self, command: &str) -> Result<u64> {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.connect().await?).await?;
        let prefix = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(line.and_then(|rest| rest.split(',').next()).unwrap_or("0").parse()?)
    }

    /// All keys of the fleet.
    pub async fn keys(&self) -> Result<Vec<String>> {
        let mut connection = self.connect().await?;
        let mut found: Vec<String> = Vec::new();
        let mut scan = connection.scan_match::<_, String>(format!("{{{NAMESPACE}:*")).await?;
        while let Some(key) = scan.next_item().await {
            found.push(key?);
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Sessions per backend as the fleet counts them, all shards together; backends without any are left out.
    pub async fn load(&self) -> Result<BTreeMap<String, i64>> {
        let mut total = BTreeMap::new();
        for (_, fields) in self.hashes(":load").await? {
            // The field without a name only makes Redis find the others fast.
            for (backend, count) in fields.into_iter().filter(|(backend, _)| !backend.is_empty()) {
                *total.entry(backend).or_default() += count.parse::<i64>()?;
            }
        }
        total.retain(|_, count| *count != 0);
        Ok(total)
    }

    /// Every binding, by key.
    pub async fn bindings(&self) -> Result<BTreeMap<String, Binding>> {
        let mut all = BTreeMap::new();
        for (name, fields) in self.hashes(":b:").await? {
            let key = name.split_once(":b:").map(|(_, key)| key.to_owned()).context("no key")?;
            let held = fields.iter().filter_map(|(f, n)| Some((f.strip_prefix("h:")?.to_owned(), n.parse().ok()?)));
            let held: BTreeMap<String, i64> = held.collect();
            let sessions = fields.get("n").map_or(Ok(0), |n| n.parse())?;
            let backend = fields.get("be").cloned().unwrap_or_default();
            all.insert(key, Binding { backend, sessions, held });
        }
        Ok(all)
    }

    /// Sessions of all bindings together.
    pub async fn sessions(&self) -> Result<i64> {
        Ok(self.bindings().await?.values().map(|binding| binding.sessions).sum())
    }

    /// Holds that the store is consistent: no count below zero, a key's count the sum of its holders', the load the sum
    /// over keys (while nobody is an orphan).
    pub async fn audit(&self) -> Result {
        let mut load: BTreeMap<String, i64> = BTreeMap::new();
        for (key, binding) in self.bindings().await? {
            let held: i64 = binding.held.values().sum();
            ensure!(held == binding.sessions, "{key}: n is {} but {:?} are held", binding.sessions, binding.held);
            ensure!(binding.held.values().all(|n| *n > 0), "{key}: {:?}", binding.held);
            *load.entry(binding.backend).or_default() += binding.sessions;
        }
        load.retain(|_, count| *count != 0);
        let counted = self.load().await?;
        ensure!(load == counted, "bindings sum up to {load:?}, load says {counted:?}");
        Ok(())
    }

    /// The hashes whose names contain `part`, in one round trip after the scan.
    async fn hashes(&self, part: &str) -> Result<Vec<(String, BTreeMap<String, String>)>> {
        let keys: Vec<String> = self.keys().await?.into_iter().filter(|key| key.contains(part)).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for key in &keys {
            pipe.hgetall(key);
        }
        let values: Vec<BTreeMap<String, String>> = pipe.query_async(&mut self.connect().await?).await?;
        Ok(keys.into_iter().zip(values).collect())
    }
}
