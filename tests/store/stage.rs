//! A store of either kind with a clock in our hands, and peers that speak to it as links do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use homing::model::{BackendId, Generation, Incarnation, Key, Pool, Weight};
use homing::store::clock::Simulated;
use homing::store::memory::{Memory, Saved};
use homing::store::notes::Notes;
use homing::store::redis::Redis;
use homing::store::*;

use crate::server;

/// Where every clock begins.
pub(crate) const DAWN: u64 = 1_700_000_000_000;

/// Which store a behaviour is played over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Memory,
    Redis,
}

/// One store with its simulated server, and a peer that keeps the clock running.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) notes: Arc<dyn Notes>,
    pub(crate) server: Arc<Simulated>,
    pub(crate) back: Back,
}

/// The side door, for what only happens to real data.
pub(crate) enum Back {
    Memory(Memory),
    Redis(server::Namespace),
}

/// What a store held at one instant.
pub(crate) enum Copy {
    Memory(Saved),
    Redis(server::Dump),
}

impl Stage {
    /// An empty store.
    pub(crate) async fn empty(self, rules: Rules) -> World {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let server = Arc::new(Simulated::new(DAWN, "run1"));
        match self {
            Self::Memory => {
                let memory = Memory::simulated(rules, server.clone());
                let store = Arc::new(memory.clone());
                World { store: store.clone(), notes: store, server, back: Back::Memory(memory) }
            }
            Self::Redis => {
                let namespace = format!("t{}", WORLDS.fetch_add(1, Ordering::Relaxed));
                let store = Arc::new(Redis::simulated(server::settings(&namespace), rules, server.clone()));
                let back = Back::Redis(server::Namespace::open(&namespace).await);
                World { store: store.clone(), notes: store, server, back }
            }
        }
    }

    /// A store whose first recovery window is over, with that table, and a peer `z` that has been there from the start.
    pub(crate) async fn open(self, rules: Rules, table: &[(&str, Row)]) -> (World, Peer) {
        let world = self.empty(rules).await;
        let mut steward = world.peer("z").await;
        steward.hello().await;
        steward.beat().await;
        steward.table(0, table).await.expect("the first table");
        world.pass(rules.recovery, &mut [&mut steward]).await;
        (world, steward)
    }

    /// Two equal backends, `a` and `b`.
    pub(crate) async fn pair(self) -> (World, Peer) {
        self.open(Rules::default(), &[("a", up()), ("b", up())]).await
    }
}

impl World {
    pub(crate) async fn peer(&self, incarnation: &str) -> Peer {
        let connection = self.store.connect(0).await.expect("connection");
        Peer { incarnation: Incarnation::new(incarnation), connection, run: String::new(), seq: 0, acked: 0, errand: 0 }
    }

    /// A peer that has said hello and re-asserted.
    pub(crate) async fn welcome(&self, incarnation: &str) -> Peer {
        let mut peer = self.peer(incarnation).await;
        peer.hello().await;
        peer.beat().await;
        peer
    }

    /// Lets time pass while those peers send their heartbeats.
    pub(crate) async fn pass(&self, ms: u64, beating: &mut [&mut Peer]) {
        let end = self.server.ms() + ms;
        while self.server.ms() < end {
            self.server.set_ms((self.server.ms() + 1000).min(end));
            for peer in beating.iter_mut() {
                peer.beat().await;
            }
        }
    }

    pub(crate) async fn binding(&self, key: &str) -> Option<BindingView> {
        self.store.binding(0, &Key::new(key)).await.expect("binding")
    }

    pub(crate) async fn census(&self) -> Census {
        self.store.census(0).await.expect("census")
    }

    pub(crate) async fn load(&self, backend: &str) -> u32 {
        self.backend(backend).await.sessions
    }

    pub(crate) async fn users(&self, backend: &str) -> u32 {
        self.backend(backend).await.users
    }

    async fn backend(&self, backend: &str) -> BackendView {
        let mut backends = self.census().await.backends.into_iter();
        backends.find(|view| view.backend.as_str() == backend).expect("backend in the table")
    }

