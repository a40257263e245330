//! A `homing serve` process: its configuration, its life, and what it logs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::process::Daemon;
use super::{Imap, Protocol, Result, User, eventually};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_homing");

/// How long a proxy may take until it is ready, recovery window and a loaded machine included.
const START: Duration = Duration::from_secs(90);

/// One proxy of a fleet. It keeps its addresses, name and files over restarts.
pub struct Proxy {
    /// Its configured name.
    pub name: String,
    /// One address for each `[[listener]]`.
    pub addresses: Vec<SocketAddr>,
    /// Where it serves what it was asked for beside its listeners' own; see [`super::fleet::Plan::protocols`].
    pub doors: BTreeMap<Protocol, SocketAddr>,
    /// Admin socket.
    pub socket: PathBuf,
    pub runner: Vec<String>,
    config: PathBuf,
    log: PathBuf,
    daemon: Option<Daemon>,
}

impl Proxy {
    /// A proxy with files in `dir` that is not running yet.
    pub fn new(dir: &Path, name: &str, addresses: Vec<SocketAddr>, config: &toml::Table) -> Result<Self> {
        let file = |end: &str| dir.join(format!("{name}.{end}"));
        let proxy = Self {
            name: name.to_owned(),
            addresses,
            doors: BTreeMap::new(),
            socket: file("sock"),
            runner: Vec::new(),
            config: file("toml"),
            log: file("log"),
            daemon: None,
        };
        proxy.write_config(&toml::to_string(config)?)?;
        Ok(proxy)
    }

    /// Lets another program run it, such as one that takes it to a namespace.
    pub fn run_by(mut self, runner: Vec<String>) -> Self {
        self.runner = runner;
        self
    }

    /// Replaces the configuration file.
    pub fn write_config(&self, text: &str) -> Result {
        Ok(std::fs::write(&self.config, text)?)
    }

    /// The configuration file as it is.
    pub fn read_config(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.config)?)
    }

    /// Starts the process and waits until its listeners are open.
    pub async fn start(&mut self) -> Result {
        let before = self.mark();
        self.spawn()?;
        self.ready_since(before).await
    }

    /// Starts the process and does not wait. Gives where its log begins.
    pub fn spawn(&mut self) -> Result<usize> {
        ensure!(self.daemon.is_none(), "{} runs already", self.name);
        let before = self.mark();
        let own = [BINARY.as_ref(), "serve".as_ref(), "--config".as_ref(), self.config.as_os_str()];
        let mut words = self.runner.iter().map(AsRef::as_ref).chain(own);
        let program = words.next().and_then(OsStr::to_str).context("a program with an odd name")?;
        self.daemon = Some(Daemon::start(program, words, &self.log)?);
        Ok(before)
    }

    /// Waits for the line that says that listeners are open, after position `since` of the log.
    pub async fn ready_since(&mut self, since: usize) -> Result {
        let what = format!("{} is ready", self.name);
        let ended = eventually(&what, START, async || {
            let ready = self.lines_since(since)?.into_iter().any(|line| text(&line, "message") == "ready");
            let ended = self.daemon.as_mut().context("not running")?.ended()?;
            ensure!(ready || ended.is_some(), "log says {}", self.log_tail());
            Ok(ended)
        })
        .await?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.log_tail()),
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result {
        self.daemon.as_ref().context("not running")?.signal(signal)
    }

    /// Process id.
    pub fn id(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("not running")?.id())
    }

    /// SIGTERM, and waits for the end, which must be a success.
    pub async fn stop(&mut self) -> Result {
        self.signal(Signal::TERM)?;
        let status = eventually(&format!("{} ends", self.name), Duration::from_secs(60), async || {
            self.daemon.as_mut().context("not running")?.ended()?.context("still running")
        })
        .await?;
        self.daemon = None;
        ensure!(status.success(), "{} ended with {status}: {}", self.name, self.log_tail());
        Ok(())
    }

    /// Its first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where it speaks `protocol`, which the plan must have asked for; IMAP is at its first listener.
    pub fn door(&self, protocol: Protocol) -> Result<SocketAddr> {
        match protocol {
            Protocol::Imap => Ok(self.address()),
            other => self.doors.get(&other).copied().with_context(|| format!("the plan asks for no {}", other.word())),
        }
    }

    /// Connects to the first listener and logs in.
    pub async fn log_in(&self, user: &User) -> Result<Imap> {
        let mut imap = Imap::connect(self.address()).await?;
        imap.login(user).await.with_context(|| format!("{} at {}", user.name, self.name))?;
        Ok(imap)
    }

    /// Runs an admin command: `homing ARGUMENTS --socket SOCKET`.
    pub async fn admin(&self, arguments: &[&str]) -> Result<Output> {
        let command = tokio::process::Command::new(BINARY).args(arguments).arg("--socket").arg(&self.socket).output();
        Ok(tokio::time::timeout(Duration::from_secs(90), command).await??)
    }

    /// Where the log ends now.
    pub fn mark(&self) -> usize {
        std::fs::metadata(&self.log).map_or(0, |file| file.len() as usize)
    }

    /// Everything it has logged, over all its lives.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8(std::fs::read(&self.log)?)?)
    }

    /// The log's lines after `mark`. One that is still being written is left out; so are those that are not JSON.
    pub fn lines_since(&self, mark: usize) -> Result<Vec<Value>> {
        let log = self.log()?;
        let whole = log.get(mark..).unwrap_or("").split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(whole.filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The lines that report the ends of sessions.
    pub fn endings(&self) -> Result<Vec<Value>> {
        Ok(self.lines_since(0)?.into_iter().filter(|line| text(line, "message") == "session").collect())
    }

    /// Waits for the line that reports the end of a session of `user`.
    pub async fn ending_of(&self, user: &str) -> Result<Value> {
        eventually(&format!("{} logs the session of {user}", self.name), Duration::from_secs(60), async || {
            let found = self.endings()?.into_iter().find(|line| text(line, "user") == user);
            found.with_context(|| self.log_tail())
        })
        .await
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let start = log.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
        log[start..].to_owned()
    }
}

/// A field of a JSON log line as text; empty if there is none.
pub fn text(line: &Value, name: &str) -> String {
    match line.get("fields").and_then(|fields| fields.get(name)).or_else(|| line.get(name)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
