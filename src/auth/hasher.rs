//! Where password hashes are computed: off the event loop, and only so many at once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use super::scheme::{Cost, NotComputed, Stored};
use crate::model::{ScramHash, ScramKeys, Secret};

/// How far computations stand back (nice(7)). They may keep every core busy, and whatever else the proxy has to do goes first.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

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
        let (tell, told) = oneshot::channel();
        let compute = move || {
            give_way();
            let made = work();
            drop(permit);
            let _ = tell.send(made); // nobody may wait for it any more
        };
        // A thread of its own, for one that stands back cannot come forward again. To start it costs a hundredth of a hash.
        thread::Builder::new().name("hash".to_owned()).spawn(compute).map_err(|_| NotComputed)?;
        told.await.map_err(|_| NotComputed)
    }
}

/// Of this thread alone, which Linux counts for itself. Where that is forbidden it stays as it is.
fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICENESS);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_way_stands_behind_the_others_of_the_process() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let there = thread::spawn(move || {
            give_way();
            own()
        });
        assert_eq!(there.join().unwrap(), (before + NICENESS).min(19));
        assert_eq!(own(), before, "the rest of the process");
    }
}
