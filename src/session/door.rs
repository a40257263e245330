//! The door of one listener: who comes in, by which address, inside which TLS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};

use super::ending::{End, Record};
use super::{Services, administration, delivery, guarding, login};
use crate::auth::penalty::Seat;
use crate::config::{ListenerConfig, ListenerTls};
use crate::model::{Ending, Mechanism, Phase, Protocol, SessionId};
use crate::net::{
    ProxyFault, ProxyHeader, ProxyTls, ServerTls, Stream, TlsFault, canonical, flush, receive_proxy_header,
};
use crate::protocol::sasl::{Bindings, Terms};
use crate::protocol::{Bounds, Farewell, Frontend, FrontendSettings, Output, spoken};

/// How long last words may take to send, and how long a client may take to close after them.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);
/// Who comes by a Unix socket is on this machine, and has no port.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The longest session name that is taken over from a load balancer.
const UNIQUE_ID_MAX: usize = 64;

/// One listener's way in.
pub struct Door {
    /// Its section of the configuration.
    pub listener: ListenerConfig,
    /// TLS towards clients; there if the listener has TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// What its sessions use.
    pub services: Arc<Services>,
}

/// A client at the door.
pub(super) struct Guest {
    /// The connection, TLS done where it comes first.
    pub(super) stream: Stream,
    /// Name in the logs, here and at the backend.
    pub(super) session: SessionId,
    /// The true client.
    pub(super) client: SocketAddr,
    /// The address that it connected to.
    pub(super) local: SocketAddr,
    /// The connection's own addresses, its peer's and ours, where a load balancer has told the client's.
    pub(super) via: Option<(SocketAddr, SocketAddr)>,
    /// The client's TLS: with us, or with the trusted load balancer in front of us.
    pub(super) tls: Option<ProxyTls>,
    /// The name that it asked for (SNI).
    pub(super) server_name: Option<String>,
    /// What its TLS with us shows.
    pub(super) identity: Identity,
    /// It has asked for UTF-8 before its login (POP3).
    pub(super) utf8: bool,
    /// Whom it says it speaks for (IMAP ID).
    pub(super) origin: Option<IpAddr>,
    /// Its place among the connections of its address, where those are limited.
    pub(super) place: Option<Seat>,
}

/// What TLS shows of who is at its ends. Empty where TLS ends in front of us.
#[derive(Clone, Default)]
pub(super) struct Identity {
    bindings: Bindings,
    /// The name in the client's certificate.
    certificate: Option<String>,
}

impl Guest {
    /// Nobody on the client's way can read along.
    pub(super) fn is_secured(&self) -> bool {
        self.tls.is_some()
    }
}

impl Door {
    /// Serves a client in a task of its own.
    pub fn enter(self: &Arc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let door = self.clone();
        self.services.tasks.spawn(async move {
            let counted = door.services.connections.admit(door.services.limits.load().connections);
            match counted {
                // Boxed: the story is long, and this task lives until the relay has its own.
                Some(counted) => match door.listener.protocol {
                    Protocol::Doveadm => Box::pin(administration::serve(&door, tcp, peer, counted)).await,
                    Protocol::Lmtp => Box::pin(delivery::serve(&door, tcp, peer, counted)).await,
                    _ => Box::pin(login::serve(&door, tcp, peer, counted)).await,
                },
                None => Box::pin(door.turn_away(tcp, peer)).await,
            }
        });
    }

    /// Serves a client of this machine, who came in by a Unix socket. There is only LMTP.
    pub fn enter_local(self: &Arc<Self>, local: UnixStream) {
        let door = self.clone();
        self.services.tasks.spawn(async move {
            let counted = door.services.connections.admit(door.services.limits.load().connections);
            let mut record = Record::new(door.listener.protocol, HERE, HERE);
            let guest = door.neighbour(local, &record);
            match counted {
                Some(counted) => Box::pin(delivery::converse(&door, guest, record, counted)).await,
                None => {
                    record.end((Ending::Overloaded, None));
                    door.say_no(guest.stream).await;
                }
            }
        });
    }

