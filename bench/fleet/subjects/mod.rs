//! The proxies that are compared, each started with the same work to do: the same certificate, log of sessions and cores.

mod dovecot;
mod haproxy;
mod homing;
mod nginx;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::client::{Client, Door, Speech};
use crate::process::{Cpu, Memory, Process};
use crate::world::World;

/// How long a proxy may take to its first greeting; homing with Redis waits for its recovery window.
const START: Duration = Duration::from_secs(20);

/// Who stands between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Nobody: the yardstick for round trips and for the bench's own sockets.
    Direct,
    /// homing with the embedded store.
    #[value(name = "homing")]
    HomingMemory,
    /// homing with Redis.
    #[value(name = "homing-redis")]
    HomingRedis,
    /// nginx's mail proxy; its auth service is part of the bench and not counted.
    Nginx,
    /// Dovecot's login proxy with a static passdb.
    Dovecot,
    /// HAProxy relaying TCP: knows no users, so it is the floor.
    Haproxy,
}

/// A subject at work.
pub(crate) struct Running {
    /// Which.
    pub(crate) subject: Subject,
    speech: Speech,
    plain: SocketAddr,
    tls: SocketAddr,
    proxy: Option<Process>,
    store: Option<Process>,
    /// Its configuration and logs.
    dir: Option<PathBuf>,
}

/// Where a subject keeps its files and listens, and for what.
struct Place {
    dir: PathBuf,
    speech: Speech,
    plain: SocketAddr,
    tls: SocketAddr,
}

/// What a subject's start gives.
struct Started {
    proxy: Process,
    store: Option<Process>,
}

impl Subject {
    /// In tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::HomingMemory => "homing, memory store",
            Self::HomingRedis => "homing, Redis store",
            Self::Nginx => "nginx mail",
            Self::Dovecot => "Dovecot proxy",
            Self::Haproxy => "HAProxy TCP",
        }
    }

    /// Whether it can be measured there.
    pub(crate) fn speaks(self, speech: Speech) -> bool {
        match speech {
            Speech::Imap => true,
            Speech::Pop3 | Speech::Pop3Sasl => matches!(self, Self::HomingMemory | Self::HomingRedis),
            Speech::Lmtp => matches!(self, Self::HomingMemory | Self::HomingRedis | Self::Dovecot),
        }
    }

    /// Starts it for clients of that kind, and waits until it greets. An error says why it cannot be measured.
    pub(crate) async fn start(self, speech: Speech, world: &World) -> anyhow::Result<Running> {
        if self == Self::Direct {
            let plain = world.backends[0];
            return Ok(Running { subject: self, speech, plain, tls: plain, proxy: None, store: None, dir: None });
        }
        let place = Place::make(self, speech, world.dir())?;
        let started = match self {
            Self::HomingRedis => homing::start(world, &place, true)?,
            Self::Nginx => nginx::start(world, &place)?,
            Self::Dovecot if speech == Speech::Lmtp => dovecot::start_lmtp(world, &place)?,
            Self::Dovecot => dovecot::start(world, &place)?,
            Self::Haproxy => haproxy::start(world, &place)?,
            Self::HomingMemory | Self::Direct => homing::start(world, &place, false)?,
        };
        let Place { dir, plain, tls, .. } = place;
        let (proxy, store) = (Some(started.proxy), started.store);
        let mut running = Running { subject: self, speech, plain, tls, proxy, store, dir: Some(dir) };
        running.wait_for_greeting().await?;
        Ok(running)
    }
}

impl Running {
    /// Where clients connect without TLS.
    pub(crate) fn plain(&self) -> Door {
        Door { speech: self.speech, address: self.plain, tls: None }
    }

    /// Where they connect with TLS; `resume` is whether a client remembers its last session.
    pub(crate) fn tls(&self, world: &World, resume: bool) -> anyhow::Result<Door> {
        let tls = Some(world.certificate.client(resume)?);
        Ok(Door { speech: self.speech, address: self.tls, tls })
    }

    /// CPU time of the proxy so far.
    pub(crate) fn cpu(&self) -> Cpu {
        self.proxy.as_ref().map(Process::cpu).unwrap_or_default()
    }

    /// CPU time of its store so far.
    pub(crate) fn store_cpu(&self) -> Cpu {
        self.store.as_ref().map(Process::cpu).unwrap_or_default()
    }

    /// Memory of the proxy.
    pub(crate) fn memory(&self) -> Memory {
        self.proxy.as_ref().map(Process::memory).unwrap_or_default()
    }

    /// Bytes that the proxy has in memory now, and from here on counts the peak anew.
    pub(crate) fn begin_peak(&self) -> u64 {
        self.proxy.as_ref().map(Process::begin_peak).unwrap_or_default()
    }

    /// The most that the proxy has had in memory since.
    pub(crate) fn peak(&self) -> u64 {
        self.proxy.as_ref().map(Process::peak).unwrap_or_default()
    }

    async fn wait_for_greeting(&mut self) -> anyhow::Result<()> {
        let (door, deadline) = (self.plain(), Instant::now() + START);
        loop {
            if let Some(proxy) = &mut self.proxy {
                proxy.check_alive()?;
            }
            let error = match tokio::time::timeout_at(deadline.into(), Client::connect(&door)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no greeting".to_owned(),
            };
            anyhow::ensure!(Instant::now() < deadline, "not ready after {} s: {error}", START.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.proxy = None;
        self.store = None;
        // A fresh start next time, and no growing pile of logs.
        if let Some(dir) = &self.dir
            && let Err(error) = fs::remove_dir_all(dir)
        {
            eprintln!("fleet: cannot remove {}: {error}", dir.display());
        }
    }
}

impl Place {
    /// An address for each subject, so that TIME-WAIT sockets of one are not in another's way.
    fn make(subject: Subject, speech: Speech, dir: &Path) -> anyhow::Result<Self> {
        let name = subject.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let address = Ipv4Addr::new(127, 77, 1, subject as u8);
        // One that was started for something else may be up beside it.
        let dir = dir.join(format!("{name}-{speech:?}"));
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, speech, plain: free_port(address)?, tls: free_port(address)? })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Chosen by the system, and free a moment ago; nobody else uses these addresses.
fn free_port(address: Ipv4Addr) -> std::io::Result<SocketAddr> {
    TcpListener::bind((address, 0))?.local_addr()
}

/// What `serve` starts is measured; a program that is not there is no fault.
fn launch(command: &mut Command, place: &Place) -> anyhow::Result<Started> {
    let proxy = Process::start(command.current_dir(&place.dir), &place.file("output.log"))?;
    Ok(Started { proxy, store: None })
}
