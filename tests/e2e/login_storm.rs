//! A proxy dies, and all its clients log in again at once: what reaches the servers that know the passwords.
//!
//! Every client is a connection of its own, and every user has two. Lookups are counted by the servers themselves.
//! `HOMING_STORM` says how many clients there are: 5000 take about a minute for each server on two cores.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::fleet::merge;
use crate::harness::passdbs::{is_paused, stats};
use crate::harness::scripted::{Peer, Scripted};
use crate::harness::talk::Talk;
use crate::harness::wait::heavy;
use crate::harness::{Fleet, Imap, Passdb, Result, Status, User, eventually};

/// Clients, unless `HOMING_STORM` says otherwise.
const CLIENTS: usize = 600;
/// Connections of each user.
const EACH: usize = 2;
/// One user in so many is not remembered when the proxy dies.
const COLD: usize = 10;
/// Questions that a proxy may have under way.
const PARALLEL: usize = 8;
/// On a machine that other tests keep busy, five thousand clients and everybody they talk to are slow.
const SLOW: &str =
    "[limits]\nlogin_timeout = \"5min\"\n[store]\ntimeout = \"30s\"\n[fleet]\nlease = \"20s\"\nlogin_wait = \"50s\"\n";
/// How long a storm may last.
const PATIENCE: Duration = Duration::from_secs(300);

fn clients() -> usize {
    std::env::var("HOMING_STORM").map_or(CLIENTS, |count| count.parse().expect("HOMING_STORM is a number"))
}

/// What becomes of the server.
#[derive(Clone, Copy)]
enum Outage {
    Killed,
    Hung,
}

/// What came of a storm.
struct Landfall {
    open: Vec<Imap>,
    /// Until the last was in.
    took: Duration,
    /// What clients heard before they were let in.
    refusals: Vec<String>,
}

/// A fleet with a passdb, in front of servers that let everybody in.
struct Coast {
    fleet: Fleet,
    users: Vec<User>,
    passdb: Passdb,
    _backends: Vec<Scripted>,
}

/// Lets anybody in, and keeps quiet.
async fn welcome(_: usize, mut peer: Peer) -> Result {
    let tag = peer.until_login().await?;
    peer.say(&format!("{tag} OK [CAPABILITY IMAP4rev1] in\r\n")).await?;
    peer.is_closed_in_order().await;
    Ok(())
}

