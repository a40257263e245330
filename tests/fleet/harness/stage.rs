//! One store, one witness, and the rules that the proxies of a test share. Times are short: a lease of one second.
//!
//! The store's clock goes like ours, but stands still when this machine does: what a test waits for is not over meanwhile,
//! and no lease ends because nobody could renew it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use homing::config::{FleetConfig, MovesConfig};
use homing::fleet::{JobSettings, Rows};
use homing::model::{BackendId, Key};
use homing::store::clock::Simulated;
use homing::store::memory::Memory;
use homing::store::{BindingView, Census, Row, Rules, Store};

use super::wait::whether;
use super::{Proxy, Road, Script, Witness, eventually};

pub struct Stage {
    pub memory: Memory,
    pub rules: Rules,
    pub witness: Witness,
    pub seed: u64,
    /// How long a login waits for its home.
    pub login_wait: Duration,
    /// How long an answer of the store may take.
    pub patience: Duration,
    /// How long a move may take.
    pub move_timeout: Duration,
    /// What is run between two homes.
    pub hook: Option<Arc<Script>>,
    pub shards: u16,
    server: Option<Arc<Simulated>>,
    /// How bulk work is done.
    pub moves: Arc<ArcSwap<MovesConfig>>,
    /// What all proxies have seen of logins at the backends.
    pub trouble: Arc<Mutex<BTreeMap<String, (u64, u64)>>>,
    roads: AtomicU64,
}

/// Rows of backends that are up, from their names.
pub fn rows(names: &str) -> Rows {
    let row = || Row::default();
    names.split_whitespace().map(|name| (BackendId::new(name), row())).collect()
}

/// The store's clock makes no longer steps than this.
const TICK: Duration = Duration::from_millis(100);

/// Lets a server's clock go from now on. What is put into the answer, in milliseconds, is how far it is behind.
pub fn tick(server: &Arc<Simulated>) -> Arc<AtomicU64> {
    let (behind, server, zero) = (Arc::new(AtomicU64::new(0)), Arc::downgrade(server), server.ms());
    let lag = behind.clone();
    // A thread of its own: a busy runtime is no machine that stands still.
    std::thread::spawn(move || {
        let (mut passed, mut last) = (Duration::ZERO, Instant::now());
        while let Some(server) = server.upgrade() {
            let now = Instant::now();
            passed += (now - last).min(TICK);
            last = now;
            server.set_ms(zero + passed.as_millis() as u64 - lag.load(Ordering::Relaxed));
            drop(server);
            std::thread::sleep(Duration::from_millis(2)); // as finely as the clock goes
        }
    });
    behind
}

/// Short times: a lease of 1 s with a heartbeat every 100 ms, a grace of 12 s: a machine that stands still for some seconds
/// isolates nobody.
pub fn rules() -> Rules {
    Rules { lease: 1000, orphan_grace: 12_000, recovery: 1000, recovery_max: 10_000, ..Rules::default() }
}

impl Stage {
    pub fn new(rules: Rules) -> Self {
        let server = Arc::new(Simulated::new(1_000_000, "first"));
        tick(&server);
        Self { server: Some(server.clone()), ..Self::over(Memory::embedded_by(rules, server), rules) }
    }

    pub fn over(memory: Memory, rules: Rules) -> Self {
        Self {
            memory,
            rules,
            witness: Witness::default(),
            seed: super::Dice::seed(),
            login_wait: Duration::from_secs(10),
            patience: Duration::from_secs(1),
            move_timeout: Duration::from_secs(20),
            hook: None,
            shards: 1,
            server: None,
            moves: Arc::default(),
            trouble: Arc::default(),
            roads: AtomicU64::new(0),
        }
    }

    pub fn jobs(&self) -> JobSettings {
        let trouble = self.trouble.clone();
        JobSettings {
            moves: self.moves.clone(),
            move_timeout: Duration::from_secs(10),
            hook: false,
            kick_delay: Duration::from_millis(self.rules.kick_delay),
            trouble: Arc::new(move |backend| trouble.lock().unwrap().get(backend.as_str()).copied()),
        }
    }

