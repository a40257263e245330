//! One proxy, from start to stop. Several may run in one process: nothing here is global.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::listening::{Listening, accept};
use super::memory;
use super::tools::{self, OperatorTools};
use crate::admin;
use crate::auth::Chain;
use crate::auth::cache::Cache;
use crate::backend::{Offers, Servers};
use crate::config::{Config, LimitsConfig, MovesConfig, StoreConfig};
use crate::fleet::{Fleet, JobSettings, Joining, Reports, Rows, Settler, StateFile};
use crate::health::{Health, Visitor};
use crate::model::{BackendId, Clock, Ending, Incarnation, Tasks};
use crate::net::ServerTls;
use crate::placement::{Moves, Placement, Times, errand};
use crate::relay::{BufferPool, RelaySettings};
use crate::session::{Administration, Connections, Door, Services};
use crate::store::link::Identity;
use crate::store::notes::Notes;
use crate::store::{Rules, Store};

/// Size of a relay buffer: a TLS record's payload.
const RELAY_BUFFER: usize = 16 * 1024;
/// Relay buffers kept for reuse: as many sessions as may be busy in one instant.
const RELAY_BUFFERS_KEPT: usize = 256;
/// Between two portions of sessions that are told to end when the proxy goes down.
const PORTION: Duration = Duration::from_millis(100);
/// Between the longest that a hook can take and the time when whoever runs it is taken for dead.
const HOOK_MARGIN: Duration = Duration::from_secs(10);
/// How long an answer from a store without a time-out of its own may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a proxy keeps what it shares with its peers.
#[derive(Clone)]
pub struct Stores {
    /// Who is at home where.
    pub store: Arc<dyn Store>,
    /// What logins came to.
    pub notes: Arc<dyn Notes>,
}

impl Stores {
    /// Both in one.
    pub fn of(both: impl Store + Notes) -> Self {
        let both = Arc::new(both);
        Self { store: both.clone(), notes: both }
    }
}

/// A running proxy.
pub struct Proxy {
    pub(super) config: Arc<Mutex<Config>>,
    pub(super) services: Arc<Services>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) health: Arc<Health>,
    /// None if no listener has TLS.
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) pool: Arc<BufferPool>,
    pub(super) cache: Arc<Cache>,
    moves: Arc<Moves>,
    /// How fast bulk work goes on.
    pub(super) pace: Arc<ArcSwap<MovesConfig>>,
    addresses: Vec<SocketAddr>,
}

