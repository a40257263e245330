//! One proxy before one Dovecot, all protocols under TLS, with a passdb of the proxy's own.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::certs::{Authority, Issued};
use crate::harness::dovecot::DovecotOptions;
use crate::harness::fleet::{backend_entry, merge};
use crate::harness::{Dovecot, Fleet, Protocol, Result, Sink, Visit, Witness, tools};

const CLIENT: &str = include_str!("client.py");

/// The protocols that have logins.
pub const PROTOCOLS: [Protocol; 4] = [Protocol::Imap, Protocol::Pop3, Protocol::Sieve, Protocol::Submission];

pub struct Site {
    pub fleet: Fleet,
    pub backend: Dovecot,
    pub authority: Authority,
    _sink: Sink,
}

/// What a login came to.
pub struct Login(pub Value);

impl Site {
    /// Of `config` for the proxy, keys for its `[backend.mail1]`, and settings of the mail server.
    pub async fn with(make: impl FnOnce(&Fleet, &Authority) -> Result<[String; 3]>) -> Result<Self> {
        let mut plan = Fleet::plan().backends(0).users(3);
        for protocol in PROTOCOLS {
            for tls in ["starttls", "implicit"] {
                plan = plan.listener(&format!("protocol = {:?}\ntls = {tls:?}", protocol.word()));
            }
        }
        let mut fleet = plan.start_without_proxies().await?;
        let authority = Authority::new(fleet.dir.path(), "ca")?;
        let [config, keys, dovecot] = make(&fleet, &authority)?;
        let doors = fleet.proxies[0].addresses[0].ip().to_string();
        let front = authority.issue(&["mail.test", &doors])?;
        let issued = authority.issue(&["backend.test"])?;
        let sink = Sink::start().await?;
        let options = DovecotOptions {
            tls: Some(&issued),
            extra: &dovecot,
            protocols: &PROTOCOLS,
            relay: Some(sink.address),
            ..DovecotOptions::default()
        };
        let backend = Dovecot::start(fleet.dir.path(), "mail1", &fleet.store, options).await?;
        let Issued { certificate, key } = &front;
        let ports = |protocol| backend.serves.ports(protocol).map_or(0, |ports| ports.plain.port());
        let more = format!(
            "{config}\n{}pop3_port = {}\nsieve_port = {}\nsubmission_port = {}\ntls = \"starttls\"\ntls_ca = {:?}\n\
             tls_name = \"backend.test\"\n{keys}\n[[tls.certificate]]\ncertificate = {certificate:?}\nkey = {key:?}\n",
            backend_entry(&backend),
            ports(Protocol::Pop3),
            ports(Protocol::Sieve),
            ports(Protocol::Submission),
            authority.file,
        );
        let more: toml::Table = more.parse()?;
        fleet.reconfigure(|config| merge(config, more.clone()))?;
        fleet.proxies[0].start().await?;
        Ok(Self { fleet, backend, authority, _sink: sink })
    }

    pub fn address(&self, protocol: Protocol, tls: &str) -> Result<SocketAddr> {
        let number = PROTOCOLS.iter().position(|known| *known == protocol).context("no such listener")?;
        Ok(self.fleet.proxy().addresses[2 * number + usize::from(tls == "implicit")])
    }

    /// One login by the client in `client.py`.
    pub async fn log_in(&self, protocol: Protocol, tls: &str, mechanism: &str, more: Value) -> Result<Login> {
        log_in_at(self.address(protocol, tls)?, protocol, tls, mechanism, more).await
    }

    /// The last session that the mail server has had of somebody.
    pub fn last(&self, user: &str) -> Result<Visit> {
        Ok(Witness::hear([&self.backend])?.last(user)?.clone())
    }

    /// How many sessions it has had by now.
    pub fn visits(&self) -> Result<usize> {
        Ok(Witness::hear([&self.backend])?.visits.len())
    }
}

pub async fn log_in_at(
    address: SocketAddr,
    protocol: Protocol,
    tls: &str,
    mechanism: &str,
    more: Value,
) -> Result<Login> {
    let mut given = json!({
        "protocol": protocol.word(), "host": address.ip().to_string(), "port": address.port(), "tls": tls,
        "mechanism": mechanism,
    });
    let (given_map, more) = (given.as_object_mut().context("an object")?, more);
    given_map.extend(more.as_object().context("an object")?.clone());
    let said = tools::succeed(Command::new("python3").args(["-c", CLIENT, &given.to_string()]), b"").await?;
    Ok(Login(serde_json::from_str(&said)?))
}

impl Login {
    pub fn is_in(&self) -> Result {
        ensure!(self.0["status"] == "ok", "{}", self.0);
        Ok(())
    }

    /// Refused with this among the words.
    pub fn is_refused(&self, words: &str) -> Result {
        let text = self.0["text"].as_str().unwrap_or_default();
        ensure!(self.0["status"] == "no" && text.contains(words), "{}", self.0);
        Ok(())
    }

    /// What the server offered under TLS.
    pub fn offered(&self) -> Vec<&str> {
        self.0["mechanisms"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}
