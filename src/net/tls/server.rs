//! TLS towards clients: certificates by SNI, replaced while sessions live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, version};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::certificates::{Certificates, read_authorities};
use super::{TlsFacts, TlsFault, binding, provider};
use crate::config::{ClientAuth, ClientName, TlsConfig, TlsVersion};
use crate::net::Stream;

/// Encrypted bytes that one connection may hold back while its client does not read, in bytes: two full records, so that
/// one is sent while the next is made.
const SEND_BUFFER: usize = 32 * 1024;
/// Tickets sent after a TLS 1.3 handshake. A client that opens more connections gets one with each of them.
const TICKETS: usize = 1;

/// What clients meet when they start TLS. Sessions are resumed by tickets alone: nothing is stored here per client.
pub struct ServerTls {
    current: ArcSwap<Setup>,
}

/// What one reading of the configuration came to.
struct Setup {
    base: Arc<ServerConfig>,
    /// `base` with the ALPN list of a listener that has one; made when first needed.
    with_alpn: Mutex<HashMap<Vec<String>, Arc<ServerConfig>>>,
    client_rule: ClientRule,
    client_name: ClientName,
    certificates: Arc<Certificates>,
}

/// Which clients are let in. A ticket is opened without asking again, so a changed rule voids the tickets.
#[derive(PartialEq)]
struct ClientRule {
    auth: ClientAuth,
    authorities: Vec<rustls::pki_types::TrustAnchor<'static>>,
}

impl ServerTls {
    /// Reads the files that `config` names. Blocks for as long as that takes.
    pub fn new(config: &TlsConfig) -> Result<Self, TlsFault> {
        Ok(Self { current: ArcSwap::from_pointee(Setup::load(config, None)?) })
    }

    /// Reads the files anew. On success the next handshake uses them, while sessions and handshakes that have begun go
    /// on as they are, and tickets handed out before stay good unless the rule for client certificates changed. On
    /// failure all stays as it was. Blocks like [`ServerTls::new`].
    pub fn reload(&self, config: &TlsConfig) -> Result<(), TlsFault> {
        let setup = Setup::load(config, Some(&self.current.load()))?;
        self.current.store(Arc::new(setup));
        Ok(())
    }

    /// Does the handshake with a client. `alpn` are the listener's protocols: a client that names others only is refused,
    /// one that names none is not. The caller sets the deadline; dropping the future closes the connection.
    pub async fn accept(&self, tcp: TcpStream, alpn: &[String]) -> Result<(Stream, TlsFacts), TlsFault> {
        let setup = self.current.load_full();
        let config = setup.for_listener(alpn);
        let handshake = TlsAcceptor::from(config).accept_with(tcp, |tls| tls.set_buffer_limit(Some(SEND_BUFFER)));
        let tls = handshake.await.map_err(TlsFault::of_handshake)?;
        let connection = tls.get_ref().1;
        let client = connection.peer_certificates().and_then(|chain| chain.first());
        let facts = TlsFacts {
            client_name: client.and_then(|der| binding::client_name(der, setup.client_name)),
            exporter: binding::exporter(connection),
            end_point: setup.shown(connection).and_then(binding::end_point),
            ..TlsFacts::of(connection, connection.server_name())
        };
        Ok((Stream::Tls(Box::new(tls.into())), facts))
    }
}

impl Setup {
    fn load(config: &TlsConfig, old: Option<&Self>) -> Result<Self, TlsFault> {
        let provider = provider();
        let certificates = Arc::new(Certificates::load(&config.certificates, &provider)?);
        let authorities = authorities(config)?;
        let client_rule = ClientRule { auth: config.client_auth, authorities: authorities.roots.clone() };
        let tickets = match old {
            Some(old) if old.client_rule == client_rule => Arc::clone(&old.base.ticketer),
            _ => new_ticketer()?,
        };
        let mut base = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(config.min_version))
            .map_err(|error| TlsFault::Settings(error.to_string()))?
            .with_client_cert_verifier(verifier(config.client_auth, authorities)?)
            .with_cert_resolver(certificates.clone());
        base.ticketer = tickets;
        base.session_storage = Arc::new(NoServerSessionStorage {});
        base.send_tls13_tickets = TICKETS;
        Ok(Self {
            base: Arc::new(base),
            with_alpn: Mutex::default(),
            client_rule,
            client_name: config.client_name,
            certificates,
        })
    }

    /// The certificate that the client has seen, if that is known. Not of a session that is resumed: the client means the
    /// one that it saw then, which may have been replaced since.
    fn shown(&self, connection: &ServerConnection) -> Option<&[u8]> {
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        self.certificates.only(connection.server_name()).filter(|_| !is_resumed)
    }

    fn for_listener(&self, alpn: &[String]) -> Arc<ServerConfig> {
        if alpn.is_empty() {
            return Arc::clone(&self.base);
        }
        let mut made = self.with_alpn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(alpn) {
            return Arc::clone(config);
        }
        let mut config = ServerConfig::clone(&self.base);
        config.alpn_protocols = alpn.iter().map(|name| name.clone().into_bytes()).collect();
        let config = Arc::new(config);
        made.insert(alpn.to_vec(), Arc::clone(&config));
        config
    }
}

/// Keys of this process alone: a ticket is good only at the proxy that gave it.
fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, TlsFault> {
    Ticketer::new().map_err(|error| TlsFault::Settings(format!("cannot make keys for session tickets: {error}")))
}

fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match oldest {
        TlsVersion::V12 => &ALL,
        TlsVersion::V13 => &ALL[..1],
    }
}

fn authorities(config: &TlsConfig) -> Result<RootCertStore, TlsFault> {
    match (config.client_auth, &config.client_ca) {
        (ClientAuth::Off, _) => Ok(RootCertStore::empty()),
        (_, Some(path)) => read_authorities(path),
        (_, None) => Err(TlsFault::Settings(
            "client_auth needs client_ca; name the authorities of the clients' certificates".into(),
        )),
    }
}

fn verifier(auth: ClientAuth, authorities: RootCertStore) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
    if auth == ClientAuth::Off {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider());
    if auth == ClientAuth::Request {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| TlsFault::Settings(format!("client_ca: {error}")))
}
