//! What a changed configuration does to a running proxy: all of it or nothing, and nothing to a session, unless
//! its backend is removed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::proxy::relay_settings;
use super::{Proxy, memory};
use crate::auth::Chain;
use crate::backend::Servers;
use crate::config::{Changes, Config, MovesConfig, TlsConfig};
use crate::model::Protocol;
use crate::net::ServerTls;

/// Heartbeats that the store may take to get a new backend table: it goes out with the next one.
const HEARTBEATS: u32 = 3;
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// Why a reload was refused. What was in force stays in force.
#[derive(Debug, thiserror::Error)]
#[error("reload refused, the configuration in force is unchanged: {0:#}")]
pub struct ReloadError(#[from] pub anyhow::Error);

impl Proxy {
    /// Applies what can change live. Everything is prepared before anything is replaced.
    pub async fn reload(&self, new: Config) -> Result<Changes, ReloadError> {
        let mut config = self.config.lock().await;
        let changes = config.changes(&new);
        same_servers(&config, &new)?;
        let servers = Servers::new(&new.backends, new.served()).map_err(anyhow::Error::from)?;
        // The store stays what it is, whatever the new file says.
        let seals = memory::seals(&Config { store: config.store.clone(), fleet: config.fleet.clone(), ..new.clone() })?;
        let passdb = Chain::open(&new.passdb, &new.auth, new.limits.hash_threads)
            .await
            .with_cache(&self.cache)
            .with_policy(&new.auth_policy);
        self.reload_tls(&new.tls)?;
        if let Some(seals) = seals {
            self.cache.reseal(seals);
        }
        self.cache.retime(memory::times(&new.auth));
        let old = self.services.servers.load_full();
        self.fleet.change_file(old.rows(), servers.rows().clone());
        self.services.servers.rcu(|now| servers.instead_of(now));
        self.pace.store(Arc::new(new.moves.clone()));
        self.health.update(&new.health, || self.services.servers.load_full());
        self.services.passdb.store(Arc::new(passdb));
        self.services.relay.store(Arc::new(relay_settings(&new.limits, &self.pool)));
        self.services.guards.penalties.replace(memory::penalty_rules(&new));
        self.services.limits.store(Arc::new(new.limits.clone()));
        self.services.sieve.store(Arc::new(new.sieve.clone()));
        self.services.lmtp.store(Arc::new(new.lmtp.clone()));
        self.services.administration.set(new.doveadm.clone());
        self.table_in_force(config.fleet.heartbeat()).await;
        info!(applied = changes.applied.join(" "), "reloaded");
        if !changes.needs_restart.is_empty() {
            warn!(keys = changes.needs_restart.join(" "), "these changes need a restart");
        }
        *config = Config {
            tls: new.tls,
            limits: new.limits,
            lmtp: new.lmtp,
            doveadm: new.doveadm,
            moves: MovesConfig {
                max_parallel_moves: new.moves.max_parallel_moves,
                move_rate: new.moves.move_rate,
                rebalance_tolerance: new.moves.rebalance_tolerance,
                max_errors: new.moves.max_errors,
                ..config.moves.clone()
            },
            auth: new.auth,
            auth_policy: new.auth_policy,
            passdb: new.passdb,
            health: new.health,
            sieve: new.sieve,
            backends: new.backends,
            log: crate::config::LogConfig { level: new.log.level, ..config.log.clone() },
            ..config.clone()
        };
        Ok(changes)
    }

    /// Waits until the fleet chooses backends by the new table, so that who reloads to drain one can rely on it; but not
    /// for a store that is away, for it gets the table as soon as it is back.
    async fn table_in_force(&self, heartbeat: Duration) {
        let deadline = Instant::now() + heartbeat * HEARTBEATS;
        while !self.fleet.shards().iter().all(|shard| shard.roster.has_its_wish()) {
            if Instant::now() >= deadline {
                return warn!("the store has not taken the new backend table yet; it will as soon as it can");
            }
            sleep(LOOK).await;
        }
    }

    /// Listeners keep their kind until a restart: those with TLS need a certificate, and without one nothing is in
    /// force that could be replaced. Faulty certificates are refused all the same.
    fn reload_tls(&self, new: &TlsConfig) -> anyhow::Result<()> {
        match (&self.tls, new.certificates.is_empty()) {
            (Some(_), true) => {
                bail!("[[tls.certificate]] cannot be removed while listeners with TLS are open; to close them, restart")
            }
            (Some(tls), false) => tls.reload(new)?,
            (None, true) => {}
            (None, false) => drop(ServerTls::new(new)?),
        }
        Ok(())
    }
}

/// A backend's name stands for one server. Were its address to change under live sessions, a user would have two homes of
/// one name. Another port goes with another kind of TLS; otherwise it is another server.
fn same_servers(old: &Config, new: &Config) -> Result<(), ReloadError> {
    for (name, after) in &new.backends {
        let Some(before) = old.backends.get(name) else { continue };
        let moved = |protocol| match (before.reach(protocol), after.reach(protocol)) {
            (Some(before), Some(after)) => before.port != after.port && before.tls == after.tls,
            _ => false,
        };
        if before.host != after.host || Protocol::ALL.into_iter().any(moved) {
            let error = anyhow::anyhow!(
                "[backend.{name}] has another address; sessions at the old one and at the new one would be two homes. Give \
                 the new server a name of its own and drain the old one, or restart all proxies"
            );
            return Err(error.into());
        }
    }
    Ok(())
}
