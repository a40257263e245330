//! A Redis of our own on the loopback, and what it says about itself.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use homing::config::{RedisConfig, RedisLogin, RedisServers, StoreAddress};
use redis::aio::MultiplexedConnection;

const HOST: &str = "127.77.1.1";

/// Ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    connection: MultiplexedConnection,
    _files: tempfile::TempDir,
}

/// What the scripts have cost since the last [`Server::reset`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScriptTime {
    /// Mean of a call, in microseconds.
    pub(crate) mean: f64,
    /// As the server's histogram has it, in microseconds; not a number before Redis 7.
    pub(crate) p99: f64,
}

impl Server {
    /// Starts one that writes no files.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let port = TcpListener::bind((HOST, 0))?.local_addr()?.port();
        let files = tempfile::tempdir()?;
        let child = Command::new("redis-server")
            .args(["--bind", HOST, "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start redis-server")?;
        let child = wait_until_it_listens(child, port)?;
        let connection = redis::Client::open((HOST, port))?.get_multiplexed_async_connection().await?;
        Ok(Self { child, port, connection, _files: files })
    }

    /// For stores.
    pub(crate) fn settings(&self) -> RedisConfig {
        RedisConfig {
            servers: RedisServers::One(StoreAddress::Tcp(HOST.to_owned(), self.port)),
            database: 0,
            login: RedisLogin::default(),
            tls: None,
            namespace: "homing".to_owned(),
            shards: 1,
            timeout: Duration::from_secs(30),
        }
    }

    /// CPU time of the thread that runs the commands (of all threads before Redis 7), in microseconds.
    pub(crate) async fn cpu(&mut self) -> anyhow::Result<f64> {
        let said = self.info("cpu").await?;
        let seconds = |kind: &str| {
            let own = said.get(&format!("used_cpu_{kind}_main_thread"));
            own.or_else(|| said.get(&format!("used_cpu_{kind}"))).and_then(|text| text.parse::<f64>().ok())
        };
        let both = seconds("user").zip(seconds("sys")).context("INFO cpu names no CPU time")?;
        Ok((both.0 + both.1) * 1e6)
    }

    /// Bytes that the data take, as its allocator counts them.
    pub(crate) async fn memory(&mut self) -> anyhow::Result<f64> {
        let said = self.info("memory").await?;
        said.get("used_memory").and_then(|text| text.parse().ok()).context("INFO memory names no used_memory")
    }

    /// Begins to count calls anew.
    pub(crate) async fn reset(&mut self) -> anyhow::Result<()> {
        Ok(redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut self.connection).await?)
    }

    /// What one EVALSHA took within the server.
    pub(crate) async fn script_time(&mut self) -> anyhow::Result<ScriptTime> {
        let mut said = self.info("commandstats").await?;
        said.extend(self.info("latencystats").await?);
        let figure = |line: &str, name: &str| {
            let fields = said.get(line)?.split(',');
            fields.filter_map(|field| field.split_once('=')).find(|(field, _)| *field == name)?.1.parse().ok()
        };
        Ok(ScriptTime {
            mean: figure("cmdstat_evalsha", "usec_per_call").context("no script was called")?,
            p99: figure("latency_percentiles_usec_evalsha", "p99").unwrap_or(f64::NAN),
        })
    }

    async fn info(&mut self, section: &str) -> anyhow::Result<HashMap<String, String>> {
        let text: String = redis::cmd("INFO").arg(section).query_async(&mut self.connection).await?;
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

fn wait_until_it_listens(mut child: Child, port: u16) -> anyhow::Result<Child> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect((HOST, port)).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("redis-server ended with {status}");
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("redis-server does not listen");
        }
        std::thread::sleep(Duration::from_millis(10)); // between two looks at the condition
    }
    Ok(child)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