    /// A client of this machine.
    fn neighbour(&self, local: UnixStream, record: &Record) -> Guest {
        let (session, stream) = (record.session.clone(), Stream::Local(local));
        Guest {
            stream,
            session,
            client: HERE,
            local: HERE,
            via: None,
            tls: None,
            server_name: None,
            identity: Identity::default(),
            utf8: false,
            origin: None,
            place: None,
        }
    }

    /// Where it listens, as far as that is an address.
    pub(super) fn address(&self) -> SocketAddr {
        self.listener.address.tcp().unwrap_or(HERE)
    }

    /// Resolves when nobody who came in by then may log in any more, with the reason.
    pub(super) async fn over(&self, deadline: Instant) -> Ending {
        tokio::select! {
            biased;
            () = self.services.closing.cancelled() => Ending::Shutdown,
            () = sleep_until(deadline) => Ending::LoginTimeout,
        }
    }

    /// Finds out who it is: PROXY header, then TLS where it comes first.
    pub(super) async fn identify(
        &self,
        mut tcp: TcpStream,
        peer: SocketAddr,
        record: &mut Record,
    ) -> Result<Guest, End> {
        let local = tcp.local_addr().map_or(self.address(), canonical);
        record.reached(Phase::Header);
        record.local = local;
        let header = self.header(&mut tcp, peer).await?;
        record.client = header.source.map_or(canonical(peer), canonical);
        record.local = header.destination.map_or(local, canonical);
        if let Some(name) = header.unique_id.as_deref().and_then(printable) {
            record.session = SessionId::new(name);
        }
        record.tls = header.tls.as_ref().map(version);
        let is_of_mail_clients = !matches!(self.listener.protocol, Protocol::Lmtp | Protocol::Doveadm);
        let client = Some(record.client.ip()).filter(|_| is_of_mail_clients);
        let Ok(place) = guarding::come_in(&self.services, client).await else {
            if self.listener.tls != ListenerTls::Implicit {
                self.say_no(Stream::Plain(tcp)).await;
            }
            return Err((Ending::Overloaded, Some("limits.address_connections is reached".to_owned())));
        };
        let guest = Guest {
            stream: Stream::Plain(tcp),
            session: record.session.clone(),
            client: record.client,
            local: record.local,
            via: header.source.map(|_| (canonical(peer), local)),
            tls: header.tls,
            server_name: header.authority,
            identity: Identity::default(),
            utf8: false,
            origin: None,
            place,
        };
        if self.listener.tls == ListenerTls::Implicit { self.encrypt(guest, record).await } else { Ok(guest) }
    }

    async fn header(&self, tcp: &mut TcpStream, peer: SocketAddr) -> Result<ProxyHeader, End> {
        if !self.listener.proxy_protocol {
            return Ok(ProxyHeader::default());
        }
        let fault = |why| Err((Ending::HeaderFault, Some(why)));
        let peer = canonical(peer).ip();
        if !self.listener.trusted_networks.iter().any(|network| network.contains(&peer)) {
            return fault(format!("{peer} is not in trusted_networks"));
        }
        match timeout(self.listener.proxy_timeout, receive_proxy_header(tcp)).await {
            Ok(Ok(header)) => Ok(header),
            // A load balancer that only looks whether somebody listens.
            Ok(Err(ProxyFault::Closed)) => Err((Ending::ClientClosed, None)),
            Ok(Err(other)) => fault(other.to_string()),
            Err(_) => fault("no PROXY header came within proxy_timeout".to_owned()),
        }
    }

