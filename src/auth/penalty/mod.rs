//! What failed logins cost, over the whole fleet: a delay before the next password is looked at.
//!
//! `attempt.rs` is who tries, and under which names that is noted; `delay.rs` how long who failed so often waits; `seats.rs`
//! counts the sessions that a user has from one address. Failures are sets of traces: at the address a trace tells users and
//! passwords apart, at the user addresses and passwords. So the same wrong password counts once, and a success takes away
//! what that user failed at that address and nothing else. While the store is away, or without a secret that the fleet
//! shares, the same is noted in this process.

mod attempt;
mod delay;
mod seats;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ipnet::IpNet;

pub use self::attempt::{Attempt, Questions};
pub use self::delay::{of_address, of_user};
pub use self::seats::{Seat, Seats};
use super::cache::seal::{Purpose, Seals};
use crate::model::Secret;
use crate::store::Rules;
use crate::store::memory::Memory;
use crate::store::notes::{Note, Noted, Notes, Trace};

/// Most failures that are kept of one address or user. The delay stops growing long before.
const MOST: u32 = 64;
/// A known address is noted again when that is so long ago.
const RENEW: Duration = Duration::from_secs(24 * 3600);
/// The window of the login rate.
const MINUTE: Duration = Duration::from_secs(60);

/// How failures are counted and what they cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PenaltyRules {
    /// How long after the last new failure all are forgotten; at least a millisecond.
    pub forget: Duration,
    /// The longest delay; zero for none ever.
    pub max: Duration,
    /// How long an address is known from which a user has logged in; zero for never.
    pub known: Duration,
    /// How many bits of an IPv6 address are one client's, at most 128.
    pub ipv6_prefix: u8,
    /// Where many users come from, such as a webmail: what it says of its clients is believed and counts instead.
    pub exempt: Vec<IpNet>,
    /// Logins of an address within a minute; 0 for any number.
    pub logins_per_minute: u32,
}

/// The fleet's memory of failed logins.
pub struct Penalties {
    board: Board,
    seals: Arc<Seals>,
    rules: ArcSwap<PenaltyRules>,
    counters: Counters,
}

/// Where all this is noted: in the store, or here while that is away.
#[derive(Clone)]
struct Board {
    fleet: Option<Arc<dyn Notes>>,
    here: Memory,
    shards: u16,
}

#[derive(Debug, Default)]
struct Counters {
    delayed: AtomicU64,
    failed: AtomicU64,
    forgiven: AtomicU64,
    too_fast: AtomicU64,
    alone: AtomicU64,
}

/// How much the penalties have done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PenaltyStats {
    /// Logins that had to wait.
    pub delayed: u64,
    /// Failures that were noted.
    pub failed: u64,
    /// Successes that took failures away.
    pub forgiven: u64,
    /// Logins above the rate.
    pub too_fast: u64,
    /// Looks at this process's own notes, because the store could not be asked.
    pub alone: u64,
}

/// What was found about somebody who tries to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How long to wait before the password is looked at.
    pub delay: Duration,
    /// There were more logins from the address than there may be.
    pub too_fast: bool,
    /// What a success would take away: at the user, and at the address.
    forgiven: (Vec<Trace>, Vec<Trace>),
    /// A success would make the address known, or known for longer.
    renews: bool,
}

impl Penalties {
    /// Noted in `fleet`, in a store of so many shards, under names that only those know who have the secret. `None` without a
    /// secret that others have, too.
    pub fn new(fleet: Option<Arc<dyn Notes>>, shards: u16, seals: Arc<Seals>, rules: PenaltyRules) -> Self {
        let board = Board { fleet, here: Memory::embedded(Rules::default()), shards };
        Self { board, seals, rules: ArcSwap::from_pointee(rules), counters: Counters::default() }
    }

    /// From now on by these rules.
    pub fn replace(&self, rules: PenaltyRules) {
        self.rules.store(Arc::new(rules));
    }

