//! The door of one listener: who comes in, by which address, inside which TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::ending::Record;
use super::{Services, login};
use crate::config::{ListenerConfig, ListenerTls};
use crate::model::{Ending, Phase, SessionId};
use crate::net::{ProxyHeader, ServerTls, Stream, canonical, receive_proxy_header};
use crate::protocol::{Bounds, Farewell, Frontend, FrontendSettings, Output, imap};

/// How long last words may take to send.
const LAST_WORDS: Duration = Duration::from_secs(1);
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
    /// The bytes are encrypted on their way to us, or to the trusted load balancer in front of us.
    pub(super) secured: bool,
    /// The name that it asked for (SNI).
    pub(super) server_name: Option<String>,
}

impl Door {
    /// Serves a client in a task of its own.
    pub fn enter(self: &Arc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let door = self.clone();
        self.services.tasks.spawn(async move {
            let counted = door.services.connections.admit(door.services.limits.load().connections);
            match counted {
                // Boxed: the story is long, and this task lives until the relay has its own.
                Some(counted) => Box::pin(login::serve(&door, tcp, peer, counted)).await,
                None => door.turn_away(tcp).await,
            }
        });
    }

    /// Finds out who it is: PROXY header, then TLS where it comes first.
    pub(super) async fn identify(&self, mut tcp: TcpStream, peer: SocketAddr, record: &mut Record) -> Option<Guest> {
        let local = tcp.local_addr().map_or(self.listener.address, canonical);
        let header = match self.header(&mut tcp, peer).await {
            Ok(header) => header,
            Err(why) => {
                debug!(%peer, why, "PROXY header");
                record.end(Ending::HeaderFault, Phase::Header, Some(why));
                return None;
            }
        };
        record.client = header.source.map_or(canonical(peer), canonical);
        record.local = header.destination.map_or(local, canonical);
        if let Some(name) = header.unique_id.as_deref().and_then(printable) {
            record.session = SessionId::new(name);
        }
        record.tls = header.tls.as_ref().and_then(|tls| tls.version.clone());
        let guest = Guest {
            stream: Stream::Plain(tcp),
            session: record.session.clone(),
            client: record.client,
            local: record.local,
            secured: header.tls.is_some(),
            server_name: header.authority,
        };
        if self.listener.tls == ListenerTls::Implicit { self.encrypt(guest, record).await } else { Some(guest) }
    }

    async fn header(&self, tcp: &mut TcpStream, peer: SocketAddr) -> Result<ProxyHeader, String> {
        if !self.listener.proxy_protocol {
            return Ok(ProxyHeader::default());
        }
        let peer = canonical(peer).ip();
        if !self.listener.trusted_networks.iter().any(|network| network.contains(&peer)) {
            return Err(format!("{peer} is not in trusted_networks"));
        }
        match timeout(self.listener.proxy_timeout, receive_proxy_header(tcp)).await {
            Ok(header) => header.map_err(|error| error.to_string()),
            Err(_) => Err("no PROXY header came within proxy_timeout".to_owned()),
        }
    }

    /// The TLS handshake. `None` if it failed; the record says why.
    pub(super) async fn encrypt(&self, guest: Guest, record: &mut Record) -> Option<Guest> {
        // TLS inside TLS is never asked for, nor is TLS where there is no certificate.
        let (Stream::Plain(tcp), Some(tls)) = (guest.stream, &self.tls) else { return None };
        let limit = self.services.limits.load().tls_timeout;
        let why = match timeout(limit, tls.accept(tcp, &self.listener.alpn)).await {
            Ok(Ok((stream, facts))) => {
                record.tls = Some(facts.version.to_owned());
                let server_name = facts.server_name.or(guest.server_name);
                return Some(Guest { stream, secured: true, server_name, ..guest });
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "the handshake took longer than limits.tls_timeout".to_owned(),
        };
        record.end(Ending::TlsFailed, Phase::Tls, Some(why));
        None
    }

    /// The machine that speaks to a guest of this door.
    pub(super) fn frontend(&self, guest: &Guest) -> Box<dyn Frontend> {
        let limits = self.services.limits.load();
        Box::new(imap::Frontend::new(FrontendSettings {
            secured: guest.secured,
            starttls: self.listener.tls == ListenerTls::StartTls && !matches!(guest.stream, Stream::Tls(_)),
            plaintext_login: self.listener.plaintext_login,
            banner: "homing ready".to_owned(),
            bounds: Bounds {
                line: limits.line,
                literal: limits.literal,
                commands: limits.commands,
                errors: limits.errors,
                failures: limits.failures,
            },
        }))
    }

    /// Too many connections: says so where no TLS stands before the words.
    async fn turn_away(&self, mut tcp: TcpStream) {
        if self.listener.tls != ListenerTls::Implicit {
            let mut out = Output::new();
            imap::turn_away(Farewell::Overloaded, &mut out);
            // The client may be gone; nothing is owed to it.
            let _ = timeout(LAST_WORDS, tcp.write_all(out.bytes())).await;
        }
        debug!("turned away: limits.connections is reached");
    }
}

/// A load balancer's name for the connection, if it can stand in a log line and in an ID command.
fn printable(name: &[u8]) -> Option<&str> {
    let fits = (1..=UNIQUE_ID_MAX).contains(&name.len());
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
    std::str::from_utf8(name).ok().filter(|_| fits && name.iter().all(safe))
}
