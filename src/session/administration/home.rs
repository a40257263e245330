//! Where a user belongs, whom a command is about.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Caller, Trouble};
use crate::auth::{Grant, Lookup};
use crate::backend::Server;
use crate::ledger::Slot;
use crate::model::{Ending, Exit, Protocol, Refusal};
use crate::placement::errand::matches;
use crate::protocol::Referral;
use crate::relay::{StopSignal, stop_pair};
use crate::session::Ender;
use crate::session::entry::{home, isolated};

/// A user's home, with a session counted there as long as this is held.
pub(super) struct Home {
    pub(super) server: Arc<Server>,
    slot: Option<Slot>,
    stop: StopSignal,
    isolation: Arc<AtomicU64>,
}

/// What is known of a user: of the one whose mailbox it is, and only then of the name with its detail, as which somebody
/// may be known who has none.
pub(super) async fn look_up(caller: &Caller, user: &str) -> Result<Grant, Trouble> {
    let bare = caller.services.placement.without_detail(user);
    let passdb = caller.services.passdb.load_full();
    for name in iter::once(bare.as_str()).chain((bare != user).then_some(user)) {
        let lookup = Lookup {
            user: name,
            service: Protocol::Doveadm,
            client: caller.client,
            local: caller.local,
            session: &caller.session,
        };
        if let Some(mut grant) = passdb.find(&lookup).await? {
            grant.fields.port = None; // of the protocol by which users log in
            return Ok(grant);
        }
    }
    Err(Trouble::new(Exit::NO_USER, "User doesn't exist"))
}

/// Gives a user a home, and counts a session there. That refreshes the binding; no limit of sessions stands in the way.
pub(super) async fn find(caller: &Caller, grant: &Grant) -> Result<Home, Trouble> {
    let services = &caller.services;
    if services.closing.is_cancelled() {
        return Err(Refusal::ShuttingDown.into());
    }
    let key = services.placement.key_of(grant.home_name());
    let (handle, stop) = stop_pair();
    let ender = Ender { handle, client: caller.client.ip() };
    let (server, slot) = home(services, Protocol::Doveadm, grant, &key, 0, ender).await?;
    let isolation = slot.as_ref().map_or_else(Arc::default, |_| services.placement.isolation(&key));
    Ok(Home { server, slot, stop, isolation })
}

impl Home {
    /// The server has carried out a command for the user, so it knows the user.
    pub(super) fn prove(&self) {
        if let Some(slot) = &self.slot {
            slot.prove();
        }
    }

    /// Resolves when the command must end, because the user must leave this home: a little later, if it may finish.
    async fn cut_off(&self, grace: Duration) -> Trouble {
        let why = tokio::select! {
            why = self.stop.stopped() => why,
            why = isolated(&self.isolation) => why,
        };
        if why.may_wait() {
            sleep(grace).await;
        }
        match why {
            Ending::Kicked => Refusal::HomeUnsettled.into(),
            Ending::Isolated => Refusal::StoreUnavailable.into(),
            _ => Refusal::ShuttingDown.into(),
        }
    }
}

/// Resolves when a command must end before the mail server ends it. `home`: where its user is; `None` if it is about a server.
pub(super) async fn cut_off(caller: &Caller, home: Option<&Home>, gone: &CancellationToken) -> Trouble {
    let leave = async {
        match home {
            Some(home) => home.cut_off(caller.services.limits.load().kick_deadline).await,
            None => {
                caller.services.closing.cancelled().await;
                Refusal::ShuttingDown.into()
            }
        }
    };
    tokio::select! {
        trouble = leave => trouble,
        () = gone.cancelled() => Trouble::temporary("the client has gone"),
    }
}

/// From now on it is as if the passdb had named that server, which must be one of the fleet's: no other would take our
/// password.
pub(super) fn follow(caller: &Caller, grant: &mut Grant, referral: Referral) -> Result<(), Trouble> {
    let servers = caller.services.servers.load();
    let Referral { user, host, port } = referral;
    let by_doveadm = servers.all().find(|server| {
        let urls = server.doveadm.iter().flat_map(|doveadm| [Some(&doveadm.url), doveadm.http.as_ref()]);
        let mut places = urls.flatten().map(|url| url.endpoint());
        places.any(|place| place.host.eq_ignore_ascii_case(&host) && port.is_none_or(|port| port == place.port))
    });
    let Some(server) = by_doveadm.or_else(|| servers.named(&host, Protocol::Doveadm, None)) else {
        return Err(Trouble::temporary(format!(
            "the backend refers the user to {host}, which is no backend of this fleet"
        )));
    };
    info!(session = %caller.session, user = %grant.user.as_str(), host, "the backend refers the user");
    grant.fields.host = Some(server.id.as_str().to_owned());
    if user.is_some() {
        grant.fields.destuser = user;
    }
    Ok(())
}

/// The names of all users that fit a mask, in order: those of the passdb, or, where that cannot list them, those that a
/// mail server lists.
pub(super) async fn matching(caller: &Caller, mask: &str) -> Result<Vec<String>, Trouble> {
    let mask = mask.to_lowercase();
    let known = match caller.services.passdb.load_full().list(&caller.session).await? {
        Some(names) => names,
        None => listed_by_a_server(caller, &mask).await?.into_iter().collect(),
    };
    Ok(known.into_iter().filter(|name| matches(&mask, &name.to_lowercase())).collect())
}

async fn listed_by_a_server(caller: &Caller, mask: &str) -> Result<Vec<String>, Trouble> {
    let mut last = Trouble::temporary("no backend could be asked for the names of users");
    for server in caller.servers() {
        let administration = &caller.services.administration;
        let road = match administration.road(&server, false).or_else(|_| administration.road(&server, true)) {
            Ok(road) => road,
            Err(trouble) => {
                last = trouble;
                continue;
            }
        };
        match road.users(mask).await {
            Ok(names) => return Ok(names),
            Err(fault) => last = Trouble::temporary(format!("the users cannot be listed: {fault}")),
        }
    }
    Err(last)
}
