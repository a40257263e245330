//! `homing serve`: run one proxy, from a file or, to try it out, from a few backends named on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, anyhow};

use super::config::File;
use super::{Failure, runtime, socket};
use crate::app;
use crate::config::Config;
use crate::model::BackendId;
use crate::telemetry;

/// Run a proxy.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: File,

    /// Serve this mail server without a file, with the embedded store; the backends check passwords. May be repeated
    #[arg(short, long = "backend", value_name = "NAME=HOST:PORT", conflicts_with = "config")]
    backends: Vec<Backend>,

    /// With --backend: listen here, without TLS. May be repeated [default: 127.0.0.1:1143]
    #[arg(short, long, value_name = "ADDRESS:PORT", requires = "backends")]
    listen: Vec<SocketAddr>,

    /// With --backend: admin socket [default: /run/homing/admin.sock, or $XDG_RUNTIME_DIR/homing/admin.sock for ordinary
    /// users]
    #[arg(short, long, value_name = "PATH", requires = "backends")]
    socket: Option<PathBuf>,
}

/// `NAME=HOST:PORT`.
#[derive(Clone, Debug, PartialEq)]
struct Backend {
    name: String,
    host: String,
    port: u16,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (config, file) = self.resolve()?;
        let log = telemetry::start(&config.log).context("the log cannot be started")?;
        Ok(runtime()?.block_on(app::serve(config, file, log))?)
    }

    /// The settings, and the file that a reload reads again.
    fn resolve(self) -> Result<(Config, Option<PathBuf>), Failure> {
        if self.backends.is_empty() {
            let path = self.file.path();
            return Ok((Config::load(&path)?, Some(path)));
        }
        if let Some(name) = repeated(&self.backends) {
            return Err(Failure::Usage(anyhow!(
                "backend \"{name}\" was given twice; every backend needs its own name"
            )));
        }
        let backends: Vec<_> = self.backends.into_iter().map(|b| (BackendId::new(b.name), b.host, b.port)).collect();
        let mut config = Config::from_backends(&backends, self.listen);
        config.admin.socket = self.socket.unwrap_or_else(socket::to_open);
        Ok((config, None))
    }
}

/// A name that two backends have.
fn repeated(backends: &[Backend]) -> Option<&str> {
    let earlier = |at: usize| backends[..at].iter().any(|backend| backend.name == backends[at].name);
    (0..backends.len()).find(|at| earlier(*at)).map(|at| backends[at].name.as_str())
}

impl FromStr for Backend {
    type Err = String;

    /// The host may be a name, an IPv4 address, or an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "write it like mail1=192.0.2.1:143 or mail1=[2001:db8::1]:143".to_owned();
        let (name, place) = text.split_once('=').ok_or_else(form)?;
        let (host, port) = place.rsplit_once(':').ok_or_else(form)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().map_err(|_| form())?.to_string(),
            None if host.contains(':') => return Err(form()), // which colon would end the address?
            None => host.to_owned(),
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        if !Config::is_name(name) || !Config::is_host(&host) {
            return Err(form());
        }
        Ok(Self { name: name.to_owned(), host, port })
    }
}
