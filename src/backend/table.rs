//! The mail servers, ready to be dialled: those of the configuration, replaced as a whole by a reload, and those that an
//! operator added while the fleet runs, which follow the fleet's table. Where both have a name the configuration counts,
//! so that an added backend can be written into the files proxy by proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::{Announce, BackendConfig, BackendTls, Config, DoveadmConfig, Master, Reach};
use crate::model::{BackendId, Protocol, Secret};
use crate::net::{ClientTls, TlsFault};
use crate::store::{BackendState, Row};

/// As Dovecot's `proxy_timeout`.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(30);

/// One mail server.
pub struct Server {
    /// Its name.
    pub id: BackendId,
    /// Host name or address.
    pub host: String,
    /// How to reach it by each protocol that it may be asked for.
    pub roads: Vec<(Protocol, Road)>,
    /// The protocols by which it is probed.
    pub probed: Arc<[Protocol]>,
    /// How the true client is announced.
    pub announce: Announce,
    /// Log in as this master user.
    pub master: Option<Master>,
    /// Our own login steps may be sent without waiting.
    pub pipelining: bool,
    /// For one TCP connect.
    pub connect_timeout: Duration,
    /// From connect to the answer to LOGIN.
    pub login_timeout: Duration,
    /// For all tries of one login together.
    pub retry_budget: Duration,
    /// It is probed; without, it is never called failing.
    pub probe: bool,
    /// How to ask it who is there.
    pub doveadm: Option<DoveadmConfig>,
}

/// The way to one service of a mail server.
pub struct Road {
    /// At the server's host.
    pub port: u16,
    /// How the connection is protected, and with what.
    pub tls: Option<Tls>,
    /// The server takes our word for who logs in.
    pub noauth: bool,
}

/// TLS towards a backend.
pub struct Tls {
    /// Makes the connections.
    pub client: Arc<ClientTls>,
    /// By STARTTLS rather than from the first byte.
    pub starttls: bool,
    /// The name to verify.
    pub name: String,
}

/// A backend that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("[backend.{backend}] {fault}")]
pub struct ServersFault {
    /// Which.
    pub backend: BackendId,
    /// Why, and what to do.
    pub fault: TlsFault,
}

/// All of them, and what claims need to know about each.
#[derive(Clone)]
pub struct Servers {
    /// What this proxy's clients speak: that is what backends are probed for.
    served: Arc<[Protocol]>,
    by_id: BTreeMap<BackendId, Arc<Server>>,
    /// Those of the configuration.
    rows: BTreeMap<BackendId, Row>,
    /// What the table says of those that operators have added.
    lines: Arc<BTreeMap<BackendId, String>>,
    /// Those of them that are not of the configuration, by their lines; or why they are of no use.
    added: BTreeMap<BackendId, (String, Result<Arc<Server>, String>)>,
    strangers: Arc<Strangers>,
}

/// TLS towards hosts that only the passdb names. Made once: the system's authorities are hundreds of files.
#[derive(Default)]
struct Strangers {
    verified: OnceLock<Arc<ClientTls>>,
    unverified: OnceLock<Arc<ClientTls>>,
}

impl Servers {
    /// Every server of the table takes users whose password we do not have: by a master user, or by our word.
    pub fn log_in_without_passwords(&self, protocol: Protocol) -> bool {
        let takes_our_word = |server: &Server| server.road(protocol).is_some_and(|road| road.noauth);
        let added = self.added.values().filter_map(|(_, server)| server.as_ref().ok());
        let mut all = self.by_id.values().chain(added).peekable();
        all.peek().is_some() && all.all(|server| server.master.is_some() || takes_our_word(server))
    }

    /// Loads the authorities of each. They are to be probed for what is `served`.
    pub fn new(
        config: &BTreeMap<BackendId, BackendConfig>,
        served: impl IntoIterator<Item = Protocol>,
    ) -> Result<Self, ServersFault> {
        let served: BTreeSet<_> = served.into_iter().filter(|protocol| *protocol != Protocol::Doveadm).collect();
        let served: Arc<[Protocol]> = served.into_iter().collect();
        let by_id = config
            .iter()
            .map(|(id, config)| Ok((id.clone(), Arc::new(Server::new(id, config, &served)?))))
            .collect::<Result<_, ServersFault>>()?;
        let rows = config.iter().map(|(id, config)| (id.clone(), row(config))).collect();
        Ok(Self { served, by_id, rows, lines: Arc::default(), added: BTreeMap::new(), strangers: Arc::default() })
    }

