//! The issuer's keys as this proxy knows them: read at the first token, read again now and then in the background, and at once
//! when a token names one that is not there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::issuer::Whereabouts;
use super::jwks::KeySet;
use crate::auth::web::Web;
use crate::config::Oauth2Passdb;

/// Keys, and how they are kept up to date.
pub(super) struct Ring {
    whereabouts: Whereabouts,
    web: Web,
    pace: Pace,
    known: ArcSwapOption<Known>,
    /// Held by who reads them.
    last: Mutex<Option<Attempt>>,
}

struct Pace {
    refresh: Duration,
    unknown: Duration,
    expire: Duration,
    timeout: Duration,
}

struct Known {
    keys: KeySet,
    read: Instant,
}

struct Attempt {
    begun: Instant,
    failed: Option<String>,
}

/// Why there is no key.
#[derive(Debug)]
pub(super) enum NoKey {
    /// The issuer has none of this name.
    Unknown,
    /// The issuer cannot be asked, and it may be one that is new.
    Unsure(String),
    /// There are no keys at all.
    Nothing(String),
}

impl Ring {
    pub(super) fn new(config: &Oauth2Passdb, whereabouts: Whereabouts) -> Result<Self, String> {
        let Oauth2Passdb { keys, remote, .. } = config;
        let web = Web::new(keys.tls_ca.as_deref(), keys.tls_verify, whereabouts.is_tls(), remote.timeout)?;
        let pace = Pace {
            refresh: keys.refresh,
            unknown: keys.unknown_key_interval,
            expire: keys.keys_expire,
            timeout: remote.timeout,
        };
        Ok(Self { whereabouts, web, pace, known: ArcSwapOption::empty(), last: Mutex::default() })
    }

    /// The keys that can have made a signature.
    pub(super) async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<DecodingKey>, NoKey> {
        let asked = Instant::now();
        if let Some(known) = self.usable() {
            if known.read.elapsed() >= self.pace.refresh {
                self.refresh();
            }
            let found = known.keys.candidates(id, algorithm);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        // Sooner than the question itself is given up, for that the source would be taken for one that is away.
        let most = self.pace.timeout.mul_f32(0.8);
        let late = || Some("its keys could not be read in time".to_owned());
        let failed = timeout(most, self.catch_up(asked)).await.unwrap_or_else(|_| late());
        let Some(known) = self.usable() else {
            return Err(NoKey::Nothing(failed.unwrap_or_else(|| "its keys are too old".to_owned())));
        };
        match (known.keys.candidates(id, algorithm), failed) {
            (found, _) if !found.is_empty() => Ok(found),
            (_, Some(why)) => Err(NoKey::Unsure(why)),
            (_, None) => Err(NoKey::Unknown),
        }
    }

    /// Unless they were never read, or too long ago.
    fn usable(&self) -> Option<Arc<Known>> {
        self.known.load_full().filter(|known| known.read.elapsed() < self.pace.expire)
    }

    /// In the background, by one at a time.
    fn refresh(self: &Arc<Self>) {
        let ring = Arc::clone(self);
        tokio::spawn(async move {
            let Ok(mut last) = ring.last.try_lock() else { return };
            if ring.is_due(last.as_ref()) {
                ring.read(&mut last).await;
            }
        });
    }

    /// Reads the keys, unless somebody has since `asked`, or did a moment ago. Says why that failed, if it did.
    async fn catch_up(&self, asked: Instant) -> Option<String> {
        let mut last = self.last.lock().await;
        let read_since = last.as_ref().is_some_and(|last| last.begun >= asked);
        if !read_since && self.is_due(last.as_ref()) {
            self.read(&mut last).await;
        }
        last.as_ref().and_then(|last| last.failed.clone())
    }

    fn is_due(&self, last: Option<&Attempt>) -> bool {
        last.is_none_or(|last| last.begun.elapsed() >= self.pace.unknown)
    }

    /// Who gives up while it reads has failed.
    async fn read(&self, last: &mut MutexGuard<'_, Option<Attempt>>) {
        let begun = Instant::now();
        **last = Some(Attempt { begun, failed: Some("its keys could not be read in time".to_owned()) });
        let Ok(read) = timeout(self.pace.timeout, self.whereabouts.keys(&self.web)).await else {
            return;
        };
        let failed = match read {
            Ok(keys) => {
                self.known.store(Some(Arc::new(Known { keys, read: begun })));
                None
            }
            Err(why) => Some(why),
        };
        if let Some(why) = &failed {
            tracing::warn!("the keys of {} could not be read: {why}", self.whereabouts.place());
        }
        **last = Some(Attempt { begun, failed });
    }
}
