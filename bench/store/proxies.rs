//! Fifty proxies as the store knows them: an incarnation each, numbered calls, a heartbeat every second.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use homing::model::Incarnation;
use homing::store::redis::Redis;
use homing::store::{Call, Connection, Heartbeat, Hello, Reply, Request, Store};

/// How many there are.
pub(crate) const PROXIES: u32 = 50;

/// As `[fleet]` has it.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// One of them.
pub(crate) struct Proxy {
    pub(crate) incarnation: Incarnation,
    connection: Box<dyn Connection>,
    run: String,
    seq: u64,
    last_beat: Instant,
    pub(crate) table_version: u64,
}

impl Proxy {
    /// Connects one and says hello.
    pub(crate) async fn start(store: &Redis) -> anyhow::Result<Self> {
        let mut proxy = Self {
            incarnation: Incarnation::random(),
            connection: store.connect(0).await?,
            run: String::new(),
            seq: 0,
            last_beat: Instant::now(),
            table_version: 0,
        };
        let hello =
            Hello { acked: 0, errand: 0, name: "mailproxy".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let hello = proxy.number(Request::Hello(hello));
        match proxy.connection.exchange(&[hello]).await?.pop() {
            Some(Reply::Hello(welcome)) => proxy.run = welcome.run,
            other => bail!("hello was answered {other:?}"),
        }
        proxy.beat().await?;
        Ok(proxy)
    }

    /// Goes on over a connection of another store, which is the same server under other rules.
    pub(crate) async fn change_rules(&mut self, store: &Redis) -> anyhow::Result<()> {
        self.connection = store.connect(0).await?;
        Ok(())
    }

    /// One pipeline, with a heartbeat in front of it if one is due.
    pub(crate) async fn exchange(&mut self, requests: Vec<Request>) -> anyhow::Result<Vec<Reply>> {
        if self.last_beat.elapsed() > HEARTBEAT {
            self.beat().await?;
        }
        let calls: Vec<Call> = requests.into_iter().map(|request| self.number(request)).collect();
        let replies = self.connection.exchange(&calls).await?;
        ensure!(!replies.iter().any(|reply| matches!(reply, Reply::Lost | Reply::Stale)), "a call was refused");
        Ok(replies)
    }

    pub(crate) async fn beat(&mut self) -> anyhow::Result<()> {
        self.last_beat = Instant::now();
        let beat = Heartbeat {
            asserted: true,
            table_version: self.table_version,
            failing: Some(Vec::new()),
            ..Heartbeat::default()
        };
        let beat = self.number(Request::Heartbeat(beat));
        match self.connection.exchange(&[beat]).await?.pop() {
            Some(Reply::Heartbeat(beat)) => self.table_version = beat.table_version,
            other => bail!("a heartbeat was answered {other:?}"),
        }
        Ok(())
    }

    fn number(&mut self, request: Request) -> Call {
        self.seq += 1;
        Call { incarnation: self.incarnation.clone(), run: self.run.clone(), seq: self.seq, request }
    }
}
