//! The proxies that run, and the clients who come to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homing::fleet::{Rows, StateFile};
use homing::model::{BackendId, Key};
use homing::store::Row;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::executor::{Owner, WORLD};
use super::proxy::{Proxy, incarnation, wanted};
use super::session::log_in;
use super::world::World;

/// Everything that stands there. Clones are the same.
#[derive(Clone)]
pub struct Site {
    pub world: Arc<World>,
    pub keys: Arc<Vec<Key>>,
    pub backends: Arc<Vec<BackendId>>,
    running: Arc<Mutex<Running>>,
    peace: Arc<Notify>,
    night: Arc<Notify>,
}

#[derive(Default)]
struct Running {
    proxies: BTreeMap<Owner, Arc<Proxy>>,
    last: Owner,
    /// Clients come.
    open: bool,
    /// What may happen once has happened.
    once: bool,
    /// Where the proxies have their state files, if they have any.
    state: Option<TempDir>,
}

impl Site {
    pub fn new(world: Arc<World>) -> Self {
        let keys = (0..world.plan.keys).map(|n| Key::new(format!("k{n}"))).collect();
        let backends = (0..world.plan.backends).map(|n| BackendId::new(format!("b{n}"))).collect();
        let state = world.plan.state_files.then(state_directory);
        let running = Running { open: true, state, ..Running::default() };
        let (keys, backends) = (Arc::new(keys), Arc::new(backends));
        Self {
            world,
            keys,
            backends,
            running: Arc::new(Mutex::new(running)),
            peace: Arc::default(),
            night: Arc::default(),
        }
    }

    /// The rows of every file.
    pub fn rows(&self) -> Rows {
        self.backends.iter().map(|backend| (backend.clone(), Row::default())).collect()
    }

    pub fn start(&self, name: &str) -> Arc<Proxy> {
        let owner = {
            let mut running = self.running();
            running.last += 1;
            running.last
        };
        let path = self.running().state.as_ref().map(|state| state.path().join(name));
        let state_file = path.map(|path| StateFile::open(&path, incarnation(owner)).unwrap());
        let proxy = Arc::new(Proxy::start(&self.world, owner, name, self.rows(), state_file));
        let (site, started) = (self.clone(), proxy.clone());
        // Its listeners open when it is ready.
        self.world.executor.spawn(owner, async move {
            started.fleet.ready().await;
            site.world.tell(|| format!("p{owner} is ready"));
        });
        self.running().proxies.insert(owner, proxy.clone());
        proxy
    }

    pub fn kill(&self, owner: Owner) {
        self.running().proxies.remove(&owner);
        self.world.kill(owner);
    }

    pub fn proxies(&self) -> Vec<Arc<Proxy>> {
        self.running().proxies.values().cloned().collect()
    }

    pub fn proxy(&self, owner: Owner) -> Option<Arc<Proxy>> {
        self.running().proxies.get(&owner).cloned()
    }

    pub fn any_proxy(&self) -> Option<Arc<Proxy>> {
        self.world.dice.pick(&self.proxies()).cloned()
    }

    pub fn any_key(&self) -> Key {
        self.world.dice.pick(&self.keys).cloned().unwrap_or_else(|| Key::new("k0"))
    }

    pub fn any_backend(&self) -> BackendId {
        self.world.dice.pick(&self.backends).cloned().unwrap_or_else(|| BackendId::new("b0"))
    }

    /// Clients come and go until the doors close.
    pub fn invite(&self) {
        for _ in 0..self.world.plan.clients {
            let site = self.clone();
            self.world.executor.spawn(WORLD, async move {
                while site.is_open() {
                    site.visit().await;
                }
            });
        }
    }

    /// True the first time.
    pub fn once(&self) -> bool {
        !std::mem::replace(&mut self.running().once, true)
    }

    /// Everybody has looked at the backends, and says which are dead.
    pub fn vote(&self) {
        let dead: Vec<_> = self.backends.iter().filter(|backend| self.world.is_off(backend)).cloned().collect();
        for proxy in self.proxies() {
            proxy.fleet.shards()[0].reports.failing(dead.clone());
        }
    }

    pub fn is_open(&self) -> bool {
        self.running().open
    }

    /// No more clients come, and every trouble ends.
    pub fn make_peace(&self) {
        self.running().open = false;
        self.peace.notify_waiters();
    }

    /// Clients who stay as long as they may go now.
    pub fn bid_good_night(&self) {
        self.night.notify_waiters();
    }

    pub async fn peace(&self) {
        self.peace.notified().await;
    }

    async fn visit(&self) {
        let dice = &self.world.dice;
        sleep(dice.span(0, 300)).await;
        let Some(proxy) = self.any_proxy() else { return };
        let mut wanted = wanted(&self.any_key());
        // Whom no backend has accepted yet may be forgotten at any time: I2 says nothing of that.
        wanted.unproven = !self.world.plan.sticky && dice.percent(20);
        let patience = if dice.percent(40) { dice.span(200, 2_000) } else { dice.span(2_000, 9_000) };
        let Ok(Ok(client)) = timeout(patience, log_in(&self.world, &proxy, wanted)).await else { return };
        match dice.below(20) {
            0 => self.night.notified().await,
            1..6 => sleep(dice.span(1_000, 15_000)).await,
            _ => sleep(dice.span(0, 500)).await,
        }
        drop(client);
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In memory where there is such a place: they are written through at once.
fn state_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
