//! A proxy between TLS and TLS: clients come under it, and so it goes to the mail server.

use super::certs::Authority;
use super::dovecot::DovecotOptions;
use super::fleet::{backend_entry, merge};
use super::{Dovecot, Fleet, Protocol, Result, Sink, Witness};

/// One proxy with two listeners of one protocol, the first with STARTTLS, the second with TLS from the first byte.
pub struct Secured {
    /// The proxy, and what belongs to it.
    pub fleet: Fleet,
    /// Its mail server.
    pub backend: Dovecot,
    /// Where that relays what it is given for submission.
    pub sink: Sink,
    /// Whose certificates both of them have, for "mail.test".
    pub authority: Authority,
}

impl Secured {
    /// `road`: "starttls" or "implicit", to the mail server.
    pub async fn start(protocol: Protocol, road: &str) -> Result<Self> {
        let word = protocol.word();
        let listener = |tls: &str| format!("protocol = {word:?}\ntls = {tls:?}");
        let plan = Fleet::plan().backends(0).listener(&listener("starttls")).listener(&listener("implicit"));
        let mut fleet = plan.start_without_proxies().await?;
        let authority = Authority::new(fleet.dir.path(), "ca")?;
        let issued = authority.issue(&["mail.test"])?;
        let sink = Sink::start().await?;
        let (tls, relay) = (Some(&issued), Some(sink.address));
        let options = DovecotOptions { tls, protocols: &[protocol], relay, ..DovecotOptions::default() };
        let backend = Dovecot::start(fleet.dir.path(), "mail1", &fleet.store, options).await?;
        let port = backend.serves.ports(protocol).map_or(0, |ports| match road {
            "implicit" => ports.tls.port(),
            _ => ports.plain.port(),
        });
        let more = format!(
            "{}{word}_port = {port}\n{word}_tls = {road:?}\ntls_ca = {:?}\ntls_name = \"mail.test\"\n\
             [[tls.certificate]]\ncertificate = {:?}\nkey = {:?}\n",
            backend_entry(&backend),
            authority.file,
            issued.certificate,
            issued.key
        );
        let more: toml::Table = more.parse()?;
        fleet.reconfigure(|config| merge(config, more.clone()))?;
        fleet.proxies[0].start().await?;
        Ok(Self { fleet, backend, sink, authority })
    }

    /// What the mail server saw so far.
    pub fn witness(&self) -> Result<Witness> {
        Witness::hear([&self.backend])
    }
}
