//! What the fleet notes of logins, as the configuration has it: passdbs' answers, failures, and the secret under which.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::auth::cache::Times;
use crate::auth::cache::seal::{Seals, SharedSeals};
use crate::auth::penalty::{Penalties, PenaltyRules, Seats};
use crate::config::{AuthConfig, BackendConfig, Config, PassdbConfig, StoreConfig};
use crate::model::Incarnation;
use crate::session::Guards;
use crate::store::notes::Notes;

/// The file's name, if the configuration does not say: in the directory of `fleet.state_file`, which is homing's own.
const SECRET: &str = "secret";

/// The secrets of a file or, if no other process needs them anyway, one that only this process has.
pub(super) fn open_seals(config: &Config) -> anyhow::Result<SharedSeals> {
    let seals = match seals(config)? {
        Some(seals) => seals,
        None => Seals::random().context("the system has no random bytes to give")?,
    };
    Ok(Arc::new(ArcSwap::from_pointee(seals)))
}

/// What keeps passwords from being guessed.
pub(super) fn guards(config: &Config, notes: Arc<dyn Notes>, seals: &SharedSeals, incarnation: &Incarnation) -> Guards {
    let shards = config.store.shards();
    Guards {
        penalties: Penalties::new(notes.clone(), shards, seals.clone(), penalty_rules(config)),
        seats: Seats::new(notes, shards, seals.clone(), incarnation.clone()),
    }
}

/// What failed logins cost. No wait is so long that the login could not be finished after it.
pub(super) fn penalty_rules(config: &Config) -> PenaltyRules {
    let Config { auth, limits, .. } = config;
    PenaltyRules {
        forget: auth.penalty_forget,
        max: auth.penalty_max.min(limits.login_timeout / 2),
        known: auth.penalty_known,
        ipv6_prefix: auth.penalty_ipv6_prefix,
        exempt: auth.penalty_exempt.clone(),
        logins_per_minute: limits.logins_per_minute,
    }
}

/// The secrets of the files that the configuration names; `None` if it names none.
pub(super) fn seals(config: &Config) -> anyhow::Result<Option<Seals>> {
    if let Some(path) = &config.auth.secret_file {
        return Ok(Some(Seals::read(path).map_err(|fault| anyhow::anyhow!("[auth] secret_file: {fault}"))?));
    }
    if !is_wanted(config) {
        return Ok(None);
    }
    let Some(path) = default_file(config) else {
        warn!(
            "neither auth.secret_file nor fleet.state_file is set: what this proxy notes of logins, such as failures and what \
             passdbs say, is of no use to its peers, nor after a restart; and the salts that SCRAM shows for names that nobody \
             has change with each start, which tells them from others"
        );
        return Ok(None);
    };
    let (seals, is_made) = Seals::read_or_make(&path)
        .map_err(|fault| anyhow::anyhow!("{fault}; auth.secret_file may name another place"))?;
    if is_made {
        info!(
            secret = %path.display(),
            "made a secret for the fleet: all proxies need a copy of this file, so that one knows whom another has let in"
        );
    }
    Ok(Some(seals))
}

/// What is wrong with the secret, if it is there.
pub(super) fn check_secret(config: &Config) -> Option<String> {
    let fault = match &config.auth.secret_file {
        Some(path) => Seals::read(path).err(),
        None => default_file(config)
            .filter(|path| is_wanted(config) && path.exists())
            .and_then(|path| Seals::read(&path).err()),
    };
    Some(format!("[auth] secret_file: {}", fault?))
}

/// How long what is kept is good for.
pub(super) fn times(auth: &AuthConfig) -> Times {
    Times { positive: auth.cache_ttl, negative: auth.cache_negative_ttl, stale: auth.cache_stale }
}

/// Somebody else could read what is kept.
fn is_shared(config: &Config) -> bool {
    let Config { auth, limits, passdb, .. } = config;
    let is_limited = [limits.logins_per_minute, limits.user_ip_connections, limits.address_connections] != [0; 3];
    let is_guarded = is_limited || !auth.penalty_max.is_zero();
    matches!(config.store, StoreConfig::Redis(_)) && (is_guarded || passdb.iter().any(PassdbConfig::is_cached))
}

/// It has to outlast this process: others read what is kept, or what SCRAM shows of unknown users is made of it.
fn is_wanted(config: &Config) -> bool {
    is_shared(config) || may_offer_scram(config)
}

/// As far as the configuration tells.
fn may_offer_scram(config: &Config) -> bool {
    let named = &config.auth.mechanisms.0;
    let lets_us_in =
        |backend: &BackendConfig| backend.master.is_some() || backend.login_external || backend.submission_noauth;
    let is_offered = match named.is_empty() {
        true => !config.backends.is_empty() && config.backends.values().all(lets_us_in),
        false => named.iter().any(|mechanism| mechanism.scram().is_some()),
    };
    is_offered && config.passdb.iter().any(PassdbConfig::stores_passwords)
}

fn default_file(config: &Config) -> Option<PathBuf> {
    let directory = config.fleet.state_file.as_deref().and_then(Path::parent)?;
    Some(directory.join(SECRET))
}