    /// How many bits of an IPv6 address are one client's.
    pub fn ipv6_prefix(&self) -> u8 {
        self.rules.load().ipv6_prefix
    }

    /// The address that counts: a client's own, or what an exempt network announces. `None` if nobody can tell.
    pub fn counted(&self, client: IpAddr, announced: Option<IpAddr>) -> Option<IpAddr> {
        let rules = self.rules.load();
        let is_exempt = |address: &IpAddr| rules.exempt.iter().any(|network| network.contains(address));
        if is_exempt(&client) { announced.filter(|address| !is_exempt(address)) } else { Some(client) }
    }

    /// What has to be asked about an attempt, for whoever asks more of the same shard in one round trip.
    pub fn questions(&self, attempt: &Attempt<'_>) -> Questions {
        Questions::about(attempt, &self.seals, &self.rules.load(), self.board.shards)
    }

    /// What the answers say: those about the user and those about the address, each in the order of the questions.
    pub fn read(&self, questions: &Questions, user: &[Noted], address: &[Noted]) -> Standing {
        let rules = self.rules.load();
        let of_user = attempt::traces(user, 0);
        let of_address = attempt::traces(address, 0);
        let now = seconds();
        let known_at = user.iter().filter_map(attempt::instant).max();
        let is_known = known_at.is_some_and(|at| now.saturating_sub(at) < rules.known.as_secs());
        let by_user = if is_known { Duration::ZERO } else { delay::of_user(of_user.len(), rules.max) };
        let delay = by_user.max(delay::of_address(of_address.len(), rules.max));
        let count = address.iter().find_map(attempt::count).unwrap_or_default();
        let own = |traces: &[Trace], mark: [u8; 8]| -> Vec<Trace> {
            traces.iter().copied().filter(|trace| trace.0.starts_with(&mark)).collect()
        };
        Standing {
            delay,
            too_fast: rules.logins_per_minute > 0 && count > rules.logins_per_minute,
            forgiven: (own(of_user, questions.address_mark), own(of_address, questions.user_mark)),
            renews: !questions.known_names.is_empty()
                && rules.known > Duration::ZERO
                && known_at.is_none_or(|at| now.saturating_sub(at) >= RENEW.as_secs().min(rules.known.as_secs() / 2)),
        }
    }

    /// How an attempt stands, in one round trip for the user and one for the address at the same time.
    pub async fn look(&self, attempt: &Attempt<'_>) -> Standing {
        let nothing_counts = {
            let rules = self.rules.load();
            rules.max.is_zero() && rules.logins_per_minute == 0
        };
        if nothing_counts {
            return Standing::default();
        }
        let questions = self.questions(attempt);
        let (user, address) = tokio::join!(self.ask(&questions.user), async {
            match &questions.address {
                Some(about) => self.ask(about).await,
                None => Vec::new(),
            }
        });
        let standing = self.read(&questions, &user, &address);
        if !standing.delay.is_zero() {
            self.counters.delayed.fetch_add(1, Ordering::Relaxed);
        }
        if standing.too_fast {
            self.counters.too_fast.fetch_add(1, Ordering::Relaxed);
        }
        standing
    }

    async fn ask(&self, (shard, notes): &(u16, Vec<Note>)) -> Vec<Noted> {
        let (answers, alone) = self.board.exchange(*shard, notes).await;
        if alone {
            self.counters.alone.fetch_add(1, Ordering::Relaxed);
        }
        answers
    }

    /// Notes a failure, at the user and at the address, before the client hears of it: so that it cannot try again before.
    pub async fn failed(&self, attempt: &Attempt<'_>) {
        let rules = self.rules.load_full();
        if rules.max.is_zero() {
            return;
        }
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        let questions = self.questions(attempt);
        let (of_user, of_address) = questions.traces(attempt, &self.seals);
        let ttl = millis(rules.forget);
        let leave = |name, trace| [Note::Leave { name, trace, ttl, most: MOST }];
        let user = leave(questions.user_name, of_user);
        tokio::join!(self.board.exchange(questions.user.0, &user), async {
            if let (Some(name), Some((shard, _))) = (questions.address_name, &questions.address) {
                self.board.exchange(*shard, &leave(name, of_address)).await;
            }
        });
    }

