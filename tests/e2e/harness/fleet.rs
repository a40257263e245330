//! A whole fleet: Redis, Dovecots with one mail store, and proxies as processes of their own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use toml::{Table, Value};

use super::address::{free_port, fresh_ip, some_free_ports};
use super::doveadm::DOOR_PASSWORD;
use super::dovecot::{DOVEADM_PASSWORD, DovecotOptions};
use super::redis::{Keep, NAMESPACE};
use super::{Dovecot, Lan, MailStore, Net, Protocol, Proxy, Redis, Result, Sink, User, Witness, Workdir, eventually};

/// Times that make a test take seconds where a real fleet takes minutes. However long this machine stands still, the store's
/// clock makes a step of 2 s at most when it goes on: a lease that is longer by more than a heartbeat does not end by that.
/// Where the store falls silent, a test has a shorter timeout. All clients come from one address, so nobody is slowed or
/// limited for that, but where a test wants it.
const TIMES: &str = r#"
[store]
timeout = "5s"
[fleet]
lease = "3s"
orphan_grace = "30s"
recovery = "2s"
user_expire = "10s"
remember = "60s"
login_wait = "8s"
[auth]
penalty_max = "0s"
[limits]
user_ip_connections = 0
"#;

/// A listener that takes passwords without TLS.
pub const PLAIN: &str = "tls = \"none\"\nplaintext_login = true\n";

/// Running parts. They end with it, in the order of the fields.
pub struct Fleet {
    /// The proxies.
    pub proxies: Vec<Proxy>,
    /// The mail servers.
    pub backends: Vec<Dovecot>,
    /// Shared state.
    pub redis: Redis,
    /// Mail.
    pub store: MailStore,
    /// Who can log in.
    pub users: Vec<User>,
    /// Where the mail servers relay what they are given for submission, if the plan asks for that.
    pub sink: Option<Sink>,
    /// What is between them, if the test wants to cut it.
    pub lan: Option<Lan>,
    /// Files of all parts.
    pub dir: Workdir,
}

/// What a fleet shall be made of.
pub struct Plan {
    proxies: usize,
    backends: usize,
    users: usize,
    listeners: Vec<String>,
    protocols: Vec<Protocol>,
    keep: Keep,
    store: Option<(String, SocketAddr)>,
    config: Table,
    dovecot: String,
    mortal: bool,
    lan: Option<Lan>,
}

impl Fleet {
    /// One proxy, three backends, ten users, one plain listener, passdb `backend`.
    pub fn plan() -> Plan {
        let config = TIMES.parse().expect("the constant is TOML");
        let dovecot = String::new();
        let (listeners, protocols, keep, store) = (Vec::new(), Vec::new(), Keep::Nothing, None);
        let (proxies, backends, users, mortal, lan) = (1, 3, 10, false, None);
        Plan { proxies, backends, users, listeners, protocols, keep, store, config, dovecot, mortal, lan }
    }

    /// The first proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxies[0]
    }

    /// First addresses of all proxies.
    pub fn doors(&self) -> Vec<SocketAddr> {
        self.proxies.iter().map(Proxy::address).collect()
    }

    /// What the backends saw so far.
    pub fn witness(&self) -> Result<Witness> {
        Witness::hear(&self.backends)
    }

    /// Waits until the store counts exactly the sessions that the backends have.
    pub async fn counts_agree(&self) -> Result {
        eventually("the store counts what exists", Duration::from_secs(60), async || {
            let (open, load) = (self.witness()?.open(), self.redis.load().await?);
            ensure!(open == load, "backends have {open:?}, the store counts {load:?}");
            self.redis.audit().await
        })
        .await
    }

    /// Waits until no backend has a session and nothing is counted.
    pub async fn empty(&self) -> Result {
        eventually("nobody is left", Duration::from_secs(60), async || {
            let (open, load, sessions) =
                (self.witness()?.open(), self.redis.load().await?, self.redis.sessions().await?);
            ensure!(open.is_empty() && load.is_empty(), "backends have {open:?}, the store counts {load:?}");
            ensure!(sessions == 0, "{sessions} sessions are bound");
            Ok(())
        })
        .await
    }

    /// Changes the configuration file of every proxy; does not reload it.
    pub fn reconfigure(&self, mut change: impl FnMut(&mut Table)) -> Result {
        for proxy in &self.proxies {
            let mut table: Table = proxy.read_config()?.parse()?;
            change(&mut table);
            proxy.write_config(&toml::to_string(&table)?)?;
        }
        Ok(())
    }
}

