//! One proxy of the demo, on a runtime of its own: when that is shut down, every task of the proxy ends where it is, its
//! sockets are closed by the kernel, and it tells nobody. For its clients and peers that is what `kill -9` does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use tokio::runtime::{Builder, Runtime};

use crate::admin::{self, Admin, Reload};
use crate::app;
use crate::config::{Changes, Config};

/// Where a proxy can be reached.
#[derive(Clone)]
pub(super) struct Front {
    /// Plain, and STARTTLS.
    pub(super) imap: SocketAddr,
    /// TLS from the first byte.
    pub(super) imaps: SocketAddr,
    /// Its admin socket.
    pub(super) admin: PathBuf,
}

/// A proxy that runs, or did. Dropping it kills it.
pub(super) struct Proxy {
    front: Front,
    running: Arc<app::Proxy>,
    machine: Machine,
}

impl Proxy {
    /// Starts a proxy that has two listeners; returns when it takes logins.
    pub(super) async fn start(config: Config, stores: app::Stores) -> anyhow::Result<Self> {
        let machine = Machine::switch_on(&config.name)?;
        let admin = config.admin.socket.clone();
        let running = machine.run(launch(config, stores)).await?;
        let &[imap, imaps] = running.addresses() else { bail!("it has not two listeners") };
        Ok(Self { front: Front { imap, imaps, admin }, running, machine })
    }

    /// Where it can be reached.
    pub(super) fn front(&self) -> &Front {
        &self.front
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        self.machine.switch_off();
    }

    /// Ends it in good order, if it runs.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        if self.machine.0.is_none() {
            return Ok(());
        }
        let running = self.running.clone();
        let stopping = async move {
            running.stop().await;
            Ok(())
        };
        self.machine.run(stopping).await
    }
}

async fn launch(config: Config, stores: app::Stores) -> anyhow::Result<Arc<app::Proxy>> {
    let socket = config.admin.socket.clone();
    let proxy = Arc::new(app::Proxy::start(config, stores).await?);
    let admin = Admin {
        fleet: proxy.fleet().clone(),
        services: proxy.services().clone(),
        health: proxy.health().clone(),
        began: Instant::now(),
        reload: Arc::new(NoFile),
        moves: proxy.moves().clone(),
        tools: proxy.tools(),
    };
    admin::open(&socket, admin).await.context("its admin socket cannot be opened")?;
    Ok(proxy)
}

/// The demo's proxies have no configuration file.
struct NoFile;

#[async_trait::async_trait]
impl Reload for NoFile {
    async fn reload(&self) -> Result<Changes, String> {
        Err("the demo's proxies have no configuration file to read again".to_owned())
    }
}

/// A runtime that may be dropped anywhere. It has a single worker, so that no task runs on while others are ended.
struct Machine(Option<Runtime>);

impl Machine {
    fn switch_on(name: &str) -> anyhow::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name(format!("proxy-{name}")).enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).context("cannot start a runtime")
    }

    /// Runs a task on it to its end.
    async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        let runtime = self.0.as_ref().context("it was killed")?;
        runtime.spawn(task).await.context("it broke off")?
    }

    fn switch_off(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.switch_off();
    }
}