    pub(crate) async fn proxy(&self, incarnation: &str) -> Option<ProxyView> {
        self.census().await.proxies.into_iter().find(|view| view.incarnation.as_str() == incarnation)
    }

    pub(crate) async fn flush(&mut self) {
        match &mut self.back {
            Back::Memory(memory) => memory.flush(),
            Back::Redis(namespace) => namespace.flush().await,
        }
    }

    pub(crate) async fn save(&mut self) -> Copy {
        match &mut self.back {
            Back::Memory(memory) => Copy::Memory(memory.save()),
            Back::Redis(namespace) => Copy::Redis(namespace.dump().await),
        }
    }

    pub(crate) async fn restore(&mut self, copy: &Copy) {
        match (&mut self.back, copy) {
            (Back::Memory(memory), Copy::Memory(saved)) => memory.restore(saved),
            (Back::Redis(namespace), Copy::Redis(dump)) => namespace.restore(dump).await,
            _ => panic!("a copy of another store"),
        }
    }
}

/// One incarnation as its link would speak.
pub(crate) struct Peer {
    pub(crate) incarnation: Incarnation,
    connection: Box<dyn Connection>,
    pub(crate) run: String,
    pub(crate) seq: u64,
    pub(crate) acked: u64,
    /// The last errand that it says to have taken on when it says hello.
    pub(crate) errand: u64,
}

impl Peer {
    pub(crate) async fn send(&mut self, seq: u64, request: Request) -> Reply {
        let hello = matches!(request, Request::Hello(_));
        let run = if hello { String::new() } else { self.run.clone() };
        let call = Call { incarnation: self.incarnation.clone(), run, seq, request };
        let mut replies = self.connection.exchange(&[call]).await.expect("answer");
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }

    /// The next call.
    pub(crate) async fn call(&mut self, request: Request) -> Reply {
        self.seq += 1;
        let reply = self.send(self.seq, request).await;
        if !matches!(reply, Reply::Lost | Reply::Stale) {
            self.acked = self.seq;
        }
        reply
    }

    pub(crate) async fn hello(&mut self) -> Welcome {
        let name = format!("name of {}", self.incarnation);
        let hello = Hello { acked: self.acked, errand: self.errand, name, version: "1.0".to_owned() };
        match self.call(Request::Hello(hello)).await {
            Reply::Hello(welcome) => {
                self.run.clone_from(&welcome.run);
                welcome
            }
            other => panic!("hello: {other:?}"),
        }
    }

    pub(crate) async fn heartbeat(&mut self, asserted: bool, table_version: u64) -> Beat {
        match self.call(Request::Heartbeat(Heartbeat { asserted, table_version, ..Heartbeat::default() })).await {
            Reply::Heartbeat(beat) => beat,
            other => panic!("heartbeat: {other:?}"),
        }
    }

    /// A heartbeat of somebody who has asserted everything and has the newest table.
    pub(crate) async fn beat(&mut self) -> Beat {
        self.heartbeat(true, u64::MAX >> 12).await
    }

    pub(crate) async fn claim(&mut self, claim: Claim) -> Home {
        match self.call(Request::Claim(claim)).await {
            Reply::Claim(home) => home,
            other => panic!("claim: {other:?}"),
        }
    }

    /// The backend that `key` is bound to by a plain claim.
    pub(crate) async fn bind(&mut self, key: &str, have: u32) -> String {
        match self.claim(Claim { have, ..claim(key) }).await {
            Home::Bound { backend, .. } => backend.to_string(),
            other => panic!("claim of {key}: {other:?}"),
        }
    }

    /// The backends that keys are bound to by plain claims, in one pipeline.
    pub(crate) async fn bind_all(&mut self, keys: &[String]) -> Vec<String> {
        let call = |(seq, key): (u64, &String)| {
            let request = Request::Claim(claim(key));
            Call { incarnation: self.incarnation.clone(), run: self.run.clone(), seq, request }
        };
        let calls: Vec<Call> = (self.seq + 1..).zip(keys).map(call).collect();
        self.seq += calls.len() as u64;
        self.acked = self.seq;
        let replies = self.connection.exchange(&calls).await.expect("answers");
        let home = |reply| match reply {
            Reply::Claim(Home::Bound { backend, .. }) => backend.to_string(),
            other => panic!("claim: {other:?}"),
        };
        replies.into_iter().map(home).collect()
    }

