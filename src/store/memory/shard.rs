//! A shard's state, what every call checks first, and the calls that concern proxies: hello, heartbeat, held, table.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use super::super::Left;
use super::super::Past;
use super::super::clock::advance;
use super::super::order::{Order, Outcome};
use super::super::request::{
    Beat, Call, Heartbeat, Hello, KICKS, Kick, PAGE, Reply, Request, Row, SETTLES, Table, Welcome,
};
use super::Moment;
use super::binding::{Binding, Tally};
use super::errands::Errand;
use super::marks::Marks;
use super::moves::Attention;
use crate::model::{BackendId, Generation, Incarnation, Key};

/// The most incarnations that one heartbeat is asked to reap.
const CHORES: usize = 10;

/// Bindings that were forgotten are swept out this often, by the shard's clock.
const SWEEP: u64 = 3_600_000;

/// One shard. The fields are the keys of `lua/README.md`.
#[derive(Clone, Debug, Default)]
pub(super) struct Shard {
    pub(super) shared: Option<Shared>,
    /// Who has not yet re-asserted in this recovery window.
    asserting: BTreeSet<Incarnation>,
    /// When each lease ends.
    pub(super) leases: BTreeMap<Incarnation, u64>,
    /// When each orphan's keys are freed.
    pub(super) orphans: BTreeMap<Incarnation, u64>,
    pub(super) proxies: BTreeMap<Incarnation, Proxy>,
    /// The keys that each incarnation holds.
    pub(super) held: BTreeMap<Incarnation, BTreeSet<Key>>,
    /// The keys whose sessions each incarnation must close.
    pub(super) kicks: BTreeMap<Incarnation, BTreeSet<Key>>,
    pub(super) bindings: HashMap<Key, Binding>,
    /// Sessions per backend, without those of orphans.
    pub(super) load: Tally,
    /// Keys with sessions per backend.
    pub(super) users: Tally,
    /// How often each backend was chosen for a key that was given a home, since the table changed.
    pub(super) placed: Tally,
    pub(super) table: Table,
    /// Keys that are being moved, and when somebody should look after each.
    pub(super) moving: Attention,
    /// When the next of many moves may begin, in microseconds of the shard's clock.
    pub(super) paced: u64,
    pub(super) marks: HashMap<Key, Marks>,
    /// Former homes, the latest first.
    pub(super) pasts: HashMap<Key, VecDeque<Past>>,
    pub(super) errands: BTreeMap<u64, Errand>,
    /// The number of the last errand, also if that is over.
    pub(super) last_errand: u64,
    /// See [`super::super::Census::splits`].
    pub(super) splits: u64,
    /// Who should send a heartbeat now; taken after each call.
    pub(super) nudged: BTreeSet<Incarnation>,
    swept: u64,
}

/// The shard hash.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// The server's run when the last recovery window opened.
    run: String,
    pub(super) epoch: u64,
    /// The shard's time at the last heartbeat, and what the server's clock showed then.
    clock: u64,
    seen: u64,
    /// The earliest end of the recovery window.
    until: u64,
}

impl Shared {
    pub(super) fn now(&self, moment: &Moment<'_>) -> u64 {
        advance(self.clock, self.seen, moment.server_ms)
    }
}

/// Why a call is not carried out. See [`Reply`].
enum Refused {
    Lost,
    Stale,
}

/// What is known of one incarnation.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxy {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) started: u64,
    /// The last call that was applied.
    seq: u64,
    pub(super) epoch: u64,
    /// It was told to re-assert and has not said yet that it has.
    owes: bool,
    /// Its sessions per backend.
    pub(super) at: Tally,
    /// The backends that it finds dead.
    pub(super) failing: BTreeSet<BackendId>,
    /// Keys that it still has to move, per backend.
    pub(super) left: Vec<Left>,
    /// The last errand that it has taken on.
    pub(super) errand: u64,
}

impl Shard {
    /// A shard that has just been created and has therefore nothing to recover.
    pub(super) fn opened(moment: &Moment<'_>) -> Self {
        let clock = moment.server_ms;
        let shared = Shared { run: moment.run.clone(), epoch: 1, clock, seen: clock, until: 0 };
        Self { shared: Some(shared), ..Self::default() }
    }

