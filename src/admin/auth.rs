//! `/v1/auth`: what passdbs say, what the fleet remembers of it, and how both fare.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::stream::in_background;
use super::{Admin, failure, wire};
use crate::auth::cache::Origin;
use crate::auth::{Circumstances, Fields, PolicyStats, Question, SourceStats, Trial};
use crate::model::{Credentials, Mechanism, Proof, Protocol, Secret, SessionId};

/// What somebody sees instead of a password.
const MASK: &str = "***";

/// How the passdbs of this proxy fare.
pub(super) async fn stats(State(admin): State<Arc<Admin>>) -> Json<wire::AuthStats> {
    let chain = admin.services.passdb.load_full();
    let cache = chain.cache_stats().unwrap_or_default();
    let cache = wire::CacheCounts {
        fresh: cache.fresh,
        stale: cache.stale,
        missed: cache.missed,
        shared: cache.shared,
        unreachable: cache.unreachable,
    };
    let found = admin.services.guards.penalties.stats();
    let penalties = wire::PenaltyCounts {
        failed: found.failed,
        delayed: found.delayed,
        too_fast: found.too_fast,
        forgiven: found.forgiven,
        alone: found.alone,
    };
    let sources = chain.stats().into_iter().map(source).collect();
    Json(wire::AuthStats { penalties, cache, sources, policy: chain.policy_stats().map(policy) })
}

/// Has the fleet forget.
pub(super) async fn flush(State(admin): State<Arc<Admin>>, Json(ask): Json<wire::FlushAsk>) -> Response {
    in_background(async move {
        let chain = admin.services.passdb.load_full();
        let gone = match &ask.user {
            Some(user) => chain.forget(user).await,
            None => chain.forget_all().await,
        };
        gone.map(|records| wire::Flushed { records }).map_err(|error| error.to_string())
    })
}

/// Has the fleet forgive a user or an address.
pub(super) async fn forgive(State(admin): State<Arc<Admin>>, Json(ask): Json<wire::ForgiveAsk>) -> Response {
    in_background(async move {
        let penalties = &admin.services.guards.penalties;
        let failures = match ask.whom.parse() {
            Ok(address) => penalties.forgive_address(address).await,
            Err(_) => penalties.forgive_user(&ask.whom).await,
        };
        failures.map(|failures| wire::Forgiven { failures }).map_err(|error| error.to_string())
    })
}

/// Asks as a login would, and lets nobody in.
pub(super) async fn try_out(State(admin): State<Arc<Admin>>, Json(mut ask): Json<wire::TrialAsk>) -> Response {
    let Some(service) = Protocol::ALL.into_iter().find(|protocol| protocol.word() == ask.service) else {
        return failure(StatusCode::BAD_REQUEST, format!("there is no service \"{}\"", ask.service)).into_response();
    };
    in_background(async move {
        let client = SocketAddr::new(ask.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0);
        let credentials = Credentials {
            user: std::mem::take(&mut ask.user),
            authzid: None,
            proof: Proof::Password(Secret::new(std::mem::take(&mut ask.password).into_bytes())),
            mechanism: Mechanism::Plain,
        };
        let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let session = SessionId::random();
        let question = Question {
            credentials: &credentials,
            service,
            client,
            local,
            secured: true,
            session: &session,
            around: Circumstances::default(),
        };
        Ok(trial(admin.services.passdb.load_full().try_out(&question).await))
    })
}

fn trial(trial: Trial) -> wire::Trial {
    let Trial { outcome, source, origin, took } = trial;
    let origin = origin.map(|origin| {
        match origin {
            Origin::Source => "source",
            Origin::Shared => "shared",
            Origin::Fresh => "cache",
            Origin::Stale => "stale cache",
        }
        .to_owned()
    });
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    match outcome {
        Ok(grant) => wire::Trial {
            outcome: "granted".to_owned(),
            source,
            origin,
            micros,
            user: Some(grant.user.as_str().to_owned()),
            unproven: grant.unproven,
            fields: shown(&grant.fields),
        },
        Err(refusal) => wire::Trial {
            outcome: refusal.word().to_owned(),
            source,
            origin,
            micros,
            user: None,
            unproven: false,
            fields: Vec::new(),
        },
    }
}

/// With Dovecot's names, in the order in which its manual has them.
fn shown(fields: &Fields) -> Vec<(String, String)> {
    let tls = fields.tls.map(|tls| {
        let key = if tls.starttls { "starttls" } else { "ssl" };
        (key, if tls.verify { "yes" } else { "any-cert" }.to_owned())
    });
    let nets = |nets: &Vec<_>| nets.iter().map(|net: &ipnet::IpNet| net.to_string()).collect::<Vec<_>>().join(",");
    let flag = |key, set: bool| set.then(|| (key, "yes".to_owned()));
    let text = |key, value: Option<&String>| value.map(|value| (key, value.clone()));
    let named = [
        fields.pool.as_ref().map(|pool| ("pool", pool.to_string())),
        text("host", fields.host.as_ref()),
        fields.port.map(|port| ("port", port.to_string())),
        text("destuser", fields.destuser.as_ref()),
        text("master", fields.master.as_ref()),
        fields.pass.as_ref().map(|_| ("pass", MASK.to_owned())),
        tls,
        fields.timeout.map(|timeout| ("proxy_timeout", format!("{}ms", timeout.as_millis()))),
        flag("proxy_nopipelining", fields.no_pipelining),
        flag("proxy_not_trusted", fields.not_trusted),
        flag("proxy_noauth", fields.no_auth),
        fields.allow_nets.as_ref().map(|allowed| ("allow_nets", nets(allowed))),
    ];
    let named = named.into_iter().flatten().map(|(key, value)| (key.to_owned(), value));
    // Nobody knows what is forwarded; it may be a token.
    named.chain(fields.forward.iter().map(|(key, _)| (format!("forward_{key}"), MASK.to_owned()))).collect()
}

fn source(stats: SourceStats) -> wire::SourceCounts {
    wire::SourceCounts {
        source: stats.source,
        master: stats.master,
        asked: stats.asked,
        granted: stats.granted,
        denied: stats.denied,
        unknown: stats.unknown,
        unavailable: stats.unavailable,
        timed_out: stats.timed_out,
        refused: stats.refused,
        paused: stats.paused,
        micros: stats.micros,
    }
}

fn policy(stats: PolicyStats) -> wire::PolicyCounts {
    wire::PolicyCounts {
        server: stats.server,
        welcome: stats.welcome,
        delayed: stats.delayed,
        unwelcome: stats.unwelcome,
        unavailable: stats.unavailable,
        reported: stats.reported,
        lost: stats.lost,
        paused: stats.paused,
    }
}
