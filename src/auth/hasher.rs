//! Where password hashes are computed: off the event loop, and only so many at once.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::scheme::{Cost, NotComputed, Stored};
use crate::model::{ScramHash, ScramKeys, Secret};

/// Verifies passwords. Clones share the bound.
#[derive(Clone)]
pub(super) struct Hasher {
    permits: Arc<Semaphore>,
}

impl Hasher {
    /// At most `threads` (at least one) hashes at once; the others wait their turn.
    pub(super) fn new(threads: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// The password is the stored one. Dropping this while it computes leaves the computation counted until it ends.
    pub(super) async fn verify(&self, (stored, cost): (Stored, Cost), password: &Secret) -> Result<bool, NotComputed> {
        if cost == Cost::Cheap {
            return stored.verify(password.expose());
        }
        let password = password.duplicate();
        self.compute(move || stored.verify(password.expose())).await?
    }

    /// The keys of a password that is stored in clear.
    pub(super) async fn derive(
        &self,
        hash: ScramHash,
        (salt, rounds): (Vec<u8>, NonZeroU32),
        password: Secret,
    ) -> Result<ScramKeys, NotComputed> {
        self.compute(move || {
            let text = std::str::from_utf8(password.expose()).ok().and_then(|text| stringprep::saslprep(text).ok());
            let prepared =
                Secret::new(text.map_or_else(|| password.expose().to_vec(), |text| text.as_bytes().to_vec()));
            ScramKeys::derive(hash, rounds, &salt, prepared.expose())
        })
        .await
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotComputed> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| NotComputed)?;
        let compute = move || {
            let made = work();
            drop(permit);
            made
        };
        tokio::task::spawn_blocking(compute).await.map_err(|_| NotComputed)
    }
}
