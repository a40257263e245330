//! Looks at one backend again and again: soon while it is in doubt, else at leisure, and never twice at once.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::book::{Book, Order};
use super::record::Probed;
use crate::backend::{ConnectError, Offers, Server, Visit, VisitLogin, visit};
use crate::config::HealthConfig;
use crate::model::{BackendId, Protocol};

/// Who looks at a backend.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Looks once, for as long as `config` allows. Gives the time until all was seen; an error means that a user's login
    /// would have failed.
    async fn probe(&self, server: &Server, service: Protocol, config: &HealthConfig) -> Result<Duration, ConnectError>;
}

/// Goes there, over the network.
#[derive(Default)]
pub struct Visitor {
    own: OnceLock<Vec<SocketAddr>>,
    offers: Arc<Offers>,
    host: String,
}

impl Visitor {
    /// What backends offer is noted there. `host` is the name of this proxy, for protocols that greet with one.
    pub fn new(offers: Arc<Offers>, host: &str) -> Self {
        Self { own: OnceLock::new(), offers, host: host.to_owned() }
    }

    /// This proxy's listeners are open, and a probe that leads to one of them has found no backend. Once is enough.
    pub fn beware_of(&self, own: Vec<SocketAddr>) {
        self.own.get_or_init(|| own);
    }
}

#[async_trait]
impl Prober for Visitor {
    async fn probe(&self, server: &Server, service: Protocol, config: &HealthConfig) -> Result<Duration, ConnectError> {
        let login =
            config.login.as_ref().map(|login| VisitLogin { user: &login.user, password: login.password.as_deref() });
        let own = self.own.get().map_or(&[][..], Vec::as_slice);
        let (limit, host) = (config.timeout, self.host.as_str());
        visit(server, service, &Visit { login, limit, own, host, offers: &self.offers }).await
    }
}

/// Looks at a backend until it is gone.
pub(super) async fn keep_watch(book: Arc<Book>, backend: BackendId, prober: Arc<dyn Prober>, hurry: Arc<Notify>) {
    let Some(order) = book.order(&backend) else { return };
    // A fleet that was started at once spreads its first probes, and a proxy has its first opinion soon.
    sleep_until(Instant::now() + between(Duration::ZERO, order.config.fast_interval)).await;
    while let Some(order) = book.order(&backend) {
        look(&book, &order, prober.as_ref()).await;
        if rest(&book, &backend, &hurry).await.is_none() {
            return;
        }
    }
}

/// One probe of each service. All wait for their turn, so that a site of hung backends does not use up our sockets.
async fn look(book: &Book, order: &Order, prober: &dyn Prober) {
    let logged_in = order.config.login.is_some();
    for service in order.server.probed.iter() {
        // Nobody closes it; and if, there is no limit.
        let _turn = order.turns.acquire().await;
        let began = Instant::now();
        let outcome = prober.probe(&order.server, *service, &order.config).await;
        book.probed(&order.server.id, *service, Probed { outcome, logged_in, began });
    }
}

/// Waits until the next probe is due. `None` if there is to be none.
async fn rest(book: &Book, backend: &BackendId, hurry: &Notify) -> Option<()> {
    let ended = Instant::now();
    let after = |pause: Duration| ended + between(pause.mul_f64(0.9), pause.mul_f64(1.1));
    let config = book.order(backend)?.config;
    let mut due = after(if book.is_in_doubt(backend) { config.fast_interval } else { config.interval });
    loop {
        tokio::select! {
            () = sleep_until(due) => return Some(()),
            // A user was failed, another backend is in doubt, or a reload has shortened the pause.
            () = hurry.notified() => due = due.min(after(book.order(backend)?.config.fast_interval)),
        }
    }
}

/// Some time from `least` to `most`, so that a fleet does not probe in step.
fn between(least: Duration, most: Duration) -> Duration {
    let mut raw = [0_u8; 2];
    // Without randomness the pause is merely not spread.
    let _ = aws_lc_rs::rand::fill(&mut raw);
    least + most.saturating_sub(least).mul_f64(f64::from(u16::from_le_bytes(raw)) / f64::from(u16::MAX))
}
