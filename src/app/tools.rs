//! What moves and migrations are done with: hooks that know the servers' addresses, and the servers' own word for who is
//! there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::admin::Tools;
use crate::config::{HookUrl, MovesConfig};
use crate::doveadm::{Doveadm, Presence};
use crate::fleet::{self, HookTurn};
use crate::hook::{Hook, MoveArguments};
use crate::model::{BackendId, Key};
use crate::net::TlsFault;
use crate::placement::Quiet;
use crate::session::Services;

/// How long a mail server may take to let go of a user whose sessions are closed.
const LEAVING: Duration = Duration::from_secs(30);

/// The hook of `[moves]`, if there is one.
pub(super) fn before_move(
    config: &MovesConfig,
    services: &Arc<Services>,
) -> Result<Option<Arc<dyn fleet::Hook>>, TlsFault> {
    let addressed = |hook| Arc::new(Addressed { hook, services: services.clone() }) as Arc<dyn fleet::Hook>;
    Ok(Hook::new(config)?.map(addressed))
}

/// A hook that is told the addresses of backends, too.
struct Addressed {
    hook: Hook,
    services: Arc<Services>,
}

impl Addressed {
    fn host(&self, backend: &BackendId) -> String {
        let servers = self.services.servers.load();
        servers.get(backend).map_or_else(|| "-".to_owned(), |server| server.host.clone())
    }
}

#[async_trait]
impl fleet::Hook for Addressed {
    async fn run(&self, turn: &HookTurn) -> Result<(), String> {
        let arguments = MoveArguments {
            key: turn.key.clone(),
            from: turn.from.clone(),
            from_host: self.host(&turn.from),
            from_up: turn.from_up,
            from_weight: turn.from_weight,
            to: turn.to.clone(),
            to_host: turn.to.as_ref().map(|to| self.host(to)),
            again: turn.again,
        };
        self.hook.run(&arguments).await.map_err(|failure| failure.to_string())
    }
}

/// What operators' migrations and audits use.
pub(super) struct OperatorTools {
    services: Arc<Services>,
}

impl OperatorTools {
    pub(super) fn new(services: &Arc<Services>) -> Self {
        Self { services: services.clone() }
    }
}

#[async_trait]
impl Tools for OperatorTools {
    fn hook(&self, what: &str, limit: Duration) -> Result<Arc<dyn fleet::Hook>, String> {
        let mut config = MovesConfig { hook_timeout: limit, ..MovesConfig::default() };
        if what.starts_with("http://") || what.starts_with("https://") {
            config.before_move_url = Some(HookUrl::parse(what)?);
        } else {
            // As the operator would write it in a shell; the arguments follow.
            config.before_move = ["/bin/sh", "-c", &format!("{what} \"$@\""), "sh"].map(str::to_owned).to_vec();
        }
        let hook = before_move(&config, &self.services).map_err(|fault| fault.to_string())?;
        hook.ok_or_else(|| "the hook is empty".to_owned())
    }

    fn quiet(&self) -> Arc<dyn Quiet> {
        Arc::new(ByDoveadm(self.services.clone()))
    }

    async fn present(&self, only: Option<&BackendId>) -> BTreeMap<BackendId, Result<Vec<(String, u32)>, String>> {
        let servers = self.services.servers.load_full();
        let asked = servers.all().filter(|server| only.is_none_or(|only| server.id == *only));
        let asked = asked.filter_map(|server| Some((server.id.clone(), server.doveadm.clone()?)));
        let asked = asked.map(|(id, doveadm)| async move {
            let users = match Doveadm::new(&doveadm) {
                Ok(doveadm) => doveadm.who().await.map_err(|fault| fault.to_string()),
                Err(fault) => Err(fault.to_string()),
            };
            (id, users.map(|present| present.into_iter().map(|row| (row.user, row.connections)).collect()))
        });
        join_all(asked.collect::<Vec<_>>()).await.into_iter().collect()
    }
}

/// Asks the mail server itself.
struct ByDoveadm(Arc<Services>);

#[async_trait]
impl Quiet for ByDoveadm {
    async fn wait(&self, key: &Key, backend: &BackendId) -> Result<(), String> {
        let config = self.0.servers.load().get(backend).and_then(|server| server.doveadm.clone());
        let config = config.ok_or_else(|| format!("[backend.{backend}] has no doveadm, which is to be asked"))?;
        let doveadm = Doveadm::new(&config).map_err(|fault| fault.to_string())?;
        let theirs = |user: &str| self.0.placement.key_of(user) == *key;
        let left = doveadm.until_gone(theirs, Instant::now() + LEAVING).await.map_err(|fault| fault.to_string())?;
        if left.is_empty() {
            return Ok(());
        }
        let connections: u32 = left.iter().map(|presence: &Presence| presence.connections).sum();
        Err(format!("{backend} still has {connections} connections of the user, {LEAVING:?} after they were closed"))
    }
}