impl Coast {
    async fn new(passdb: impl FnOnce(&[User]) -> Passdb) -> Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
        let users = User::first(clients() / EACH);
        let passdb = passdb(&users);
        let mut backends = Vec::new();
        let mut config = format!(
            "{SLOW}[auth]\ncache_ttl = \"1h\"\n{}timeout = \"1min\"\nfailures = 5\npause = \"300ms\"\nparallel = {PARALLEL}\n",
            passdb.config
        );
        for number in 1..=3 {
            let server = Scripted::start(welcome).await?;
            let (host, port) = (server.address.ip(), server.address.port());
            // They are all in one thread with the clients, and slow in a storm.
            let patience = "connect_timeout = \"2min\"\nlogin_timeout = \"2min\"\nretry_budget = \"2min\"\n";
            config += &format!("[backend.mail{number}]\nhost = \"{host}\"\nport = {port}\nprobe = false\n{patience}");
            backends.push(server);
        }
        let fleet = Fleet::plan().proxies(3).users(0).backends(0).config(&config).start().await?;
        Ok(Self { fleet, users, passdb, _backends: backends })
    }

    /// All clients come at once, the connections of a user by the same proxy, and try until they are in.
    async fn storm(&self, doors: &[SocketAddr]) -> Result<Landfall> {
        let begun = Instant::now();
        let all = (0..self.users.len() * EACH).map(|number| {
            let user = number / EACH;
            self.come_in(user, doors[user % doors.len()])
        });
        let (mut open, mut refusals) = (Vec::new(), Vec::new());
        for client in join_all(all).await {
            let (imap, heard) = client?;
            open.push(imap);
            refusals.extend(heard);
        }
        Ok(Landfall { open, took: begun.elapsed(), refusals })
    }

    async fn come_in(&self, number: usize, door: SocketAddr) -> Result<(Imap, Vec<String>)> {
        let (begun, user, mut refusals) = (Instant::now(), &self.users[number], Vec::new());
        let [high, low] = (number as u16).to_be_bytes();
        let from = IpAddr::V4(Ipv4Addr::new(127, 9, high, low.max(1)));
        loop {
            let reason = match Self::try_door(from, door, user).await {
                Ok((imap, None)) => return Ok((imap, refusals)),
                Ok((_, Some(refusal))) => refusal,
                Err(error) => format!("{error:#}"),
            };
            refusals.push(reason);
            ensure!(begun.elapsed() < PATIENCE, "{} is shut out: {refusals:?}", user.name);
            tokio::time::sleep(Duration::from_millis(50)).await; // what a mail program does, only faster
        }
    }

    async fn try_door(from: IpAddr, door: SocketAddr, user: &User) -> Result<(Imap, Option<String>)> {
        let mut imap = Imap::over(Talk::dial_from(from, door).await?).with_patience(PATIENCE);
        imap.greet().await?;
        let answer = imap.try_login(user).await?;
        Ok((imap, (answer.status != Status::Ok).then_some(answer.text)))
    }

    /// The same, and says what came of it.
    async fn told(&self, what: &str, doors: &[SocketAddr]) -> Result<Vec<Imap>> {
        let before = self.passdb.lookups();
        let Landfall { open, took, refusals } = self.storm(doors).await?;
        let lookups = self.passdb.lookups() - before;
        println!("{what}: {} clients in after {took:.2?}, {lookups} lookups, {} refusals", open.len(), refusals.len());
        ensure!(refusals.is_empty(), "{what}: {:?}", refusals.first());
        Ok(open)
    }

    async fn notes(&self, count: usize) -> Result {
        eventually("answers are noted", Duration::from_secs(60), async || {
            let kept = self.fleet.redis.keys().await?.into_iter().filter(|key| key.contains(":note:")).count();
            ensure!(kept == count, "{kept} of {count}");
            Ok(())
        })
        .await
    }

    /// Of all proxies since each was started. "unreachable" are logins that could not look what is remembered, since Redis
    /// did not answer in time: they ask, and on a machine that stands still there may be some.
    async fn counted(&self, what: &str) -> Result<u64> {
        let mut sum = 0;
        for proxy in &self.fleet.proxies {
            sum += stats(proxy).await?["cache"][what].as_u64().context("no count")?;
        }
        Ok(sum)
    }
}

async fn weathers(passdb: impl FnOnce(&[User]) -> Passdb, outage: Outage) -> Result {
    let _turn = heavy().await;
    let mut coast = Coast::new(passdb).await?;
    let open = coast.nobody_is_remembered().await?;
    let back = coast.a_proxy_dies(open).await?;
    coast.another_dies_and_the_server_is_gone(back, outage).await?;
    coast.what_is_remembered_is_old().await?;
    coast.the_server_is_back(outage).await
}

impl Coast {
    /// Each user is looked up once, however many connections there are, and not too many at a time.
    async fn nobody_is_remembered(&self) -> Result<Vec<Imap>> {
        let (doors, port, everybody) = (self.fleet.doors(), self.passdb.server.port, self.users.len());
        let (open, most) = most_connections(port, self.told("nobody is remembered", &doors[..1])).await;
        let open = open?;
        let (lookups, blind) = (self.passdb.lookups(), self.counted("unreachable").await? as usize);
        ensure!(
            (everybody..=everybody + blind).contains(&lookups),
            "{lookups} lookups for {everybody} users, {blind} blind"
        );
        ensure!((1..=PARALLEL * self.passdb.connections).contains(&most), "{most} connections at once");
        self.notes(everybody).await?;
        Ok(open)
    }

