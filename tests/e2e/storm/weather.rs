//! Makes faults happen, and ends them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::fault::{CLOSE_TIMEOUT, Climate, Fault, PROXIES};
use crate::harness::crowd::Dice;
use crate::harness::{Fleet, Lan, Net, Redis, Result, SentinelSet, eventually};

/// Between two faults, on average.
const PACE: Duration = Duration::from_millis(700);

/// A mail server that nothing reaches and that writes no line for so long has nothing left to write.
const QUIET: Duration = Duration::from_millis(150);

/// A fleet in a storm.
pub struct Weather {
    pub fleet: Fleet,
    /// The store's servers, if it is not the fleet's one Redis.
    pub trio: Option<SentinelSet>,
    pub climate: Climate,
    dice: Dice,
    under_way: Vec<UnderWay>,
    counts: BTreeMap<&'static str, usize>,
    /// Proxies that were started and not waited for, and where their logs began.
    starting: BTreeMap<usize, usize>,
}

struct UnderWay {
    fault: Fault,
    /// When it is to be remedied; `None` once it is.
    until: Option<Instant>,
    /// Up to then it bears on what may happen.
    matters_until: Instant,
    /// The master that was killed.
    master: Option<SocketAddr>,
    /// Who ends it in time, however long anything else takes; gives how long it lasted.
    timer: Option<JoinHandle<Result<Duration>>>,
}

impl Weather {
    pub fn new(fleet: Fleet, trio: Option<SentinelSet>, climate: Climate, dice: Dice) -> Self {
        let (under_way, counts, starting) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { fleet, trio, climate, dice, under_way, counts, starting }
    }

    /// Rages for so long, then calms down.
    pub async fn rage(&mut self, span: Duration) -> Result {
        let begun = Instant::now();
        while begun.elapsed() < span {
            self.remedy(Instant::now()).await?;
            let fault = Fault::any(&mut self.dice, self.climate);
            if self.under_way.iter().all(|other| fault.excluded_by(other.fault, self.climate).is_none()) {
                self.strike(fault).await.with_context(|| format!("{fault:?}"))?;
                // The pace of the storm; nothing waits for anything here.
                tokio::time::sleep(PACE / 2 + PACE.mul_f64(self.dice.below(1000) as f64 / 1000.0)).await;
            } else {
                tokio::time::sleep(PACE / 10).await;
            }
        }
        self.calm().await
    }

    /// How often each kind of fault happened.
    pub fn summary(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        counts.join(", ")
    }

    /// How many faults there were.
    pub fn faults(&self) -> usize {
        self.counts.values().sum()
    }

    /// Ends what is under way, and waits until all parts are up.
    async fn calm(&mut self) -> Result {
        while let Some(next) = self.under_way.iter().filter_map(|under_way| under_way.until).min() {
            tokio::time::sleep(next.saturating_duration_since(Instant::now())).await;
            self.remedy(Instant::now()).await?;
        }
        for (proxy, since) in std::mem::take(&mut self.starting) {
            self.fleet.proxies[proxy - 1].ready_since(since).await?;
        }
        if let Some(trio) = &self.trio {
            trio.settled().await?;
            self.fleet.redis = Redis::beside(trio.master().await?);
        }
        Ok(())
    }

    async fn strike(&mut self, fault: Fault) -> Result {
        let (began, span) = (Instant::now(), fault.span(&mut self.dice, self.climate));
        let (mut master, mut timer) = (None, None);
        let until = began + span;
        match fault {
            Fault::ProxyKilled(proxy) => self.fleet.proxies[proxy - 1].kill(),
            Fault::ProxyStopped(proxy) => self.fleet.proxies[proxy - 1].signal(Signal::STOP)?,
            Fault::CutFromStore(proxy) => self.lan()?.cut((proxy, Net::Store))?,
            Fault::CutFromClients(proxy) => self.lan()?.cut((proxy, Net::Doors))?,
            Fault::CutFromBackend(proxy, backend) => {
                let cable = (proxy, Net::Mail(backend));
                self.lan()?.cut(cable)?;
                timer = Some(at(began, until, self.lan()?.mender(cable)?));
            }
            Fault::StoreStopped => self.server().await?.daemon()?.signal(Signal::STOP)?,
            Fault::StoreKilled => self.fleet.redis.kill(),
            Fault::StoreFlushed => self.server().await?.flush().await?,
            Fault::StoreFailedOver => {
                let server = self.server().await?;
                server.kill();
                master = Some(server.address);
            }
            Fault::BackendKilled(backend) => self.fleet.backends[backend - 1].kill(),
            Fault::BackendStopped(backend) => {
                self.stop_backend(backend).await?;
                timer = Some(at(began, until, self.fleet.backends[backend - 1].daemon()?.waker()));
            }
        }
        *self.counts.entry(fault.kind()).or_default() += 1;
        let matters_until = until + fault.aftermath();
        self.under_way.push(UnderWay { fault, until: Some(until), matters_until, master, timer });
        Ok(())
    }