    pub(super) fn apply(&mut self, call: &Call, moment: &Moment<'_>) -> Reply {
        let inc = &call.incarnation;
        if let Request::Hello(hello) = &call.request {
            return self.hello(inc, call.seq, hello, moment);
        }
        let now = match self.enter(call, moment) {
            Ok(now) => now,
            Err(Refused::Lost) => return Reply::Lost,
            Err(Refused::Stale) => return Reply::Stale,
        };
        match &call.request {
            Request::Heartbeat(beat) => self.heartbeat(inc, beat, now, moment),
            Request::Claim(claim) => Reply::Claim(self.claim(inc, claim, now, moment.rules)),
            Request::Declare(lines) => Reply::Declare(self.declare(inc, lines, now, moment.rules)),
            Request::Held { cursor } => self.held_page(inc, cursor),
            Request::Reap { orphan } => Reply::Reap(self.reap(orphan, now, moment.rules)),
            Request::Forget { dead } => Reply::Reap(self.forget(dead, now)),
            Request::Table { based_on, rows } => Reply::Table(self.replace_table(*based_on, rows, now)),
            Request::Hello(_) => Reply::Stale, // answered above
        }
    }

    pub(super) fn carry_out(&mut self, order: &Order, moment: &Moment<'_>) -> Outcome {
        let Some(now) = self.shared.as_ref().map(|shared| shared.now(moment)) else {
            return Outcome::Recovering(moment.rules.recovery);
        };
        let recovering = self.recovering_ms(now, moment);
        match order {
            // While it is not known who holds what, nothing may be taken for empty.
            Order::Move(_) | Order::Settle(_) if recovering > 0 => Outcome::Recovering(recovering),
            // Nor may the table be changed while somebody may still bring the one of before the loss.
            Order::Table { .. } if recovering > 0 => Outcome::Recovering(recovering),
            Order::Move(order) => Outcome::Move(self.begin_move(order, now, moment.rules)),
            Order::Settle(order) => Outcome::Settle(self.settle(order, now, moment.rules)),
            Order::Mark(order) => Outcome::Mark(self.mark(order, now, moment.rules.remember)),
            Order::Table { based_on, rows } => Outcome::Table(self.replace_table(*based_on, rows, now)),
            Order::Copy(table) => self.copy_table(table, now),
            Order::Lift { seen, to } => Outcome::Lifted(self.lift_table(*seen, *to)),
            Order::Ask(order) => self.ask(order, now),
            Order::Answer { errand, incarnation, text } => self.answer(*errand, incarnation, text),
            Order::Answers { errand } => self.answers(*errand, now),
        }
    }

    /// Rule 2: a call counts only if caller and store share a past and the call before it was applied.
    fn enter(&mut self, call: &Call, moment: &Moment<'_>) -> Result<u64, Refused> {
        let shared = self.shared.as_ref().filter(|shared| shared.run == call.run).ok_or(Refused::Lost)?;
        if !self.leases.contains_key(&call.incarnation) {
            return Err(Refused::Lost);
        }
        let proxy = self.proxies.get_mut(&call.incarnation).ok_or(Refused::Lost)?;
        if proxy.epoch != shared.epoch || proxy.seq.saturating_add(1) < call.seq {
            return Err(Refused::Lost);
        }
        if call.seq <= proxy.seq {
            return Err(Refused::Stale);
        }
        proxy.seq = call.seq;
        Ok(shared.now(moment))
    }

    fn hello(&mut self, inc: &Incarnation, seq: u64, hello: &Hello, moment: &Moment<'_>) -> Reply {
        if self.proxies.get(inc).is_some_and(|known| seq <= known.seq) {
            return Reply::Stale;
        }
        let shared = self.wake(moment);
        let (now, epoch, run) = (shared.clock, shared.epoch, shared.run.clone());

        let known = self.proxies.get(inc);
        let assert = known.is_none_or(|p| p.epoch != epoch || p.seq < hello.acked || p.owes);
        let proxy = self.proxies.entry(inc.clone()).or_insert_with(|| Proxy { started: now, ..Proxy::default() });
        proxy.name.clone_from(&hello.name);
        proxy.version.clone_from(&hello.version);
        proxy.errand = hello.errand;
        (proxy.seq, proxy.epoch, proxy.owes) = (seq, epoch, assert);
        self.revive(inc);
        self.leases.insert(inc.clone(), now + moment.rules.lease);
        if assert && self.recovering_ms(now, moment) > 0 {
            self.asserting.insert(inc.clone());
        }
        let peers = self.leases.iter().filter(|(other, end)| *other != inc && **end > now).count();
        Reply::Hello(Welcome {
            run,
            table_version: self.table.version,
            assert,
            recovering_ms: self.recovering_ms(now, moment),
            peers: u32::try_from(peers).unwrap_or(u32::MAX),
        })
    }

