//! Where password hashes are computed: off the event loop, and only so many at once.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::scheme::{Cost, NotComputed, Stored};
use crate::model::Secret;

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
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| NotComputed)?;
        let password = password.duplicate();
        let compute = move || {
            let verdict = stored.verify(password.expose());
            drop(permit);
            verdict
        };
        tokio::task::spawn_blocking(compute).await.map_err(|_| NotComputed)?
    }
}