    pub(crate) async fn declare(&mut self, lines: &[Declared]) -> Vec<Kick> {
        match self.call(Request::Declare(lines.to_vec())).await {
            Reply::Declare(kicks) => kicks,
            other => panic!("declare: {other:?}"),
        }
    }

    /// Says that it holds no session of `key`.
    pub(crate) async fn release(&mut self, key: &str) {
        assert_eq!(self.declare(&[declared(key, "", 0, 0)]).await, []);
    }

    /// Says that it holds no session of `key`, and that none was ever accepted.
    pub(crate) async fn give_up(&mut self, key: &str) {
        let line = Declared { unproven: true, ..declared(key, "", 0, 0) };
        assert_eq!(self.declare(&[line]).await, []);
    }

    /// All keys that the store thinks it holds.
    pub(crate) async fn held(&mut self) -> Vec<Key> {
        let (mut all, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            match self.call(Request::Held { cursor }).await {
                Reply::Held(keys, next) => {
                    all.extend(keys.into_iter().map(|(key, _)| key));
                    match next {
                        Some(next) => cursor = next,
                        None => break,
                    }
                }
                other => panic!("held: {other:?}"),
            }
        }
        all.sort();
        all.dedup();
        all
    }

    pub(crate) async fn reap(&mut self, whose: &str) -> Reaped {
        match self.call(Request::Reap { orphan: Incarnation::new(whose) }).await {
            Reply::Reap(reaped) => reaped,
            other => panic!("reap: {other:?}"),
        }
    }

    pub(crate) async fn forget(&mut self, whose: &str) -> Reaped {
        match self.call(Request::Forget { dead: Incarnation::new(whose) }).await {
            Reply::Reap(reaped) => reaped,
            other => panic!("forget: {other:?}"),
        }
    }

    pub(crate) async fn table(&mut self, based_on: u64, rows: &[(&str, Row)]) -> Result<u64, Table> {
        match self.call(Request::Table { based_on, rows: table(rows) }).await {
            Reply::Table(result) => result,
            other => panic!("table: {other:?}"),
        }
    }

    /// Replaces the table, whatever it was.
    pub(crate) async fn set_table(&mut self, rows: &[(&str, Row)]) -> u64 {
        let version = self.beat().await.table_version;
        self.table(version, rows).await.expect("based on the present table")
    }
}

pub(crate) fn table(rows: &[(&str, Row)]) -> BTreeMap<BackendId, Row> {
    rows.iter().map(|(name, row)| (BackendId::new(name), row.clone())).collect()
}

pub(crate) fn up() -> Row {
    Row::default()
}

pub(crate) fn weighing(weight: u32) -> Row {
    Row { weight: Weight::new(weight).expect("weight"), ..up() }
}

pub(crate) fn in_state(state: BackendState) -> Row {
    Row { state, ..up() }
}

pub(crate) fn in_pool(pool: &str) -> Row {
    Row { pool: Pool::new(pool), ..up() }
}

/// A plain claim of a key without live sessions here, by a user whom the passdb knows.
pub(crate) fn claim(key: &str) -> Claim {
    Claim { key: Key::new(key), have: 0, pool: Pool::default(), pin: None, limit: 0, unproven: false, hint: None }
}

pub(crate) fn declared(key: &str, backend: &str, generation: u64, count: u32) -> Declared {
    Declared {
        key: Key::new(key),
        backend: BackendId::new(backend),
        generation: Generation(generation),
        count,
        unproven: false,
    }
}

pub(crate) fn kick(key: &str, home: Option<(&str, u64)>) -> Kick {
    Kick {
        key: Key::new(key),
        backend: home.map(|(backend, _)| BackendId::new(backend)),
        generation: Generation(home.map_or(0, |(_, generation)| generation)),
    }
}
