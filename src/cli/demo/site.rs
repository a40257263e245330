//! The demo's site: backends, shared store, certificate, two proxies.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::backends::Backends;
use super::proxy::{Front, Proxy};
use super::scratch::Scratch;
use super::shared::Shared;
use super::{PASSWORD, PEOPLE, tour};
use crate::config::Config;
use crate::model::Incarnation;

/// The proxies' certificate and its key, in the scratch directory.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
/// Shorter than in production, so that the tour can show a lease running out.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// As in production.
pub(super) const RECOVERY: Duration = Duration::from_secs(4);

/// The proxies' names and where they listen unless that is taken: IMAP, IMAPS.
const PROXIES: [(&str, u16, u16); 2] = [("one", 1143, 1993), ("two", 2143, 2993)];

/// Which ports the proxies take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// Those of [`PROXIES`], or free ones if any is taken.
    WellKnown,
    /// Free ones.
    Any,
}

/// Everything that runs.
pub(super) struct Site {
    proxies: [Proxy; 2],
    shared: Shared,
    backends: Backends,
    certificate: PathBuf,
    tls: TlsConnector,
    _scratch: Scratch, // last: whoever uses it is dropped before
}

impl Site {
    /// Starts everything. Returns when both proxies take logins.
    pub(super) async fn build(redis: Option<&str>, dovecot: bool, ports: Ports) -> anyhow::Result<Self> {
        let scratch = Scratch::make().context("cannot make a temporary directory")?;
        let users: Vec<String> = PEOPLE.into_iter().map(str::to_owned).chain(tour::users()).collect();
        let backends = match dovecot {
            true => Backends::dovecot(&users, PASSWORD, &scratch).await?,
            false => Backends::small(&users, PASSWORD).await?,
        };
        let tls = write_certificate(scratch.path()).context("cannot make a certificate")?;
        let store = store_section(redis);
        let configs = PROXIES.map(|(name, ..)| settings(name, &store, &backends, scratch.path()));
        let [one, two] = configs;
        let (one, two) = (ports.settle(one?, PROXIES[0]), ports.settle(two?, PROXIES[1]));
        let shared = Shared::open(&one, redis)?;
        let (first, second) = (Proxy::start(one, shared.for_proxy()), Proxy::start(two, shared.for_proxy()));
        let (one, two) = tokio::try_join!(first, second).context("a proxy does not start")?;
        let certificate = scratch.path().join(CERTIFICATE);
        Ok(Self { proxies: [one, two], shared, backends, certificate, tls, _scratch: scratch })
    }

    /// Where proxies one and two can be reached, or could be while they lived.
    pub(super) fn fronts(&self) -> [&Front; 2] {
        let [one, two] = &self.proxies;
        [one.front(), two.front()]
    }

    /// The mail servers.
    pub(super) fn backends(&self) -> &Backends {
        &self.backends
    }

    /// The store that the proxies share.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The proxies' certificate, for clients to trust.
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// TLS for clients that trust it.
    pub(super) fn tls(&self) -> &TlsConnector {
        &self.tls
    }

    /// Ends the first proxy as `kill -9` would: its sockets are reset, and it tells nobody.
    pub(super) fn kill_first(&mut self) {
        self.proxies[0].kill();
    }

    /// Ends everything in good order, and leaves nothing in the store.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        let [one, two] = self.proxies;
        tokio::try_join!(one.stop(), two.stop())?;
        self.shared.forget().await
    }
}

impl Ports {
    /// Puts the ports of a proxy into its listeners.
    fn settle(self, mut config: Config, (_, imap, imaps): (&str, u16, u16)) -> Config {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let free = |port| std::net::TcpListener::bind(at(port)).is_ok();
        let known = self == Self::WellKnown && free(imap) && free(imaps);
        for (listener, port) in config.listeners.iter_mut().zip([imap, imaps]) {
            listener.address = at(if known { port } else { 0 }).into();
        }
        config
    }
}

/// The `[store]` section. In Redis the demo has a namespace of its own, so that it disturbs nobody there.
fn store_section(redis: Option<&str>) -> String {
    match redis {
        Some(url) => {
            let url = toml::Value::from(url);
            format!("kind = \"redis\"\nurl = {url}\nnamespace = \"homing-demo-{}\"\n", Incarnation::random())
        }
        None => "kind = \"memory\"\n".to_owned(),
    }
}

/// A proxy's settings, as an operator would write them.
fn settings(name: &str, store: &str, backends: &Backends, scratch: &Path) -> anyhow::Result<Config> {
    let path = |file: &str| toml::Value::from(scratch.join(file).display().to_string());
    let backends: String = backends
        .list()
        .into_iter()
        .map(|(name, at)| format!("[backend.{name}]\nhost = \"{}\"\nport = {}\n", at.ip(), at.port()))
        .collect();
    let text = format!(
        "name = \"{name}\"\n\
         [store]\n{store}\
         [fleet]\nlease = \"{}s\"\nrecovery = \"{}s\"\n\
         [limits]\nshutdown_grace = \"1s\"\n\
         [[listener]]\naddress = \"127.0.0.1:1143\"\ntls = \"starttls\"\nplaintext_login = true\n\
         [[listener]]\naddress = \"127.0.0.1:1993\"\ntls = \"implicit\"\n\
         [[tls.certificate]]\ncertificate = {}\nkey = {}\n\
         [[passdb]]\nkind = \"backend\"\n\
         [admin]\nsocket = {}\n\
         {backends}",
        LEASE.as_secs(),
        RECOVERY.as_secs(),
        path(CERTIFICATE),
        path(KEY),
        path(&format!("{name}.sock")),
    );
    Config::parse(&text, "demo.toml").map_err(|faults| anyhow!(faults.report(false)))
}

/// Makes a certificate for this machine, writes it and its key, and returns TLS for clients that trust it.
fn write_certificate(scratch: &Path) -> anyhow::Result<TlsConnector> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    fs::write(scratch.join(CERTIFICATE), made.cert.pem())?;
    let mut key = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(scratch.join(KEY))?;
    key.write_all(made.signing_key.serialize_pem().as_bytes())?;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
