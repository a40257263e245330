//! One client connection, from accept to close.
//!
//! `door.rs` lets it in; `login.rs` tells the story up to the answer; `entry.rs` is the step in the middle, from a name and
//! a password to a connection that is logged in; `ending.rs` writes the one line about it. The relay that follows is a task
//! of its own, so that an idle session pays for nothing else.

mod door;
mod ending;
mod entry;
mod login;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Chain;
use crate::backend::Servers;
use crate::config::LimitsConfig;
use crate::ledger::Stop;
use crate::model::Ending;
use crate::placement::Placement;
use crate::relay::{RelaySettings, StopHandle};
pub use door::Door;

/// What every session of this proxy uses. The parts behind an [`ArcSwap`] are replaced by a reload; who is at work with
/// the old part finishes with it.
pub struct Services {
    /// Who knows the passwords.
    pub passdb: ArcSwap<Chain>,
    /// Who finds homes.
    pub placement: Placement,
    /// The mail servers.
    pub servers: ArcSwap<Servers>,
    /// Bounds.
    pub limits: ArcSwap<LimitsConfig>,
    /// What relays share.
    pub relay: ArcSwap<RelaySettings>,
    /// Our own listeners, which must not be dialled.
    pub own: Vec<SocketAddr>,
    /// Connections that are open.
    pub connections: Arc<Connections>,
    /// The tasks of all connections.
    pub tasks: TaskTracker,
    /// Cancelled when this proxy goes down: nobody logs in any more.
    pub closing: CancellationToken,
}

/// Counts open client connections.
#[derive(Default)]
pub struct Connections(AtomicUsize);

/// One open client connection: counted until this is dropped.
pub struct Counted(Arc<Connections>);

impl Connections {
    /// Counts one more, unless there are `most` already.
    fn admit(self: &Arc<Self>, most: usize) -> Option<Counted> {
        let counted = Counted(self.clone());
        (self.0.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stop for StopHandle {
    fn stop(&self, why: Ending) {
        StopHandle::stop(self, why);
    }
}