impl Proxy {
    /// Joins the fleet, waits out a recovery window, opens the listeners.
    ///
    /// Fails if a file cannot be used or an address cannot be bound; waits while the store cannot be reached.
    pub async fn start(config: Config, stores: Stores) -> Result<Self> {
        let Stores { store, notes } = stores;
        let servers = Arc::new(ArcSwap::from_pointee(Servers::new(&config.backends, config.served())?));
        let (seals, shards) = (memory::open_seals(&config)?, config.store.shards());
        let cache = Arc::new(Cache::new(notes.clone(), shards, seals.clone(), memory::times(&config.auth)));
        let passdb = Chain::open(&config.passdb, &config.auth, config.limits.hash_threads)
            .await
            .with_cache(&cache)
            .with_policy(&config.auth_policy);
        let tls = server_tls(&config)?;
        // Before any user comes, so that there is an opinion by then.
        let offers = Arc::new(Offers::default());
        let prober = Arc::new(Visitor::new(offers.clone(), &config.name));
        let health = Arc::new(Health::start(&config.health, servers.load_full(), prober.clone()));
        let fleet = Arc::new(join(&config, &servers, &health, store.clone())?);
        // The first shard counts the votes for all.
        tokio::spawn(vote(health.watch(), fleet.shards()[0].reports.clone()));
        let times = Times {
            login_wait: config.fleet.login_wait,
            fresh: config.fleet.recovery / 2,
            user_expire: config.fleet.user_expire,
        };
        let pool = BufferPool::new(RELAY_BUFFER, RELAY_BUFFERS_KEPT);
        fleet.ready().await;
        let listeners = Listening::all(&config).await?;
        let addresses = listeners
            .iter()
            .filter_map(|listening| listening.address().transpose())
            .collect::<std::io::Result<Vec<_>>>()?;
        prober.beware_of(addresses.clone());
        let services = Arc::new(Services {
            guards: memory::guards(&config, notes, &seals, fleet.incarnation()),
            passdb: ArcSwap::from_pointee(passdb),
            placement: Placement::start(fleet.clone(), times),
            servers,
            relay: ArcSwap::from_pointee(relay_settings(&config.limits, &pool)),
            limits: ArcSwap::from_pointee(config.limits.clone()),
            sieve: ArcSwap::from_pointee(config.sieve.clone()),
            lmtp: ArcSwap::from_pointee(config.lmtp.clone()),
            deliveries: Arc::default(),
            administration: Administration::new(config.doveadm.clone()),
            offers,
            host: config.name.clone(),
            own: addresses.clone(),
            witness: health.witness(),
            connections: Arc::new(Connections::default()),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        let hook = tools::before_move(&config.moves, &services)?;
        let settler = Arc::new(Settler::new(store, fleet.incarnation().clone(), hook));
        let MovesConfig { timeout, max_parallel_migrations, .. } = config.moves;
        let moves = Moves::new(fleet.clone(), settler.clone(), timeout, rules(&config), max_parallel_migrations);
        fleet.attend(&settler, &errand::runner(&fleet), &services.closing);
        for (listener, settings) in listeners.into_iter().zip(&config.listeners) {
            let door = Door { listener: settings.clone(), tls: tls.clone(), services: services.clone() };
            services.tasks.spawn(accept(listener, Arc::new(door)));
        }
        info!(
            name = %config.name,
            incarnation = %fleet.incarnation(),
            listeners = shown(&config, &addresses),
            "ready"
        );
        let pace = Arc::new(ArcSwap::from_pointee(config.moves.clone()));
        fleet.work(&job_settings(&pace, &config, &health));
        let config = Arc::new(Mutex::new(config));
        Ok(Self { config, services, fleet, health, tls, pool, cache, moves: Arc::new(moves), pace, addresses })
    }

    /// Where clients connect by TCP, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// This proxy among its peers.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Which backends it finds fit.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// What operators do to users.
    pub fn moves(&self) -> &Arc<Moves> {
        &self.moves
    }

    /// What its migrations use.
    pub fn tools(&self) -> Arc<dyn admin::Tools> {
        Arc::new(OperatorTools::new(&self.services))
    }

    /// What its sessions use.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Goes down in good order: no new logins, sessions end in even portions over `shutdown_grace` so that their clients
    /// do not reach the peers all at once, then the store is told.
    pub async fn stop(&self) {
        let limits = self.services.limits.load_full();
        info!(connections = self.services.connections.open(), grace = ?limits.shutdown_grace, "going down");
        self.services.closing.cancel();
        self.services.tasks.close();
        let patience = limits.kick_deadline + limits.close_timeout * 2;
        let over = tokio::select! {
            () = self.empty(limits.shutdown_grace) => timeout(patience, self.services.tasks.wait()).await,
            () = self.services.tasks.wait() => Ok(()),
        };
        if over.is_err() {
            warn!(
                connections = self.services.connections.open(),
                "connections are left that do not close; leaving them"
            );
        }
        // Not before: while sessions end, this proxy still has a vote.
        self.health.stop();
        self.fleet.leave().await;
    }

    /// Tells all sessions to end, in portions.
    async fn empty(&self, grace: Duration) {
        let shards = self.fleet.shards();
        let sessions: usize = shards.iter().map(|shard| shard.ledger.holding().sessions).sum();
        let portions = (grace.as_millis() / PORTION.as_millis()).max(1) as usize; // bounded by config
        let portion = sessions.div_ceil(portions).max(1);
        for _ in 0..portions {
            let closed: usize = shards.iter().map(|shard| shard.ledger.close_some(portion, Ending::Shutdown)).sum();
            if closed == 0 {
                break;
            }
            sleep(PORTION).await;
        }
        for shard in shards {
            shard.ledger.close_all(Ending::Shutdown);
        }
    }
}

/// What relays share.
pub(super) fn relay_settings(limits: &LimitsConfig, pool: &Arc<BufferPool>) -> RelaySettings {
    RelaySettings {
        pool: pool.clone(),
        idle_timeout: limits.idle_timeout,
        close_timeout: limits.close_timeout,
        kick_deadline: limits.kick_deadline,
    }
}

/// The state protocol's times and factors.
pub fn rules(config: &Config) -> Rules {
    let (config, moves) = (&config.fleet, &config.moves);
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Rules {
        lease: ms(config.lease),
        orphan_grace: ms(config.orphan_grace),
        recovery: ms(config.recovery),
        recovery_max: Rules::default().recovery_max.max(ms(config.recovery) * 2),
        user_expire: ms(config.user_expire),
        remember: ms(config.remember),
        balance_factor: config.balance_factor,
        slow_start: ms(config.slow_start),
        strict: config.strict,
        max_down: config.max_down,
        kick_delay: ms(moves.kick_delay),
        // Time to tell the store how it went, before somebody else is asked.
        hook_lease: ms(moves.hook_timeout + HOOK_MARGIN),
    }
}

/// How this proxy takes part in bulk work.
fn job_settings(pace: &Arc<ArcSwap<MovesConfig>>, config: &Config, health: &Arc<Health>) -> JobSettings {
    let health = health.clone();
    JobSettings {
        moves: pace.clone(),
        move_timeout: config.moves.timeout,
        hook: !config.moves.before_move.is_empty() || config.moves.before_move_url.is_some(),
        kick_delay: config.moves.kick_delay,
        trouble: Arc::new(move |backend| {
            let recent = health.error_rate(backend)?;
            let attempts = u64::from(recent.attempts);
            Some((attempts, (recent.rate * attempts as f64).round() as u64)) // a part of them, so no more
        }),
    }
}

/// Makes servers of what operators add to the fleet's table; says which cannot be used.
fn follow(servers: &ArcSwap<Servers>, health: &Health, rows: &Rows) -> Vec<String> {
    servers.rcu(|now| now.with_added(rows));
    health.follow(|| servers.load_full());
    let useless: Vec<_> = servers.load().useless().map(|(name, why)| format!("backend {name}: {why}")).collect();
    for complaint in &useless {
        error!(complaint, "a backend that was added cannot be used here");
    }
    useless
}

fn join(
    config: &Config,
    servers: &Arc<ArcSwap<Servers>>,
    health: &Arc<Health>,
    store: Arc<dyn Store>,
) -> Result<Fleet> {
    let incarnation = Incarnation::random();
    let state_file =
        config.fleet.state_file.as_ref().map(|path| StateFile::open(path, incarnation.clone())).transpose()?;
    let identity = Identity { incarnation, name: config.name.clone(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let patience = match &config.store {
        StoreConfig::Redis(redis) => redis.timeout,
        StoreConfig::Memory => PATIENCE,
    };
    let (followers, probed) = (servers.clone(), health.clone());
    let joining = Joining {
        patience,
        rows: servers.load().rows().clone(),
        follow: Arc::new(move |rows| follow(&followers, &probed, rows)),
        state_file,
        shards: config.store.shards(),
        affinity: config.fleet.key_template(),
        clock: Clock::boottime(),
        tasks: Tasks::new(|task| drop(tokio::spawn(task))),
    };
    Ok(Fleet::join(store, identity, &config.fleet, joining))
}

/// Has the heartbeats say which backends this proxy finds dead, until its health room is gone.
async fn vote(mut opinion: watch::Receiver<Vec<BackendId>>, reports: Arc<Reports>) {
    loop {
        let failing = opinion.borrow_and_update().clone();
        reports.failing(failing);
        if opinion.changed().await.is_err() {
            return;
        }
    }
}

/// TLS towards clients, if there is a certificate; the configuration sees to it that listeners with TLS have one.
fn server_tls(config: &Config) -> Result<Option<Arc<ServerTls>>> {
    if config.tls.certificates.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(ServerTls::new(&config.tls)?)))
}

/// All listeners, for the log: ports that the system chose are known by now.
fn shown(config: &Config, addresses: &[SocketAddr]) -> String {
    let sockets = config.listeners.iter().map(|listener| &listener.address).filter(|address| address.tcp().is_none());
    let all = addresses.iter().map(ToString::to_string).chain(sockets.map(ToString::to_string));
    all.collect::<Vec<_>>().join(" ")
}
