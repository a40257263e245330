//! One proxy and one mail server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homing::app::{Proxy, Stores, rules};
use homing::config::Config;
use homing::ledger::Holding;
use homing::model::BackendId;
use homing::store::memory::Memory;
use homing::store::{BindingView, Store};
use tokio::time::timeout;

use super::{Line, PATIENCE, Peer, Server, log, until};

pub(crate) struct Site {
    pub(crate) proxy: Proxy,
    pub(crate) server: Server,
    pub(crate) config: Config,
    store: Arc<dyn Store>,
}

/// Where clients connect to, who are said to come through a load balancer.
pub(crate) const BALANCER: &str = "198.51.100.1:143";

/// One plain listener, one backend "home", which decides about passwords. Short times, and nobody waits for having failed.
pub(crate) fn config(backend: SocketAddr) -> Config {
    let backends = [(BackendId::new("home"), backend.ip().to_string(), backend.port())];
    let mut config = Config::from_backends(&backends, vec!["127.0.0.1:0".parse().unwrap()]);
    config.limits.close_timeout = Duration::from_secs(10);
    config.limits.shutdown_grace = Duration::ZERO;
    config.auth.penalty_max = Duration::ZERO;
    let backend = config.backends.values_mut().next().unwrap();
    backend.retry_budget = Duration::ZERO;
    backend.probe = false; // the test plays every connection that it gets
    config
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// With another configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let server = Server::open().await;
        let mut config = config(server.address);
        change(&mut config);
        let store: Arc<dyn Store> = Arc::new(Memory::embedded(rules(&config)));
        Self::over(store, server, config).await
    }

    pub(crate) async fn over(store: Arc<dyn Store>, server: Server, config: Config) -> Self {
        log::keep();
        let notes = Arc::new(Memory::embedded(rules(&config)));
        let start = Proxy::start(config.clone(), Stores { store: store.clone(), notes });
        let proxy = timeout(PATIENCE, start).await.unwrap().unwrap();
        Self { proxy, server, config, store }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.addresses()[0]
    }

    /// A client that has not heard anything yet.
    pub(crate) async fn dial(&self) -> Peer {
        Peer::connect(self.address()).await
    }

    /// A client that was greeted.
    pub(crate) async fn client(&self) -> Peer {
        let mut client = self.dial().await;
        client.expect_start("* OK [CAPABILITY IMAP4rev1 ").await;
        client
    }

    /// The one line about a connection.
    pub(crate) async fn end_of(&self, client: SocketAddr) -> Line {
        let local = if client.ip().is_loopback() { self.address() } else { BALANCER.parse().unwrap() };
        log::end_of(client, local).await
    }

    /// Ending, who, phase, refusal or backend, of the one line about a connection.
    pub(crate) async fn expect_ending(&self, client: SocketAddr, expected: [&str; 4]) -> Line {
        let line = self.end_of(client).await;
        let place = line.get("backend").or(line.get("refusal")).unwrap();
        assert_eq!([&line["ending"], &line["who"], &line["phase"], place], expected, "{line:#?}");
        line
    }

    /// Lines of the log that match.
    pub(crate) fn lines(&self, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        log::lines(wanted)
    }

    pub(crate) fn holding(&self) -> Holding {
        self.proxy.fleet().shards()[0].ledger.holding()
    }

    /// Waits until the ledger counts so many sessions.
    pub(crate) async fn sessions(&self, count: usize) {
        until("the number of sessions", || self.holding().sessions == count).await;
    }

    /// Where the store says that a user is at home.
    pub(crate) async fn home(&self, user: &str) -> Option<BindingView> {
        self.store.binding(0, &homing::model::KeyTemplate::default().key_of(user)).await.unwrap()
    }
}
