//! The network between the parts of a fleet, cable by cable.
//!
//! In namespaces ([`super::apart`]) the test, its clients and all servers are in the hub, which has a bridge for each
//! [`Net`]: one to the proxies' doors, one to the store, one to each mail server. Each proxy lives in a namespace of its
//! own, its room, which outlives the process as a machine does: the kernel closes a dead proxy's connections. From each
//! room a cable (a pair of veth) leads to each net. A cable is cut by taking its end in the hub down. What is sent from
//! then on vanishes without a word, and what TCP has not been acknowledged is sent again once the cable is back.
//!
//! Without namespaces a [`Wire`] is each cable: it stops, and loses nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::address::{free_port, fresh_ip};
use super::process::Daemon;
use super::wire::{Mode, Wire};
use super::{Result, eventually};

/// Where proxies listen: nobody else has their namespace.
const PORT: u16 = 1143;

/// What a cable leads to. Mail servers count from 1, as in their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Net {
    /// The clients.
    Doors,
    /// The shared state.
    Store,
    /// A mail server.
    Mail(usize),
}

/// Which cable: from the proxy of that number, counted from 1, to that net.
pub type Cable = (usize, Net);

/// A network. Proxies count from 1, as in their names.
pub struct Lan {
    way: Way,
}

enum Way {
    Namespaces { rooms: BTreeMap<usize, Daemon>, nets: Vec<Net> },
    Wires(BTreeMap<Cable, Wire>),
}

impl Net {
    fn number(self) -> usize {
        match self {
            Self::Doors => 1,
            Self::Store => 2,
            Self::Mail(number) => 10 + number,
        }
    }

    /// Name of the bridge in the hub, and of a cable's end in the room.
    fn name(self) -> String {
        match self {
            Self::Doors => "doors".to_owned(),
            Self::Store => "store".to_owned(),
            Self::Mail(number) => format!("mail{number}"),
        }
    }

    fn address(self, host: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number() as u8, host as u8)
    }

    fn of_hub(self) -> Ipv4Addr {
        self.address(1)
    }

    fn of_proxy(self, proxy: usize) -> Ipv4Addr {
        self.address(100 + proxy)
    }

    /// Name of the end in the hub of a cable to it.
    fn end(self, proxy: usize) -> String {
        format!("p{proxy}-{}", self.name())
    }
}

impl Lan {
    /// Made of namespaces. This process must be in one of its own, and have every right there.
    pub fn of_namespaces() -> Result<Self> {
        ip(&[], "link set lo up\n")?;
        Ok(Self { way: Way::Namespaces { rooms: BTreeMap::new(), nets: Vec::new() } })
    }

    /// Made of forwarders.
    pub fn of_wires() -> Self {
        Self { way: Way::Wires(BTreeMap::new()) }
    }

    /// Whether it is made of namespaces.
    pub fn is_real(&self) -> bool {
        matches!(self.way, Way::Namespaces { .. })
    }

    /// Where a server in that net listens.
    pub fn server_ip(&mut self, net: Net) -> Result<IpAddr> {
        match &mut self.way {
            Way::Namespaces { nets, .. } => {
                lay(nets, net)?;
                Ok(net.of_hub().into())
            }
            Way::Wires(_) => Ok(fresh_ip()),
        }
    }

    /// Makes room for a proxy. `dir` is for files of its own.
    pub async fn house(&mut self, proxy: usize, dir: &Path) -> Result {
        let Way::Namespaces { rooms, .. } = &mut self.way else { return Ok(()) };
        let room = Daemon::start("unshare", ["-n", "--", "sleep", "infinity"], &dir.join(format!("room{proxy}.log")))?;
        let (own, its) = ("/proc/self/ns/net".to_owned(), format!("/proc/{}/ns/net", room.id()));
        eventually("the room is apart", Duration::from_secs(60), async || {
            ensure!(std::fs::read_link(&its)? != std::fs::read_link(&own)?, "still here");
            Ok(())
        })
        .await?;
        rooms.insert(proxy, room);
        ip(&self.runner(proxy), "link set lo up\n")
    }