impl Plan {
    /// How many proxies.
    pub fn proxies(mut self, count: usize) -> Self {
        self.proxies = count;
        self
    }

    /// How many mail servers: `mail1` and so on.
    pub fn backends(mut self, count: usize) -> Self {
        self.backends = count;
        self
    }

    /// How many users.
    pub fn users(mut self, count: usize) -> Self {
        self.users = count;
        self
    }

    /// One more listener in each proxy, as TOML without the address. Without any, there is a plain one.
    pub fn listener(mut self, toml: &str) -> Self {
        self.listeners.push(toml.to_owned());
        self
    }

    /// Every mail server serves these protocols beside IMAP (doveadm it always does), and every proxy has one more plain
    /// listener for each of them: [`Proxy::door`]. Not with a [`Lan`].
    pub fn protocols(mut self, protocols: &[Protocol]) -> Self {
        self.protocols.extend(protocols.iter().filter(|protocol| **protocol != Protocol::Imap));
        self
    }

    /// Redis keeps what it is told over a restart.
    pub fn durable(mut self) -> Self {
        self.keep = Keep::Everything;
        self
    }

    /// Redis is the test's own: `lines` of `[store]` say how proxies reach it, the test looks into it at `address`.
    pub fn store(mut self, lines: &str, address: SocketAddr) -> Self {
        self.store = Some((lines.to_owned(), address));
        self
    }

    /// Settings of all proxies, merged over those there are. Keys of a table are merged, everything else is replaced.
    pub fn config(mut self, toml: &str) -> Self {
        merge(&mut self.config, toml.parse().expect("the test's TOML"));
        self
    }

    /// Lines for every `dovecot.conf`.
    pub fn dovecot(mut self, lines: &str) -> Self {
        self.dovecot.push_str(lines);
        self
    }

    /// Mail servers that can be killed at work.
    pub fn mortal_backends(mut self) -> Self {
        self.mortal = true;
        self
    }

    /// Everything is connected by cables of that network. Each proxy then has one plain listener.
    pub fn lan(mut self, lan: Lan) -> Self {
        self.lan = Some(lan);
        self
    }

    /// Starts everything.
    pub async fn start(self) -> Result<Fleet> {
        let mut fleet = self.start_without_proxies().await?;
        for proxy in &mut fleet.proxies {
            proxy.spawn()?;
        }
        for proxy in &mut fleet.proxies {
            proxy.ready_since(0).await?;
        }
        Ok(fleet)
    }

    /// Starts everything but the proxies, whose configuration is written.
    pub async fn start_without_proxies(mut self) -> Result<Fleet> {
        let dir = Workdir::new()?;
        let users = User::first(self.users);
        let store = MailStore::new(dir.path(), &users)?;
        let redis = match &self.store {
            None => {
                let ip = self.server_ip(Net::Store)?;
                Redis::start_at(free_port(ip)?, &dir.join("redis"), self.keep, &[]).await?
            }
            Some((_, address)) => Redis::beside(*address),
        };
        let ips = (1..=self.backends).map(|n| self.server_ip(Net::Mail(n))).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = (1..=self.backends).map(|n| format!("mail{n}")).collect();
        let submission = self.protocols.contains(&Protocol::Submission);
        let sink = if submission { Some(Sink::start().await?) } else { None };
        let relay = sink.as_ref().map(|sink| sink.address);
        let starts = names.iter().zip(ips).map(|(name, ip)| {
            let (extra, protocols) = (self.dovecot.as_str(), self.protocols.as_slice());
            let options = DovecotOptions { extra, ip: Some(ip), mortal: self.mortal, tls: None, protocols, relay };
            Dovecot::start(dir.path(), name, &store, options)
        });
        let backends = futures_util::future::try_join_all(starts).await?;
        let mut proxies = Vec::new();
        for number in 1..=self.proxies {
            proxies.push(self.proxy(number, &dir, &redis, &backends).await?);
        }
        Ok(Fleet { proxies, backends, redis, store, users, sink, lan: self.lan, dir })
    }

    /// Where a server listens.
    fn server_ip(&mut self, net: Net) -> Result<IpAddr> {
        self.lan.as_mut().map_or_else(|| Ok(fresh_ip()), |lan| lan.server_ip(net))
    }

