//! What failed logins cost, over the whole fleet: a delay before the next password is looked at.
//!
//! `attempt.rs` is who tries, and under which names that is noted; `board.rs` where; `delay.rs` how long who failed so often
//! waits, and `queue.rs` how many at once; `forgive.rs` is what operators do about it; `seats.rs` counts the sessions that a
//! user has from one address. Failures are sets of traces: at the address a trace tells users and passwords apart, at the
//! user addresses and passwords. So the same wrong password counts once, and a success takes away what that user failed at
//! that address and nothing else. While the store is away the same is noted in this process.

mod attempt;
mod board;
mod budget;
mod delay;
mod forgive;
mod queue;
mod seats;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

pub use self::attempt::Attempt;
use self::attempt::{Questions, network};
use self::board::{Board, Part, millis};
use self::budget::Budget;
use self::queue::Queues;
pub use self::queue::Turn;
pub use self::seats::{Seat, Seats};
use super::cache::Recall;
use super::cache::seal::SharedSeals;
use crate::store::notes::{Note, Noted, Notes, Trace};

/// Most failures that are kept of one address or user. The longest delay is reached before.
const MOST: u32 = 16;
/// Most addresses at which a user is known.
const MOST_KNOWN: u32 = 8;
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
    seals: SharedSeals,
    rules: ArcSwap<PenaltyRules>,
    queues: Queues,
    /// Of users, and of addresses.
    budgets: [Budget; 2],
    counters: Counters,
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
    /// Logins that were turned away: above the rate, or too many waited at their address.
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
    /// The user is known at the address.
    is_known: bool,
    /// How many failures there are, of the user and of the address.
    failures: (usize, usize),
}