    /// The TLS handshake.
    pub(super) async fn encrypt(&self, guest: Guest, record: &mut Record) -> Result<Guest, End> {
        record.reached(Phase::Tls);
        let fault = |why: String| Err((Ending::TlsFailed, Some(why)));
        let (Stream::Plain(tcp), Some(tls)) = (guest.stream, &self.tls) else {
            // The machine never asks for TLS inside TLS, and the configuration demands a certificate.
            return fault("there is no certificate".to_owned());
        };
        let limit = self.services.limits.load().tls_timeout;
        match timeout(limit, tls.accept(tcp, &self.listener.alpn)).await {
            Ok(Ok((stream, facts))) => {
                let tls = ProxyTls::from(&facts);
                record.tls = Some(version(&tls));
                let server_name = facts.server_name.or(guest.server_name);
                let bindings = Bindings { exporter: facts.exporter, end_point: facts.end_point };
                let identity = Identity { bindings, certificate: facts.client_name };
                Ok(Guest { stream, tls: Some(tls), server_name, identity, ..guest })
            }
            // A check whether somebody listens, or a client that thought better of it.
            Ok(Err(TlsFault::Closed)) => Err((Ending::ClientClosed, None)),
            Ok(Err(other)) => fault(other.to_string()),
            Err(_) => fault("the handshake took longer than limits.tls_timeout".to_owned()),
        }
    }

    /// The machine that speaks to a guest of this door; `None` where nobody logs in.
    pub(super) fn frontend(&self, guest: &Guest) -> Option<Box<dyn Frontend>> {
        spoken::frontend(self.listener.protocol, self.settings(guest))
    }

    /// What whoever speaks to a guest of this door must know.
    pub(super) fn settings(&self, guest: &Guest) -> FrontendSettings {
        let limits = self.services.limits.load();
        FrontendSettings {
            secured: guest.is_secured(),
            starttls: self.listener.tls == ListenerTls::StartTls && !matches!(guest.stream, Stream::Tls(_)),
            plaintext_login: self.listener.plaintext_login,
            banner: "homing ready".to_owned(),
            host: self.services.host.clone(),
            offers: self.services.offered(self.listener.protocol),
            sasl: self.terms(guest),
            bounds: Bounds {
                line: limits.line,
                literal: limits.literal,
                commands: limits.commands,
                errors: limits.errors,
                failures: limits.failures,
            },
        }
    }

    /// What SASL has to go by: only what can work is offered.
    pub(super) fn terms(&self, guest: &Guest) -> Arc<Terms> {
        let Identity { bindings, certificate } = guest.identity.clone();
        let mut mechanisms = self.services.mechanisms(self.listener.protocol);
        mechanisms.retain(|mechanism| match mechanism {
            Mechanism::ScramSha1Plus | Mechanism::ScramSha256Plus => !bindings.is_empty(),
            Mechanism::External => certificate.is_some(),
            _ => true,
        });
        let (oauth_scope, openid_configuration) = self.services.passdb.load().oauth_hints();
        Arc::new(Terms { mechanisms, bindings, certificate, oauth_scope, openid_configuration })
    }

    /// Too many connections: says so where no TLS stands before the words.
    async fn turn_away(&self, tcp: TcpStream, peer: SocketAddr) {
        let local = tcp.local_addr().map_or(self.address(), canonical);
        Record::new(self.listener.protocol, canonical(peer), local).end((Ending::Overloaded, None));
        if self.listener.tls != ListenerTls::Implicit {
            self.say_no(Stream::Plain(tcp)).await;
        }
    }

    async fn say_no(&self, mut stream: Stream) {
        let mut out = Output::new();
        spoken::turn_away(self.listener.protocol, Farewell::Overloaded, &mut out);
        // The client may be gone; nothing is owed to it.
        if let Ok(Ok(())) = timeout(LAST_WORDS, flush(&mut stream, &mut out)).await {
            stream.part(LAST_WORDS).await;
        }
    }
}

/// The version of TLS, for the log: a load balancer need not name it.
fn version(tls: &ProxyTls) -> String {
    tls.version.clone().unwrap_or_else(|| "unknown".to_owned())
}

/// A load balancer's name for the connection, if it can stand in a log line and in an ID command.
fn printable(name: &[u8]) -> Option<&str> {
    let fits = (1..=UNIQUE_ID_MAX).contains(&name.len());
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
    std::str::from_utf8(name).ok().filter(|_| fits && name.iter().all(safe))
}