    /// These, with those that operators have added by the fleet's table. Reads authorities.
    pub fn with_added(&self, table: &BTreeMap<BackendId, Row>) -> Self {
        // Of a row that cannot be read, what was known before: its sessions go on.
        let line =
            |name, row: &Row| if row.unread.is_some() { self.lines.get(name).cloned() } else { row.added.clone() };
        let lines = table.iter().filter_map(|(name, row)| Some((name.clone(), line(name, row)?)));
        self.with_lines(Arc::new(lines.collect()))
    }

    /// These instead of `old`, with those that operators have added to `old`.
    pub fn instead_of(&self, old: &Self) -> Self {
        self.with_lines(old.lines.clone())
    }

    fn with_lines(&self, lines: Arc<BTreeMap<BackendId, String>>) -> Self {
        let server = |(name, line): (&BackendId, &String)| {
            let known = self.added.get(name).filter(|(before, made)| before == line && made.is_ok());
            let made = known.map_or_else(|| added_server(name, line, &self.served), |(_, made)| made.clone());
            (name.clone(), (line.clone(), made))
        };
        let added = lines.iter().filter(|(name, _)| !self.by_id.contains_key(*name)).map(server).collect();
        Self { lines, added, ..self.clone() }
    }

    /// Those that were added and cannot be used here, with the reason.
    pub fn useless(&self) -> impl Iterator<Item = (&BackendId, &str)> {
        self.added.iter().filter_map(|(name, (_, made))| Some((name, made.as_ref().err()?.as_str())))
    }

    /// By name.
    pub fn get(&self, id: &BackendId) -> Option<&Arc<Server>> {
        self.by_id.get(id).or_else(|| self.added.get(id)?.1.as_ref().ok())
    }

    /// All of them, by name within each kind.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.by_id.values().chain(self.added.values().filter_map(|(_, made)| made.as_ref().ok()))
    }

    /// The server that a passdb's `host` means: by name, or by address, with the passdb's `port` or without.
    pub fn named(&self, host: &str, protocol: Protocol, port: Option<u16>) -> Option<&Arc<Server>> {
        let host = bare(host);
        let address: Option<IpAddr> = host.parse().ok();
        self.all().find(|server| {
            let port_fits = port.is_none_or(|port| server.road(protocol).is_some_and(|road| road.port == port));
            server.id.as_str() == host || (port_fits && same_host(&server.host, host, address))
        })
    }

    /// A host that is not of the table, as a passdb describes it.
    pub fn stranger(
        &self,
        host: &str,
        protocol: Protocol,
        port: Option<u16>,
        tls: Option<StrangerTls>,
        timeout: Option<Duration>,
    ) -> Result<Server, TlsFault> {
        let host = bare(host);
        let tls = tls.map(|tls| self.strangers.tls(host, tls)).transpose()?;
        let kind = match &tls {
            None => BackendTls::None,
            Some(tls) if tls.starttls => BackendTls::StartTls,
            Some(_) => BackendTls::Implicit,
        };
        let road = Road { port: port.unwrap_or(kind.port(protocol)), tls, noauth: false };
        let limit = timeout.unwrap_or(STRANGER_TIMEOUT);
        Ok(Server {
            id: BackendId::new(host),
            host: host.to_owned(),
            roads: vec![(protocol, road)],
            probed: Arc::default(),
            announce: Announce { id: true, xclient: true, proxy: false },
            master: None,
            pipelining: true,
            connect_timeout: limit,
            login_timeout: limit,
            retry_budget: Duration::ZERO,
            probe: false,
            doveadm: None,
        })
    }

    /// What the configuration wants the store's table to say of its backends.
    pub fn rows(&self) -> &BTreeMap<BackendId, Row> {
        &self.rows
    }
}

/// How a passdb protects the connection to a host of its own.
#[derive(Clone, Copy, Debug)]
pub struct StrangerTls {
    /// By STARTTLS rather than from the first byte.
    pub starttls: bool,
    /// The certificate must be valid for the host.
    pub verify: bool,
}