    /// Takes away what this user failed at this address, and makes the address known; without waiting, and only if there
    /// is something to do.
    pub fn succeeded(&self, attempt: &Attempt<'_>, standing: &Standing) {
        let questions = self.questions(attempt);
        let (user, address) = standing.forgiven.clone();
        if !(user.is_empty() && address.is_empty()) {
            self.counters.forgiven.fetch_add(1, Ordering::Relaxed);
        }
        let mut notes = Vec::new();
        if !user.is_empty() {
            notes.push(Note::Wipe { name: questions.user_name, traces: user });
        }
        if let Some(name) = questions.known_names.first().filter(|_| standing.renews) {
            let (value, ttl) = (seconds().to_be_bytes().to_vec(), millis(self.rules.load().known));
            notes.push(Note::Keep { name: *name, value, ttl });
        }
        let wipes = questions
            .address
            .filter(|_| !address.is_empty())
            .zip(questions.address_name)
            .map(|((shard, _), name)| (shard, vec![Note::Wipe { name, traces: address }]));
        let (board, user) =
            (self.board.clone(), Some((questions.user.0, notes)).filter(|(_, notes)| !notes.is_empty()));
        if user.is_some() || wipes.is_some() {
            tokio::spawn(async move {
                for (shard, notes) in user.into_iter().chain(wipes) {
                    board.exchange(shard, &notes).await;
                }
            });
        }
    }

    /// Forgets all failures of a user, wherever they came from. Says whether there were any.
    pub async fn forgive_user(&self, user: &str) -> bool {
        let nothing = Secret::default();
        let questions = self.questions(&Attempt { user, client: None, password: &nothing });
        self.drop_note(questions.user.0, questions.user_name).await
    }

    /// Forgets all failures at an address, whoever's. Says whether there were any.
    pub async fn forgive_address(&self, client: IpAddr) -> bool {
        let nothing = Secret::default();
        let questions = self.questions(&Attempt { user: "", client: Some(client), password: &nothing });
        match (questions.address, questions.address_name) {
            (Some((shard, _)), Some(name)) => self.drop_note(shard, name).await,
            _ => false,
        }
    }

    async fn drop_note(&self, shard: u16, name: crate::store::notes::Name) -> bool {
        let (answers, _) = self.board.exchange(shard, &[Note::Drop(name)]).await;
        answers == [Noted::Dropped(true)]
    }

    /// How much they have done since the start.
    pub fn stats(&self) -> PenaltyStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PenaltyStats {
            delayed: read(&self.counters.delayed),
            failed: read(&self.counters.failed),
            forgiven: read(&self.counters.forgiven),
            too_fast: read(&self.counters.too_fast),
            alone: read(&self.counters.alone),
        }
    }
}

impl Board {
    /// The answers, and whether they come from this process alone although the fleet has notes.
    async fn exchange(&self, shard: u16, notes: &[Note]) -> (Vec<Noted>, bool) {
        if let Some(fleet) = &self.fleet
            && let Ok(answers) = fleet.exchange(shard, notes).await
        {
            return (answers, false);
        }
        // Memory has no way to fail.
        (self.here.exchange(shard, notes).await.unwrap_or_default(), self.fleet.is_some())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// For names: what the fleet would have under the same, but for its purpose.
fn mark(seals: &Seals, purpose: Purpose, about: &[&[u8]]) -> [u8; 8] {
    let mut mark = [0; 8];
    mark.copy_from_slice(&seals.mark(purpose, about)[..8]);
    mark
}