    pub fn config(&self) -> FleetConfig {
        FleetConfig {
            lease: Duration::from_millis(self.rules.lease),
            orphan_grace: Duration::from_millis(self.rules.orphan_grace),
            recovery: Duration::from_millis(self.rules.recovery),
            ..FleetConfig::default()
        }
    }

    pub fn road(&self) -> Road {
        Road::new(self.memory.clone(), self.seed ^ self.roads.fetch_add(1, Ordering::Relaxed) << 32)
    }

    /// A proxy whose file has these backends, once it is ready for logins.
    pub async fn proxy(&self, name: &str, backends: &str) -> Proxy {
        let proxy = Proxy::start(self, name, rows(backends), None).await;
        proxy.fleet.ready().await;
        proxy
    }

    /// The store's time.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.server.as_ref().map_or(0, |server| server.ms()))
    }

    /// The first shard's.
    pub async fn census(&self) -> Census {
        self.memory.census(0).await.unwrap()
    }

    pub async fn censuses(&self) -> Vec<Census> {
        futures_util::future::join_all((0..self.shards).map(async |shard| self.memory.census(shard).await.unwrap()))
            .await
    }

    /// Sessions per backend, in all shards.
    pub async fn loads(&self) -> BTreeMap<String, u32> {
        let mut loads = BTreeMap::new();
        for view in self.censuses().await.iter().flat_map(|census| &census.backends) {
            *loads.entry(view.backend.to_string()).or_default() += view.sessions;
        }
        loads
    }

    /// In whichever shard it is.
    async fn binding(&self, key: &str) -> Option<BindingView> {
        for shard in 0..self.shards {
            let view = self.memory.binding(shard, &Key::new(key)).await.unwrap();
            if view.is_some() {
                return view;
            }
        }
        None
    }

    /// Sessions of a key and who holds them, as the store sees it; `None` if it is not bound.
    pub async fn holders(&self, key: &str) -> Option<BTreeMap<String, u32>> {
        let view = self.binding(key).await?;
        Some(view.holders.into_iter().map(|(inc, held)| (inc.to_string(), held)).collect())
    }

    pub async fn home(&self, key: &str) -> Option<String> {
        Some(self.binding(key).await?.backend?.to_string())
    }

    /// I3: in a quiet fleet the store's numbers are the sessions that exist, by backend, by key and by proxy.
    pub async fn counts_agree(&self, proxies: &[&Proxy], keys: &[String]) {
        eventually("the store's numbers are the sessions that exist", Duration::from_secs(60), async || {
            let (by_key, by_backend) = self.witness.now();
            for (backend, counted) in self.loads().await {
                let there = by_backend.get(&BackendId::new(&backend)).copied().unwrap_or(0);
                whether(counted == there, || format!("{backend} has {there} sessions, the store says {counted}"))?;
            }
            for name in keys {
                let key = Key::new(name);
                let here = |proxy: &&&Proxy| proxy.ledger_of(name).look(&key).map_or(0, |(_, held)| held as u32);
                let held = |proxy: &&Proxy| (proxy.incarnation(), here(&proxy));
                let held: BTreeMap<String, u32> = proxies.iter().map(held).filter(|(_, held)| *held > 0).collect();
                let sessions = by_key.get(&key).copied().unwrap_or(0);
                whether(held.values().sum::<u32>() == sessions, || format!("{key}: {held:?} for {sessions} sessions"))?;
                let stored = self.holders(name).await.unwrap_or_default();
                whether(stored == held, || format!("{key}: the store says {stored:?}, the ledgers say {held:?}"))?;
            }
            for proxy in proxies {
                let dirty: usize = proxy.fleet.shards().iter().map(|shard| shard.ledger.holding().dirty).sum();
                whether(dirty == 0, || format!("{} has {dirty} keys to declare", proxy.name))?;
            }
            Ok(())
        })
        .await;
    }
}