impl Strangers {
    fn tls(&self, host: &str, StrangerTls { starttls, verify }: StrangerTls) -> Result<Tls, TlsFault> {
        let made = if verify { &self.verified } else { &self.unverified };
        let client = match made.get() {
            Some(client) => client.clone(),
            None => {
                let new = Arc::new(ClientTls::new(None, verify)?);
                made.get_or_init(|| new).clone()
            }
        };
        Ok(Tls { client, starttls, name: host.to_owned() })
    }
}

impl Server {
    fn new(id: &BackendId, config: &BackendConfig, probed: &Arc<[Protocol]>) -> Result<Self, ServersFault> {
        let roads = roads(config).map_err(|fault| ServersFault { backend: id.clone(), fault })?;
        Ok(Self {
            id: id.clone(),
            host: config.host.clone(),
            roads,
            probed: probed.clone(),
            announce: config.announce,
            master: config.master.clone(),
            pipelining: config.pipelining,
            connect_timeout: config.connect_timeout,
            login_timeout: config.login_timeout,
            retry_budget: config.retry_budget,
            probe: config.probe,
            doveadm: config.doveadm.clone(),
        })
    }

    /// The way to it by `protocol`; `None` for doveadm, and at a host of the passdb's for another protocol than the user's.
    pub fn road(&self, protocol: Protocol) -> Option<&Road> {
        self.roads.iter().find(|(of, _)| *of == protocol).map(|(_, road)| road)
    }

    /// Where most of its users come: the port to show for it.
    pub fn shown_port(&self) -> u16 {
        let shown = self.probed.first().and_then(|protocol| self.road(*protocol));
        shown.or(self.roads.first().map(|(_, road)| road)).map_or(0, |road| road.port)
    }

    /// The master user, if there is one: its name and a copy of its password.
    pub fn master(&self) -> Option<(String, Secret)> {
        self.master.as_ref().map(|master| (master.user.clone(), master.password.duplicate()))
    }
}

fn roads(config: &BackendConfig) -> Result<Vec<(Protocol, Road)>, TlsFault> {
    let reaches: Vec<_> =
        Protocol::ALL.into_iter().filter_map(|protocol| Some((protocol, config.reach(protocol)?))).collect();
    let protected = reaches.iter().any(|(_, reach)| reach.tls != BackendTls::None);
    let client =
        protected.then(|| ClientTls::new(config.tls_ca.as_deref(), config.tls_verify)).transpose()?.map(Arc::new);
    let name = config.tls_name.as_ref().unwrap_or(&config.host);
    let road = |protocol: Protocol, Reach { port, tls }: Reach| {
        let client = client.clone().filter(|_| tls != BackendTls::None);
        let tls = client.map(|client| Tls { client, starttls: tls == BackendTls::StartTls, name: name.clone() });
        let noauth = protocol == Protocol::Submission && config.submission_noauth;
        Road { port, tls, noauth }
    };
    Ok(reaches.into_iter().map(|(protocol, reach)| (protocol, road(protocol, reach))).collect())
}

fn row(config: &BackendConfig) -> Row {
    let state = if config.drain { BackendState::Drain } else { BackendState::Up };
    let pool = config.pool.clone();
    Row { weight: config.weight, pool, state, max_sessions: config.max_sessions, ..Row::default() }
}

/// What the table says of a backend that an operator adds with these settings, one line as
/// [`Config::added_line`] makes it.
///
/// # Errors
/// What is wrong with them, for the operator.
pub fn added_row(name: &BackendId, line: &str) -> Result<Row, String> {
    let config = Config::read_added(name.as_str(), line)?;
    Server::new(name, &config, &Arc::default()).map_err(|fault| fault.to_string())?;
    Ok(Row { added: Some(line.to_owned()), ..row(&config) })
}

fn added_server(name: &BackendId, line: &str, served: &Arc<[Protocol]>) -> Result<Arc<Server>, String> {
    let config = Config::read_added(name.as_str(), line)?;
    Server::new(name, &config, served).map(Arc::new).map_err(|fault| fault.to_string())
}

/// Without the brackets that an IPv6 address may come in.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn same_host(ours: &str, theirs: &str, address: Option<IpAddr>) -> bool {
    match (address, ours.parse::<IpAddr>()) {
        (Some(theirs), Ok(ours)) => ours.to_canonical() == theirs.to_canonical(),
        _ => ours.eq_ignore_ascii_case(theirs),
    }
}