    /// A few have been forgotten: only they are looked up.
    async fn a_proxy_dies(&mut self, open: Vec<Imap>) -> Result<Vec<Imap>> {
        let before = self.passdb.lookups();
        let forgotten: Vec<User> = self.users.iter().step_by(COLD).cloned().collect();
        for user in &forgotten {
            ensure!(self.fleet.proxies[1].admin(&["auth", "flush", &user.name]).await?.status.success());
        }
        self.fleet.proxies[0].kill();
        drop(open);
        let back = self.told("a proxy was killed, some are forgotten", &self.fleet.doors()[1..]).await?;
        let lookups = self.passdb.lookups() - before;
        self.notes(self.users.len()).await?;
        self.fleet.proxies[0].start().await?;
        let (cold, blind) = (forgotten.len(), self.counted("unreachable").await? as usize);
        ensure!(
            (cold..=cold + blind).contains(&lookups),
            "{lookups} lookups for {cold} who were forgotten, {blind} blind"
        );
        Ok(back)
    }

    /// Nobody notices.
    async fn another_dies_and_the_server_is_gone(&mut self, back: Vec<Imap>, outage: Outage) -> Result {
        let before = self.passdb.lookups();
        self.fleet.proxies[1].kill();
        match outage {
            Outage::Killed => self.passdb.server.kill(),
            Outage::Hung => self.passdb.server.hang(),
        }
        drop(back);
        let doors = self.fleet.doors();
        drop(self.told("another was killed, and the server is gone", &[doors[0], doors[2]]).await?);
        ensure!(self.passdb.lookups() == before);
        self.fleet.proxies[1].start().await
    }

    /// The first few wait for an answer in vain, then nobody does.
    async fn what_is_remembered_is_old(&self) -> Result {
        self.fleet.reconfigure(|config| {
            merge(config, "[auth]\ncache_ttl = \"0s\"\n".parse().unwrap());
            config["passdb"][0]["timeout"] = "2s".into();
        })?;
        for proxy in &self.fleet.proxies {
            let output = proxy.admin(&["reload"]).await?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let before = self.counted("stale").await?;
        drop(self.told("what is remembered is old", &self.fleet.doors()).await?);
        let stale = self.counted("stale").await? - before;
        ensure!(stale == (self.users.len() * EACH) as u64, "{stale}");
        ensure!(is_paused(self.fleet.proxy()).await?, "the server is still asked");
        Ok(())
    }

    async fn the_server_is_back(&mut self, outage: Outage) -> Result {
        match outage {
            Outage::Killed => self.passdb.server.start(),
            Outage::Hung => self.passdb.server.go_on(),
        }
        let door = self.fleet.proxy().address();
        eventually("the server is asked again", Duration::from_secs(60), async || {
            let (_, refusal) = Self::try_door(Ipv4Addr::LOCALHOST.into(), door, &self.users[0]).await?;
            ensure!(refusal.is_none() && !is_paused(self.fleet.proxy()).await?, "{refusal:?}");
            Ok(())
        })
        .await
    }
}

/// What `work` gives, and how many connections that port had at most meanwhile.
async fn most_connections<T>(port: u16, work: impl Future<Output = T>) -> (T, usize) {
    let (mut work, mut most) = (std::pin::pin!(work), 0);
    loop {
        tokio::select! {
            done = &mut work => return (done, most),
            () = tokio::time::sleep(Duration::from_millis(100)) => most = most.max(connections(port)),
        }
    }
}

/// Established connections of which this is the far end's port.
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let (end, established) = (format!(":{port:04X}"), "01");
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(2);
        Some((fields.next()?, fields.next()?))
    });
    rows.filter(|(far, state)| far.ends_with(&end) && *state == established).count()
}

#[tokio::test]
async fn a_storm_of_logins_does_not_reach_openldap_which_hangs_meanwhile() -> Result {
    weathers(Passdb::openldap, Outage::Hung).await
}

#[tokio::test]
async fn a_storm_of_logins_does_not_reach_postgresql_which_is_killed_meanwhile() -> Result {
    weathers(Passdb::postgresql, Outage::Killed).await
}

#[tokio::test]
async fn a_storm_of_logins_does_not_reach_mariadb_which_hangs_meanwhile() -> Result {
    weathers(Passdb::mariadb, Outage::Hung).await
}