    /// Ends what is due, and forgets what does not matter any more.
    async fn remedy(&mut self, now: Instant) -> Result {
        let mut under_way = std::mem::take(&mut self.under_way);
        for one in under_way.iter_mut().filter(|one| one.until.is_some_and(|until| until <= now)) {
            self.end(one).await.with_context(|| format!("{:?} is to end", one.fault))?;
            one.until = None;
            one.matters_until = Instant::now() + one.fault.aftermath();
        }
        under_way.retain(|one| one.until.is_some() || one.matters_until > now);
        self.under_way = under_way;
        Ok(())
    }

    async fn end(&mut self, one: &mut UnderWay) -> Result {
        match one.fault {
            Fault::ProxyKilled(proxy) => {
                let since = self.fleet.proxies[proxy - 1].spawn()?;
                self.starting.insert(proxy, since);
            }
            Fault::ProxyStopped(proxy) => self.fleet.proxies[proxy - 1].signal(Signal::CONT)?,
            Fault::CutFromStore(proxy) => self.lan()?.mend((proxy, Net::Store))?,
            Fault::CutFromClients(proxy) => self.lan()?.mend((proxy, Net::Doors))?,
            Fault::CutFromBackend(..) | Fault::BackendStopped(_) => {
                let lasted = one.timer.take().context("it has a timer")?.await??;
                // Else E6 would be an excuse.
                ensure!(lasted * 2 < CLOSE_TIMEOUT, "this machine is too slow for this test: it lasted {lasted:?}");
            }
            Fault::StoreStopped => self.server().await?.daemon()?.signal(Signal::CONT)?,
            Fault::StoreKilled => self.fleet.redis.launch().await?,
            Fault::StoreFlushed => {}
            Fault::StoreFailedOver => self.fall_in(one.master.context("somebody was killed")?).await?,
            Fault::BackendKilled(backend) => self.fleet.backends[backend - 1].launch().await?,
        }
        Ok(())
    }

    /// The dead master comes back behind the new one. As a master it would be a second one: E1.
    async fn fall_in(&mut self, dead: SocketAddr) -> Result {
        let trio = self.trio.as_mut().context("there are Sentinels")?;
        let master = trio.switched(dead).await?;
        let server = trio.server(dead)?;
        server.follow(master);
        server.launch().await?;
        let server = trio.server(dead)?;
        eventually("the old master is in step", Duration::from_secs(60), async || {
            ensure!(server.info("master_link_status").await? == "up", "it is not");
            Ok(())
        })
        .await
    }

    /// Stops a mail server at a moment when it has said all that has happened. Between the end of a connection and the
    /// line in the log there are milliseconds; stopped amid these, it would bear witness only when it goes on, and by
    /// then the user may be elsewhere with every right.
    async fn stop_backend(&self, backend: usize) -> Result {
        let server = &self.fleet.backends[backend - 1];
        let cables = (1..=PROXIES).map(|proxy| (proxy, Net::Mail(backend)));
        for cable in cables.clone() {
            self.lan()?.cut(cable)?;
        }
        eventually("its log is quiet", CLOSE_TIMEOUT / 4, async || {
            let before = server.log()?.len();
            tokio::time::sleep(QUIET).await;
            ensure!(server.log()?.len() == before, "it still writes");
            Ok(())
        })
        .await?;
        server.daemon()?.signal_all(Signal::STOP)?;
        for cable in cables {
            self.lan()?.mend(cable)?;
        }
        Ok(())
    }

    fn lan(&self) -> Result<&Lan> {
        self.fleet.lan.as_ref().context("the plan had a network")
    }

    /// The server that proxies write to.
    async fn server(&mut self) -> Result<&mut Redis> {
        match &mut self.trio {
            None => Ok(&mut self.fleet.redis),
            Some(trio) => {
                let master = trio.master().await?;
                trio.server(master)
            }
        }
    }
}

/// Ends in time what began then; gives how long it lasted.
fn at(
    began: Instant,
    until: Instant,
    remedy: impl FnOnce() -> Result + Send + 'static,
) -> JoinHandle<Result<Duration>> {
    tokio::spawn(async move {
        tokio::time::sleep_until(until.into()).await;
        remedy()?;
        Ok(began.elapsed())
    })
}
