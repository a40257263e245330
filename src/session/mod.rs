//! One client connection, from accept to close.
//!
//! `door.rs` lets it in; `login.rs` tells the story up to the answer; `entry.rs` is the step in the middle, from a name and
//! a password to a connection that is logged in; `refusing.rs` says what becomes of a login that fails, and `ending.rs`
//! writes the one line about the connection. The relay that follows is a task
//! of its own, so that an idle session pays for nothing else.

mod administration;
mod delivery;
mod door;
mod ending;
mod entry;
mod guarding;
mod login;
mod refusing;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::auth::Chain;
use crate::backend::{Offers, Servers, Witness};
use crate::config::{LimitsConfig, LmtpConfig, SieveConfig};
use crate::ledger::Stop;
use crate::model::{Ending, Mechanism, Protocol};
use crate::placement::Placement;
use crate::relay::{RelaySettings, StopHandle};
pub use administration::Administration;
pub use delivery::Deliveries;
pub use door::Door;
pub use guarding::Guards;

/// What every session of this proxy uses. The parts behind an [`ArcSwap`] are replaced by a reload; who is at work with
/// the old part finishes with it.
pub struct Services {
    /// Who knows the passwords.
    pub passdb: ArcSwap<Chain>,
    /// Who keeps passwords from being guessed.
    pub guards: Guards,
    /// Who finds homes.
    pub placement: Placement,
    /// The mail servers, which follow the file and the fleet's table.
    pub servers: Arc<ArcSwap<Servers>>,
    /// Bounds.
    pub limits: ArcSwap<LimitsConfig>,
    /// What ManageSieve clients are told.
    pub sieve: ArcSwap<SieveConfig>,
    /// Bounds of mail that comes in.
    pub lmtp: ArcSwap<LmtpConfig>,
    /// Who gets how many mails at once.
    pub deliveries: Arc<Deliveries>,
    /// What clients of doveadm must know, and how mail servers are asked for them.
    pub administration: Administration,
    /// What relays share.
    pub relay: ArcSwap<RelaySettings>,
    /// What the mail servers offer.
    pub offers: Arc<Offers>,
    /// The name of this proxy.
    pub host: String,
    /// Our own listeners, which must not be dialled.
    pub own: Vec<SocketAddr>,
    /// Who is told how backends behave.
    pub witness: Arc<dyn Witness>,
    /// Connections that are open.
    pub connections: Arc<Connections>,
    /// The tasks of all connections.
    pub tasks: TaskTracker,
    /// Cancelled when this proxy goes down: nobody logs in any more.
    pub closing: CancellationToken,
}

impl Services {
    /// By which mechanisms users may log in, as far as that depends on sources and mail servers.
    fn mechanisms(&self, protocol: Protocol) -> Vec<Mechanism> {
        let without_password = self.servers.load().log_in_without_passwords(protocol);
        self.passdb.load().mechanisms(without_password)
    }

    /// What clients are shown that are not logged in: what all mail servers offer, or what the operator wants instead.
    fn offered(&self, protocol: Protocol) -> Arc<[String]> {
        let common = self.offers.common(protocol);
        if protocol == Protocol::Sieve { self.sieve.load().over(common) } else { common }
    }
}

/// Counts open client connections.
#[derive(Default)]
pub struct Connections {
    open: AtomicUsize,
    complaints: Mutex<Complaints>,
}

/// Keeps a flood of clients from filling the log.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    turned_away: u64,
}

/// How often it is logged that clients are turned away.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// One open client connection: counted until this is dropped.
pub struct Counted(Arc<Connections>);

impl Connections {
    /// Counts one more, unless there are `most` already.
    fn admit(self: &Arc<Self>, most: usize) -> Option<Counted> {
        let counted = Counted(self.clone());
        let admitted = self.open.fetch_add(1, Ordering::Relaxed) < most;
        if !admitted {
            self.complain(most);
        }
        admitted.then_some(counted)
    }

    fn complain(&self, limit: usize) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.turned_away += 1;
        if complaints.last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            let turned_away = std::mem::take(&mut complaints.turned_away);
            complaints.last = Some(Instant::now());
            drop(complaints);
            warn!(limit, turned_away, "limits.connections is reached: clients are turned away");
        }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How the ledger ends a session, and finds it by its client.
struct Ender {
    handle: StopHandle,
    client: IpAddr,
}

impl Stop for Ender {
    fn stop(&self, why: Ending) {
        self.handle.stop(why);
    }

    fn client(&self) -> Option<IpAddr> {
        Some(self.client)
    }
}