    async fn proxy(&mut self, number: usize, dir: &Workdir, redis: &Redis, backends: &[Dovecot]) -> Result<Proxy> {
        let name = format!("proxy{number}");
        let mut roads = Roads { store: redis.address, backends: backends.iter().map(|b| b.address).collect() };
        let mut listeners = if self.listeners.is_empty() { vec![PLAIN.to_owned()] } else { self.listeners.clone() };
        listeners.extend(self.protocols.iter().map(|protocol| listener_of(*protocol)));
        let (listen, reached, runner) = match &mut self.lan {
            Some(lan) => {
                ensure!(self.protocols.is_empty(), "a lan has cables to one listener of each proxy");
                lan.house(number, dir.path()).await?;
                roads = roads.by_cable(lan, number).await?;
                let (listen, reached) = lan.door(number).await?;
                (vec![listen], vec![reached], lan.runner(number))
            }
            None => {
                let addresses = some_free_ports(fresh_ip(), listeners.len())?;
                (addresses.clone(), addresses, Vec::new())
            }
        };
        let url = || format!("url = \"redis://{}/\"\n", roads.store);
        let store = self.store.as_ref().map_or_else(url, |(lines, _)| lines.clone());
        let mut table: Table = basics(&name, dir, &store).parse()?;
        for (backend, address) in backends.iter().zip(&roads.backends) {
            let entry = backend_entry_at(&backend.name, *address) + &ports_of(backend, &self.protocols);
            merge(&mut table, entry.parse()?);
        }
        if self.protocols.contains(&Protocol::Doveadm) {
            merge(&mut table, format!("[doveadm]\npassword = {DOOR_PASSWORD:?}\n").parse()?);
        }
        merge(&mut table, self.config.clone());
        table.insert("listener".into(), listener_entries(&listeners, &listen)?);
        let own = reached.len() - self.protocols.len();
        let doors = self.protocols.iter().copied().zip(reached[own..].iter().copied()).collect();
        let mut proxy = Proxy::new(dir.path(), &name, reached, &table)?.run_by(runner);
        proxy.doors = doors;
        Ok(proxy)
    }
}

/// Where a proxy reaches the servers.
struct Roads {
    store: SocketAddr,
    backends: Vec<SocketAddr>,
}

impl Roads {
    /// The same by cables of its own.
    async fn by_cable(self, lan: &mut Lan, proxy: usize) -> Result<Self> {
        let store = lan.cable(proxy, Net::Store, self.store).await?;
        let mut backends = Vec::new();
        for (index, address) in self.backends.into_iter().enumerate() {
            backends.push(lan.cable(proxy, Net::Mail(index + 1), address).await?);
        }
        Ok(Self { store, backends })
    }
}

/// What every proxy of a test has in its file.
fn basics(name: &str, dir: &Workdir, store: &str) -> String {
    let at = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
    format!(
        "name = {name:?}\n[store]\nkind = \"redis\"\n{store}\nnamespace = {NAMESPACE:?}\n[fleet]\nstate_file = {:?}\n\
         [admin]\nsocket = {:?}\n[log]\nformat = \"json\"\nlevel = \"info\"\n[[passdb]]\nkind = \"backend\"\n",
        at("state"),
        at("sock"),
    )
}

/// `[backend.NAME]` for a server.
pub fn backend_entry(backend: &Dovecot) -> String {
    backend_entry_at(&backend.name, backend.address)
}

fn backend_entry_at(name: &str, address: SocketAddr) -> String {
    format!("[backend.{name}]\nhost = \"{}\"\nport = {}\n", address.ip(), address.port())
}

/// A plain listener. To doveadm's there are no logins.
fn listener_of(protocol: Protocol) -> String {
    let plain = if protocol == Protocol::Doveadm { "tls = \"none\"\n" } else { PLAIN };
    format!("protocol = {:?}\n{plain}", protocol.word())
}

/// The keys of `[backend.NAME]` for what it serves beside IMAP.
fn ports_of(backend: &Dovecot, protocols: &[Protocol]) -> String {
    let keys = protocols.iter().map(|protocol| match backend.serves.ports(*protocol) {
        Some(ports) => format!("{}_port = {}\n", protocol.word(), ports.plain.port()),
        None => {
            let address = backend.doveadm_address;
            format!("doveadm = \"tcp://{address}\"\ndoveadm_password = \"{DOVEADM_PASSWORD}\"\n")
        }
    });
    keys.collect()
}

fn listener_entries(listeners: &[String], addresses: &[SocketAddr]) -> Result<Value> {
    let entries = listeners.iter().zip(addresses).map(|(toml, address)| {
        let mut entry: Table = toml.parse().with_context(|| format!("listener {toml:?}"))?;
        entry.insert("address".into(), Value::String(address.to_string()));
        Ok(Value::Table(entry))
    });
    Ok(Value::Array(entries.collect::<Result<_>>()?))
}

/// Lays `over` onto `base`: tables key by key, the rest as a whole.
pub fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}
