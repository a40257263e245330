//! The process around a proxy: its limits, its signals, its admin door.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::proxy::rules;
use super::{Proxy, Stores};
use crate::admin::{self, Admin, Reload, Socket};
use crate::config::{Changes, Config, RedisConfig, StoreConfig};
use crate::store::memory::Memory;
use crate::store::redis::Redis;

use crate::telemetry::LogHandle;

/// Runs a proxy until SIGTERM or SIGINT. `path`: the file that SIGHUP and `homing reload` read again, if there is one.
pub async fn serve(config: Config, path: Option<PathBuf>, log: LogHandle) -> Result<()> {
    raise_limits();
    lock_memory();
    for warning in config.warnings() {
        warn!("{warning}");
    }
    // First of all, so that a second process of the same name fails before anybody takes it for a member of the fleet.
    let socket = admin_socket(&config.admin.socket, path.is_some()).await?;
    let stores = open_store(&config);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let proxy = tokio::select! {
        proxy = Proxy::start(config, stores) => Arc::new(proxy?),
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let reloader = Arc::new(Reloader { proxy: proxy.clone(), path, log });
    let admin = Admin {
        fleet: proxy.fleet().clone(),
        services: proxy.services().clone(),
        health: proxy.health().clone(),
        began: std::time::Instant::now(),
        reload: reloader.clone(),
        moves: proxy.moves().clone(),
        tools: proxy.tools(),
    };
    let door = socket.map(|socket| admin::serve(socket, admin)).transpose().context("the admin socket")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => if let Err(why) = reloader.reload().await { error!("{why}") },
        }
    }
    tokio::select! {
        () = proxy.stop() => {}
        _ = terminate.recv() => warn!("told twice to stop: clients and peers are left as they are"),
        _ = interrupt.recv() => warn!("told twice to stop: clients and peers are left as they are"),
    }
    if let Some(door) = door {
        door.close();
    }
    Ok(())
}

/// The name of the admin door. Who tries the proxy out without a file need not have one.
async fn admin_socket(path: &Path, configured: bool) -> Result<Option<Socket>> {
    match Socket::bind(path, admin::OWNER_ONLY).await {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if configured => {
            Err(error).with_context(|| format!("[admin] socket = \"{}\" cannot be opened", path.display()))
        }
        Err(error) => {
            warn!(socket = %path.display(), %error, "no admin socket: homing status will not work; try --socket");
            Ok(None)
        }
    }
}

/// The store that a configuration names.
pub fn open_store(config: &Config) -> Stores {
    let rules = rules(config);
    match &config.store {
        StoreConfig::Memory => Stores::of(Memory::embedded(rules)),
        StoreConfig::Redis(redis) => Stores::of(Redis::new(RedisConfig::clone(redis), rules)),
    }
}

/// No core dumps, for they would hold passwords, and nobody but root looks into this process: neither a debugger nor `/proc`
/// of the same user. To be called before anything secret is read.
pub fn close_to_others() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Keeps memory, and so what is secret in it, out of swap, where any amount of it may be locked: with less, allocations would
/// fail one day.
fn lock_memory() {
    if getrlimit(Resource::Memlock).current.is_some() {
        return;
    }
    // Pages that are reserved and never used stay where they are: nowhere.
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    match mlockall(all) {
        Ok(()) => info!("memory is locked: nothing of it gets into swap"),
        Err(error) => warn!(%error, "memory cannot be locked, though its limit would let us"),
    }
}

/// As many sockets as the system lets us have.
fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        warn!(%error, limit = ?limit.current, "the limit of open files could not be raised");
    }
}

/// Reads the file again when somebody says so.
struct Reloader {
    proxy: Arc<Proxy>,
    path: Option<PathBuf>,
    log: LogHandle,
}

#[async_trait::async_trait]
impl Reload for Reloader {
    async fn reload(&self) -> Result<Changes, String> {
        let path = self.path.clone().ok_or("this proxy was started without a configuration file")?;
        let load = tokio::task::spawn_blocking(move || Config::load(&path));
        let config = load.await.map_err(|error| format!("the reload broke off: {error}"))?.map_err(|faults| {
            format!("reload refused, the configuration in force is unchanged:\n{}", faults.report(false))
        })?;
        let level = config.log.level.clone();
        let changes = self.proxy.reload(config).await.map_err(|error| error.to_string())?;
        self.log.set_level(&level).map_err(|error| error.to_string())?;
        Ok(changes)
    }
}
