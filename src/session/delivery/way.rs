//! The way to a mail server that takes mail, and what all connections of one client share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::recipient::{Delivery, stopped};
use super::upstream::Upstream;
use crate::backend::{ConnectError, Outcome, Request, Road, Seen, Server, Tls, connect_as};
use crate::config::LmtpConfig;
use crate::model::{Protocol, Refusal, Secret, SessionId};
use crate::net::ProxyTls;
use crate::protocol::Announcement;
use crate::protocol::lmtp::{Backend, Reply, reply};
use crate::session::Services;
use crate::session::refusing::Failure;

/// What all legs of a client's connection share.
pub(super) struct Shared<'a> {
    pub(super) services: &'a Services,
    pub(super) lmtp: Arc<LmtpConfig>,
    /// The client, as backends are told of it; the session's name is without the number of the connection.
    pub(super) announcement: Announcement,
    /// Its TLS.
    pub(super) tls: Option<ProxyTls>,
    /// Connections made so far.
    pub(super) connections: AtomicU32,
}

/// A way to a mail server. Connections are kept by it.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) server: Arc<Server>,
    /// The backend may be told who the client is.
    pub(super) trusted: bool,
}

impl Way {
    /// Whether a connection by the one serves for the other. A name is not enough: a reload may have given it to another
    /// host, and a passdb may name one host with several ports, or with TLS for one user and without for another.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same_road = || match (self.road(), other.road()) {
            (Some(one), Some(other)) => one.port == other.port && same_tls(one, other),
            _ => false,
        };
        self.trusted == other.trusted
            && self.server.id == other.server.id
            && self.server.host == other.server.host
            && same_road()
    }

    fn road(&self) -> Option<&Road> {
        self.server.road(Protocol::Lmtp)
    }

    /// Connects, up to where envelopes are taken. `to`: who is to get mail by it, of whom the last is why.
    pub(super) async fn connect(&self, shared: &Shared<'_>, to: &[Delivery]) -> Result<Upstream, Reply> {
        let services = shared.services;
        let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        // As Dovecot names the connections of one client.
        let session = SessionId::new(format!("{}:P{number}", shared.announcement.session));
        let announcement = Announcement { session, ..shared.announcement.clone() };
        let request = Request {
            means: crate::protocol::Means::Password,
            protocol: Protocol::Lmtp,
            user: to.last().map_or("", |delivery| &delivery.user),
            master: None,
            password: &Secret::default(),
            announcement: &announcement,
            tls: shared.tls.as_ref(),
            trusted: self.trusted,
            pipelining: true,
            noauth: false,
            forward: &[], // each recipient has its own
            utf8: false,
            host: &services.host,
            close_timeout: services.limits.load().close_timeout,
            limit: None,
            own: &services.own,
            witness: services.witness.as_ref(),
            offers: &services.offers,
        };
        let machine = |login| -> Option<Box<dyn crate::protocol::Backend>> {
            Some(Box::new(Backend::new(login, &services.host, shared.lmtp.backend_timeout)))
        };
        match connect_as(&self.server, &request, machine, stopped(to)).await {
            Ok(arrival) => Ok(Upstream::new(arrival, self.trusted && self.server.announce.xclient)),
            Err(ConnectError::Interrupted { .. }) => Err(reply::STOPPED),
            Err(error) => match Failure::at_backend(error, &shared.announcement.session) {
                Failure::Refused(why) => Err(why.into()),
                _ => Err(Refusal::BackendUnavailable.into()),
            },
        }
    }

    /// Tells those who watch the backends how a delivery went: that somebody connects says less of those who take mail
    /// than of those who log users in.
    pub(super) fn testify(&self, shared: &Shared<'_>, user: &str, outcome: Result<(), &str>) {
        let backend = &self.server.id;
        let error = outcome.err().map(|why| ConnectError::Delivery { backend: backend.clone(), why: why.to_owned() });
        let outcome = error.as_ref().map_or(Outcome::LoggedIn, |error| Outcome::Failed { error, login_sent: true });
        shared.services.witness.saw(Seen { backend, service: Protocol::Lmtp, user, outcome });
    }
}

fn same_tls(one: &Road, other: &Road) -> bool {
    let facts = |tls: &Tls| (Arc::as_ptr(&tls.client), tls.starttls, tls.name.clone());
    one.tls.as_ref().map(facts) == other.tls.as_ref().map(facts)
}