    /// What to run a program with, so that it runs in a proxy's room.
    pub fn runner(&self, proxy: usize) -> Vec<String> {
        match &self.way {
            Way::Namespaces { rooms, .. } => match rooms.get(&proxy) {
                Some(room) => vec!["nsenter".into(), format!("--net=/proc/{}/ns/net", room.id()), "--".into()],
                None => Vec::new(),
            },
            Way::Wires(_) => Vec::new(),
        }
    }

    /// Lays the cable from a proxy to a server; gives where the proxy reaches it.
    pub async fn cable(&mut self, proxy: usize, net: Net, server: SocketAddr) -> Result<SocketAddr> {
        match &mut self.way {
            Way::Namespaces { .. } => {
                self.plug(proxy, net)?;
                Ok(server)
            }
            Way::Wires(wires) => {
                let wire = Wire::to(server).await?;
                let address = wire.address;
                wires.insert((proxy, net), wire);
                Ok(address)
            }
        }
    }

    /// Lays the cable to a proxy's door; gives where it listens, and where clients connect.
    pub async fn door(&mut self, proxy: usize) -> Result<(SocketAddr, SocketAddr)> {
        match &mut self.way {
            Way::Namespaces { nets, .. } => {
                lay(nets, Net::Doors)?;
                self.plug(proxy, Net::Doors)?;
                let address = SocketAddr::from((Net::Doors.of_proxy(proxy), PORT));
                Ok((address, address))
            }
            Way::Wires(_) => {
                let listen = free_port(fresh_ip())?;
                Ok((listen, self.cable(proxy, Net::Doors, listen).await?))
            }
        }
    }

    /// Cuts a cable. Nothing passes, nobody is told.
    pub fn cut(&self, (proxy, net): Cable) -> Result {
        match &self.way {
            Way::Namespaces { .. } => ip(&[], &format!("link set {} down\n", net.end(proxy))),
            Way::Wires(wires) => {
                wires.get(&(proxy, net)).with_context(|| format!("no cable to {net:?}"))?.set(Mode::Still);
                Ok(())
            }
        }
    }

    /// Mends a cable, cut or not.
    pub fn mend(&self, cable: Cable) -> Result {
        self.mender(cable)?()
    }

    /// What mends a cable, whoever has it.
    pub fn mender(&self, (proxy, net): Cable) -> Result<Box<dyn FnOnce() -> Result + Send>> {
        match &self.way {
            Way::Namespaces { .. } => {
                let command = format!("link set {} up\n", net.end(proxy));
                Ok(Box::new(move || ip(&[], &command)))
            }
            Way::Wires(wires) => {
                let mode = wires.get(&(proxy, net)).with_context(|| format!("no cable to {net:?}"))?.mode();
                Ok(Box::new(move || {
                    mode.send_replace(Mode::Open);
                    Ok(())
                }))
            }
        }
    }

    fn plug(&self, proxy: usize, net: Net) -> Result {
        let Way::Namespaces { rooms, .. } = &self.way else { return Ok(()) };
        let room = rooms.get(&proxy).with_context(|| format!("proxy {proxy} has no room"))?.id();
        let (bridge, end, address) = (net.name(), net.end(proxy), net.of_proxy(proxy));
        let mut hub = String::new();
        writeln!(hub, "link add name {end} type veth peer name {bridge} netns {room}")?;
        writeln!(hub, "link set {end} master {bridge}\nlink set {end} up")?;
        ip(&[], &hub)?;
        ip(&self.runner(proxy), &format!("addr add {address}/24 dev {bridge}\nlink set {bridge} up\n"))
    }
}

/// Sets up the bridge of a net, unless it stands.
fn lay(nets: &mut Vec<Net>, net: Net) -> Result {
    if !nets.contains(&net) {
        let (bridge, address) = (net.name(), net.of_hub());
        ip(
            &[],
            &format!("link add name {bridge} type bridge\naddr add {address}/24 dev {bridge}\nlink set {bridge} up\n"),
        )?;
        nets.push(net);
    }
    Ok(())
}

/// Runs commands of `ip`, one a line, by way of `runner`.
fn ip(runner: &[String], commands: &str) -> Result {
    let words: Vec<&str> = runner.iter().map(String::as_str).chain(["ip", "-batch", "-"]).collect();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip (iproute2)")?;
    child.stdin.take().context("piped above")?.write_all(commands.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