    /// Advances the clock; opens a recovery window if the store has no memory or another run than it remembers.
    fn wake(&mut self, moment: &Moment<'_>) -> &Shared {
        let server = moment.server_ms;
        let old = self.shared.take();
        let (epoch, clock) = old.as_ref().map_or((0, server), |old| (old.epoch, old.now(moment)));
        let shared = match old {
            Some(old) if old.run == moment.run => Shared { clock, seen: server, ..old },
            _ => {
                self.renew_all(clock, moment);
                let until = clock + moment.rules.recovery;
                Shared { run: moment.run.clone(), epoch: epoch + 1, clock, seen: server, until }
            }
        };
        self.shared.insert(shared)
    }

    /// The last renewal of anybody, also of who became an orphan since, may be among the writes that were lost.
    fn renew_all(&mut self, now: u64, moment: &Moment<'_>) {
        self.asserting.clear();
        self.leases.values_mut().for_each(|end| *end = now + moment.rules.lease);
        self.orphans.values_mut().for_each(|due| *due = now + moment.rules.lease + moment.rules.orphan_grace);
    }

    /// An orphan that returns: its sessions count as load again.
    fn revive(&mut self, inc: &Incarnation) {
        if self.orphans.remove(inc).is_some()
            && let Some(proxy) = self.proxies.get(inc)
        {
            proxy.at.iter().for_each(|(backend, sessions)| self.load.add(backend, sessions));
        }
    }

    /// Takes a lease away: the sessions leave the load, but the keys stay bound by them until `due`.
    pub(super) fn orphan(&mut self, inc: &Incarnation, due: u64) {
        self.leases.remove(inc);
        self.orphans.insert(inc.clone(), due);
        self.asserting.remove(inc);
        if let Some(proxy) = self.proxies.get(inc) {
            proxy.at.iter().for_each(|(backend, sessions)| self.load.subtract(backend, sessions));
        }
    }

    /// How long claims have to wait, at least; 0 if no recovery window is open.
    pub(super) fn recovering_ms(&self, now: u64, moment: &Moment<'_>) -> u64 {
        self.window(now, moment.rules.recovery, moment.rules.recovery_max)
    }

    pub(super) fn window(&self, now: u64, recovery: u64, recovery_max: u64) -> u64 {
        let until = self.shared.as_ref().map_or(0, |shared| shared.until);
        if now < until {
            return until - now;
        }
        u64::from(!self.asserting.is_empty() && now + recovery < until + recovery_max)
    }

    fn heartbeat(&mut self, inc: &Incarnation, beat: &Heartbeat, now: u64, moment: &Moment<'_>) -> Reply {
        if let Some(shared) = &mut self.shared {
            (shared.clock, shared.seen) = (now, moment.server_ms);
        }
        self.leases.insert(inc.clone(), now + moment.rules.lease);
        if beat.asserted {
            self.asserting.remove(inc);
            if let Some(proxy) = self.proxies.get_mut(inc) {
                proxy.owes = false;
            }
        }
        if let Some(proxy) = self.proxies.get_mut(inc) {
            proxy.left.clone_from(&beat.left);
            proxy.errand = beat.errand;
        }
        self.vote(inc, beat.failing.as_ref(), now, moment.rules);
        self.sweep(now, moment.rules.remember);
        let newer = self.table.version > beat.table_version;
        Reply::Heartbeat(Beat {
            table_version: self.table.version,
            table: newer.then(|| self.table.clone()),
            kicks: self.kicks_of(inc, now, moment.rules.remember),
            chores: self.chores(now),
            moves: self.moves_to_settle(now),
            errands: self.errands_after(beat.errand, now),
            recovering_ms: self.recovering_ms(now, moment),
        })
    }

