//! Where password hashes are computed: off the event loop, and only so many at once.

use std::sync::Arc;
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use super::scheme::{Cost, NotComputed, Stored};
use crate::model::Secret;

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
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| NotComputed)?;
        let password = password.duplicate();
        let (tell, told) = oneshot::channel();
        let compute = move || {
            give_way();
            let verdict = stored.verify(password.expose());
            drop(permit);
            let _ = tell.send(verdict); // nobody may wait for it any more
        };
        // A thread of its own, for one that stands back cannot come forward again. To start it costs a hundredth of a hash.
        thread::Builder::new().name("hash".to_owned()).spawn(compute).map_err(|_| NotComputed)?;
        told.await.map_err(|_| NotComputed)?
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