impl Penalties {
    /// Noted in `fleet`, a store of so many shards, under names that only those know who have the secret.
    pub fn new(fleet: Arc<dyn Notes>, shards: u16, seals: SharedSeals, rules: PenaltyRules) -> Self {
        let (rules, board) = (ArcSwap::from_pointee(rules), Board::new(fleet, shards));
        let (queues, budgets) = (Queues::default(), [(); 2].map(|()| Budget::new()));
        Self { board, seals, rules, queues, budgets, counters: Counters::default() }
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

    /// There is something to look at; otherwise the store need not be asked.
    pub fn is_watching(&self) -> bool {
        let rules = self.rules.load();
        !rules.max.is_zero() || rules.logins_per_minute > 0
    }

    /// How an attempt stands, and what the fleet remembers of the user, in one round trip: the user's shard and that of the
    /// address are asked at the same time. The answers to `recall` are `None` if the store could not be asked.
    pub async fn look(&self, attempt: &Attempt<'_>, recall: Option<&Recall>) -> (Standing, Option<Vec<Noted>>) {
        if !self.is_watching() && recall.is_none() {
            return (Standing::default(), None);
        }
        let rules = self.rules.load_full();
        let questions = self.questions(attempt);
        let mut parts: Vec<Part> =
            [Some(&questions.user), questions.address.as_ref()].into_iter().flatten().cloned().collect();
        let own = parts.len();
        parts.extend(recall.map(|recall| (recall.shard, recall.notes())));
        let mut answers = self.board.ask_fleet(&parts).await;
        let recalled = answers.split_off(own).pop().flatten();
        if answers.iter().any(Option::is_none) {
            self.counters.alone.fetch_add(1, Ordering::Relaxed);
        }
        let mut found = self.board.complete(&parts, answers).await.into_iter();
        let (user, address) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
        let standing = self.read(&questions, &rules, &user, &address);
        self.count(&standing);
        (standing, recalled)
    }

    fn count(&self, standing: &Standing) {
        if !standing.delay.is_zero() {
            self.counters.delayed.fetch_add(1, Ordering::Relaxed);
        }
        if standing.too_fast {
            self.counters.too_fast.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn questions(&self, attempt: &Attempt<'_>) -> Questions {
        Questions::about(attempt, &self.seals.load(), &self.rules.load(), self.board.shards)
    }

    /// What the answers say: those about the user and those about the address, each in the order of the questions.
    fn read(&self, questions: &Questions, rules: &PenaltyRules, user: &[Noted], address: &[Noted]) -> Standing {
        let of_user = attempt::traces(user, 0);
        let of_address = attempt::traces(address, 0);
        let known = questions.known.iter().enumerate();
        let is_known = |(at, (_, trace)): (usize, &(_, Trace))| attempt::traces(user, at + 1).contains(trace);
        let is_known_at_all = known.clone().any(is_known);
        let by_user = if is_known_at_all { Duration::ZERO } else { delay::of_user(of_user.len(), rules.max) };
        let count = address.iter().find_map(attempt::count).unwrap_or_default();
        let own = |traces: &[Trace], mark: [u8; 8]| -> Vec<Trace> {
            traces.iter().copied().filter(|trace| trace.0.starts_with(&mark)).collect()
        };
        Standing {
            delay: by_user.max(delay::of_address(of_address.len(), rules.max)),
            too_fast: rules.logins_per_minute > 0 && count > rules.logins_per_minute,
            forgiven: (own(of_user, questions.address_mark), own(of_address, questions.user_mark)),
            is_known: known.take(1).any(is_known),
            failures: (of_user.len(), of_address.len()),
        }
    }

    /// A place among those who wait at the address; `None` if too many do.
    pub fn queue(&self, client: IpAddr) -> Option<Turn<'_>> {
        let turn = self.queues.join(network(client, self.ipv6_prefix()));
        if turn.is_none() {
            self.counters.too_fast.fetch_add(1, Ordering::Relaxed);
        }
        turn
    }

    /// Notes a failure, at the user and at the address, before the client hears of it: so that it cannot try again before.
    ///
    /// An address with as many failures as are kept leaves nothing more at users: it waits as long as can be already, and else it
    /// could fill the store with names. What is new beyond the budget of the minute is not noted.
    pub async fn failed(&self, attempt: &Attempt<'_>, standing: &Standing) {
        let rules = self.rules.load_full();
        if rules.max.is_zero() {
            return;
        }
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        let questions = self.questions(attempt);
        let (of_user, of_address) = questions.traces(attempt, &self.seals.load());
        let ttl = millis(rules.forget);
        let leave = |shard, name, trace| (shard, vec![Note::Leave { name, trace, ttl, most: MOST }]);
        let user = leave(questions.user.0, questions.user_name, of_user);
        let address = questions.address.zip(questions.address_name);
        let address = address.map(|((shard, _), name)| leave(shard, name, of_address));
        let (had, had_there) = standing.failures;
        let user = (had_there < MOST as usize).then_some((user, had, &self.budgets[0]));
        let address = address.map(|part| (part, had_there, &self.budgets[1]));
        let is_affordable = |had: usize, budget: &Budget| had > 0 || budget.allows(rules.forget);
        let noted = user.into_iter().chain(address).filter(|(_, had, budget)| is_affordable(*had, budget));
        self.board.exchange(&noted.map(|(part, ..)| part).collect::<Vec<_>>()).await;
    }

    /// Takes away what this user failed at this address, and makes the address known; without waiting, and only if there
    /// is something to do.
    pub fn succeeded(&self, attempt: &Attempt<'_>, standing: &Standing) {
        let rules = self.rules.load();
        let (user, address) = standing.forgiven.clone();
        let had_failed = !(user.is_empty() && address.is_empty());
        if rules.max.is_zero() || (standing.is_known && !had_failed) {
            return;
        }
        if had_failed {
            self.counters.forgiven.fetch_add(1, Ordering::Relaxed);
        }
        let questions = self.questions(attempt);
        let mut notes = Vec::new();
        if !user.is_empty() {
            notes.push(Note::Wipe { name: questions.user_name, traces: user });
        }
        if let Some((name, trace)) = questions.known.first().filter(|_| !standing.is_known) {
            let ttl = millis(rules.known);
            notes.push(Note::Leave { name: *name, trace: *trace, ttl, most: MOST_KNOWN });
        }
        let mut parts = vec![(questions.user.0, notes)];
        if let (Some((shard, _)), Some(name), false) = (questions.address, questions.address_name, address.is_empty()) {
            parts.push((shard, vec![Note::Wipe { name, traces: address }]));
        }
        parts.retain(|(_, notes)| !notes.is_empty());
        if !parts.is_empty() {
            let board = self.board.clone();
            tokio::spawn(async move { board.exchange(&parts).await });
        }
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