    fn kicks_of(&self, inc: &Incarnation, now: u64, remember: u64) -> Vec<Kick> {
        let keys = self.kicks.get(inc).into_iter().flatten().take(KICKS);
        keys.map(|key| self.kick(key, now, remember)).collect()
    }

    /// What is said to somebody who has sessions of `key` that must end.
    pub(super) fn kick(&self, key: &Key, now: u64, remember: u64) -> Kick {
        let home = self.bindings.get(key).filter(|home| !home.is_forgotten(now, remember));
        Kick {
            key: key.clone(),
            backend: home.map(|home| home.backend.clone()),
            generation: home.map_or(Generation(0), |home| home.generation),
        }
    }

    /// Leases that are over, then orphans that are due; each the oldest first.
    fn chores(&self, now: u64) -> Vec<Incarnation> {
        [&self.leases, &self.orphans].into_iter().flat_map(|times| over(times, now)).take(CHORES).collect()
    }

    fn moves_to_settle(&self, now: u64) -> Vec<Key> {
        let mut due: Vec<_> = self.moving.iter().filter(|(_, at)| **at <= now).map(|(key, at)| (*at, key)).collect();
        due.sort();
        due.into_iter().take(SETTLES).map(|(_, key)| key.clone()).collect()
    }

    /// Everybody should hear of it, and who is placed from now on is counted anew.
    pub(super) fn table_has_changed(&mut self) {
        self.placed = Tally::default();
        self.nudge_all();
    }

    pub(super) fn nudge_all(&mut self) {
        self.nudged.extend(self.leases.keys().cloned());
    }

    fn sweep(&mut self, now: u64, remember: u64) {
        if now >= self.swept + SWEEP {
            self.swept = now;
            self.marks.retain(|_, marks| marks.pin.is_some() || marks.holds(now));
            self.pasts.retain(|_, pasts| pasts.front().is_some_and(|past| past.until.0 + remember > now));
            self.bindings.retain(|_, binding| !binding.is_forgotten(now, remember));
        }
    }

    /// The cursor is the last key of the page before, behind a sign that no first cursor ("0") has.
    fn held_page(&self, inc: &Incarnation, cursor: &str) -> Reply {
        let from = cursor.strip_prefix('>').map_or(Bound::Unbounded, |last| Bound::Excluded(Key::new(last)));
        let all = self.held.get(inc).into_iter();
        let mut rest = all.flat_map(|keys| keys.range((from.clone(), Bound::Unbounded))).peekable();
        let page: Vec<Key> = rest.by_ref().take(PAGE).cloned().collect();
        let next = rest.peek().and(page.last()).map(|last| format!(">{last}"));
        let counted = |key: Key| {
            let sessions = self.bindings.get(&key).map_or(0, |binding| binding.held_by(inc));
            (key, sessions)
        };
        Reply::Held(page.into_iter().map(counted).collect(), next)
    }

    fn replace_table(&mut self, based_on: u64, rows: &BTreeMap<BackendId, Row>, now: u64) -> Result<u64, Table> {
        if self.table.version != based_on {
            return Err(self.table.clone());
        }
        let version = now.max(based_on.saturating_add(1));
        self.table = Table { version, rows: self.table.succeeded_by(rows.clone(), version) };
        self.table_has_changed();
        Ok(version)
    }

    fn lift_table(&mut self, seen: u64, to: u64) -> bool {
        let lifts = self.table.version == seen && seen > 0 && to > seen;
        if lifts {
            self.table.version = to;
            self.table_has_changed();
        }
        lifts
    }

    /// A copy is as it is given, but for the times: `lua/copy.lua` says which, and why that is right.
    fn copy_table(&mut self, given: &Table, now: u64) -> Outcome {
        if given.version > self.table.version {
            let mut table = given.clone();
            for (name, row) in &mut table.rows {
                match self.table.version {
                    0 => row.begin_no_later_than(now),
                    _ => row.continue_from(self.table.rows.get(name), now),
                }
            }
            self.table = table;
            self.table_has_changed();
        }
        Outcome::Done
    }
}

fn over(times: &BTreeMap<Incarnation, u64>, now: u64) -> Vec<Incarnation> {
    let mut over: Vec<_> = times.iter().filter(|(_, at)| **at <= now).map(|(inc, at)| (*at, inc.clone())).collect();
    over.sort();
    over.into_iter().map(|(_, inc)| inc).collect()
}
