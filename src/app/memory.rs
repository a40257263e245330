//! The fleet's memory of passdbs' answers, as the configuration has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tracing::{info, warn};

use crate::auth::cache::seal::Seals;
use crate::auth::cache::{Cache, Times};
use crate::config::{AuthConfig, Config, StoreConfig};
use crate::store::notes::Notes;

/// The file's name, if the configuration does not say: in the directory of `fleet.state_file`, which is homing's own.
const SECRET: &str = "secret";

/// The cache, with the secret of a file or, if no other process can read it anyway, with one that only this process has.
pub(super) fn open_cache(config: &Config, notes: Arc<dyn Notes>) -> anyhow::Result<Cache> {
    let seals = match seals(config)? {
        Some(seals) => seals,
        None => Seals::random().context("the system has no random bytes to give")?,
    };
    Ok(Cache::new(notes, config.store.shards(), seals, times(&config.auth)))
}

/// The secrets of the files that the configuration names; `None` if it names none.
pub(super) fn seals(config: &Config) -> anyhow::Result<Option<Seals>> {
    if let Some(path) = &config.auth.secret_file {
        return Ok(Some(Seals::read(path).map_err(|fault| anyhow::anyhow!("[auth] secret_file: {fault}"))?));
    }
    if !is_shared(config) {
        return Ok(None);
    }
    let Some(path) = default_file(config) else {
        warn!(
            "neither auth.secret_file nor fleet.state_file is set: what this proxy remembers of passdbs is of no use to its peers, \
             nor after a restart"
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
            .filter(|path| is_shared(config) && path.exists())
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
    matches!(config.store, StoreConfig::Redis(_)) && config.passdb.iter().any(|passdb| passdb.is_cached())
}

fn default_file(config: &Config) -> Option<PathBuf> {
    let directory = config.fleet.state_file.as_deref().and_then(Path::parent)?;
    Some(directory.join(SECRET))
}
