//! What happens in a storm, for how long, and what never happens together.

use std::time::Duration;

use crate::harness::crowd::Dice;

/// Proxies and mail servers of the fleet; they count from 1.
pub const PROXIES: usize = 3;
pub const BACKENDS: usize = 4;

/// The store's recovery window. What E1 says of "the whole window" needs room on a busy machine.
pub const RECOVERY: Duration = Duration::from_secs(4);
/// Longer than any hindrance between a proxy and a backend, so that E6 excuses nobody.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take until a part that was hindered is what it was: links are there, votes are counted.
const AFTERMATH: Duration = Duration::from_secs(5);

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and started again.
    ProxyKilled(usize),
    /// SIGSTOP, then SIGCONT.
    ProxyStopped(usize),
    /// Its cable to the store is cut.
    CutFromStore(usize),
    /// Its cable to the clients is cut.
    CutFromClients(usize),
    /// The cable of that proxy to that backend is cut.
    CutFromBackend(usize, usize),
    /// Redis stands still.
    StoreStopped,
    /// `kill -9`, and started again with what its append-only file has.
    StoreKilled,
    /// FLUSHALL.
    StoreFlushed,
    /// The master dies, and a replica takes over without the last writes. The dead one comes back as a replica.
    StoreFailedOver,
    /// `kill -9` of a mail server and all its sessions, and started again.
    BackendKilled(usize),
    /// A mail server stands still with all its sessions.
    BackendStopped(usize),
}

/// A part that a fault befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Proxy(usize),
    Store,
    Backend(usize),
}

/// What the fleet is like, as far as faults are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Climate {
    /// Redis has replicas and Sentinels; else it is one server with an append-only file.
    pub sentinels: bool,
    /// `[fleet] strict`.
    pub strict: bool,
}

impl Fault {
    /// Any fault that there can be in that climate.
    pub fn any(dice: &mut Dice, climate: Climate) -> Self {
        let proxy = 1 + dice.below(PROXIES as u64) as usize;
        let backend = 1 + dice.below(BACKENDS as u64) as usize;
        match dice.below(20) {
            0..4 => Self::ProxyKilled(proxy),
            4..6 => Self::ProxyStopped(proxy),
            6..9 => Self::CutFromStore(proxy),
            9..11 => Self::CutFromClients(proxy),
            11..13 => Self::CutFromBackend(proxy, backend),
            13 => Self::StoreStopped,
            14 | 15 if climate.sentinels => Self::StoreFailedOver,
            14 | 15 => Self::StoreKilled,
            16 => Self::StoreFlushed,
            17 | 18 => Self::BackendKilled(backend),
            _ => Self::BackendStopped(backend),
        }
    }

    /// For the summary.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ProxyKilled(_) => "proxy killed",
            Self::ProxyStopped(_) => "proxy stopped",
            Self::CutFromStore(_) => "proxy cut from store",
            Self::CutFromClients(_) => "proxy cut from clients",
            Self::CutFromBackend(..) => "proxy cut from backend",
            Self::StoreStopped => "store stopped",
            Self::StoreKilled => "store killed",
            Self::StoreFlushed => "store flushed",
            Self::StoreFailedOver => "store failed over",
            Self::BackendKilled(_) => "backend killed",
            Self::BackendStopped(_) => "backend stopped",
        }
    }

    /// From the blow to the remedy.
    pub fn span(self, dice: &mut Dice, climate: Climate) -> Duration {
        let mut between = |from: u64, to: u64| Duration::from_millis(from + dice.below(to - from));
        match self {
            Self::ProxyKilled(_) => between(100, 2500),
            // Often beyond the lease of 3 s, never near the end of the grace of 30 s: E4, a stopped process keeps its
            // sockets, and so its sessions, when it should have closed them.
            Self::ProxyStopped(_) | Self::CutFromStore(_) => between(500, 7000),
            Self::CutFromClients(_) => between(500, 5000),
            // A fraction of CLOSE_TIMEOUT, since what is sent again may take as long once more. A backend that cannot be
            // told in time that a session is over is E6.
            Self::CutFromBackend(..) | Self::BackendStopped(_) => between(200, 3000),
            // A master that stands still for longer is replaced, and when it goes on there are two: E1.
            Self::StoreStopped if climate.sentinels => between(100, 500),
            Self::StoreStopped => between(200, 4000),
            Self::StoreKilled => between(100, 2500),
            Self::StoreFlushed => Duration::ZERO,
            // Until the dead one may come back; the Sentinels need a second or two to name another.
            Self::StoreFailedOver => Duration::from_secs(4),
            Self::BackendKilled(_) => between(300, 6000),
        }
    }

    /// After the remedy, how long it still counts as happening when it comes to what may happen beside it.
    pub fn aftermath(self) -> Duration {
        match self {
            Self::StoreFlushed | Self::StoreFailedOver | Self::StoreKilled => RECOVERY + AFTERMATH,
            Self::ProxyStopped(_) | Self::CutFromStore(_) | Self::BackendKilled(_) => AFTERMATH,
            // TCP sends again what was lost after pauses that double: at worst after as long as the cut lasted.
            Self::CutFromBackend(..) | Self::CutFromClients(_) => AFTERMATH,
            Self::ProxyKilled(_) | Self::StoreStopped | Self::BackendStopped(_) => Duration::ZERO,
        }
    }

    /// Why it must not happen while `other` does; `None` if it may. Only what DESIGN excepts from I1, and what is one
    /// blow at the same part. Two proxies may be cut off at once, Redis may be killed while they are, and so on.
    pub fn excluded_by(self, other: Self, climate: Climate) -> Option<&'static str> {
        if self.parts().any(|part| other.parts().any(|its| part == its)) {
            return Some("one blow at a time at one part");
        }
        self.excepted_beside(other, climate).or_else(|| other.excepted_beside(self, climate))
    }

    fn excepted_beside(self, other: Self, climate: Climate) -> Option<&'static str> {
        let is_absent = matches!(other, Self::ProxyStopped(_) | Self::CutFromStore(_));
        match (self, other) {
            (Self::StoreFlushed | Self::StoreFailedOver, _) if is_absent => {
                Some("E1: the store loses data, and a proxy may miss the whole window in which it is told again")
            }
            (Self::BackendKilled(_), _) if is_absent && !climate.strict => {
                Some("E2: it may be called down while a proxy that does not hear of it reaches it again")
            }
            // The dead proxy's restart sets its keys free, and a move goes on, while a backend that stands still has not
            // yet ended the session. Nobody waits out the close timeout of a proxy that is dead.
            (Self::ProxyKilled(_), Self::BackendStopped(_)) => Some("E6: a backend that does not end sessions in time"),
            _ => None,
        }
    }

    fn parts(self) -> impl Iterator<Item = Part> {
        let (one, two) = match self {
            Self::ProxyKilled(proxy)
            | Self::ProxyStopped(proxy)
            | Self::CutFromStore(proxy)
            | Self::CutFromClients(proxy) => (Part::Proxy(proxy), None),
            Self::CutFromBackend(proxy, backend) => (Part::Proxy(proxy), Some(Part::Backend(backend))),
            Self::StoreStopped | Self::StoreKilled | Self::StoreFlushed | Self::StoreFailedOver => (Part::Store, None),
            Self::BackendKilled(backend) | Self::BackendStopped(backend) => (Part::Backend(backend), None),
        };
        std::iter::once(one).chain(two)
    }
}
