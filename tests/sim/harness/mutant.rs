//! A store that follows another protocol, for the faults that no rule can express: it changes the calls on their way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use homing::model::{Incarnation, Key};
use homing::store::clock::{STEP, Simulated};
use homing::store::{BindingView, Call, Hello, Home, Reply, Request};

use super::plan::Mutation;

pub struct Mutant {
    mutation: Mutation,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    /// What each proxy believes to have told of each key.
    told: BTreeMap<(Incarnation, Key), u32>,
    /// The last call of each that was applied.
    applied: BTreeMap<Incarnation, u64>,
    saved: BTreeMap<Incarnation, u64>,
    run: String,
    ghosts: u64,
}

/// How a server's clock is set.
pub struct Step<'a> {
    pub server: &'a Simulated,
    /// What it showed.
    pub from: u64,
    pub by: i64,
}

impl Mutant {
    pub fn new(mutation: Mutation) -> Self {
        Self { mutation, state: Mutex::default() }
    }

    /// [`Mutation::Increments`]: what a proxy sends is how many more there are than when it last told.
    pub fn sent(&self, calls: &[Call]) -> Vec<Call> {
        let mut calls = calls.to_vec();
        if self.mutation != Mutation::Increments {
            return calls;
        }
        for call in &mut calls {
            let (inc, mut state) = (call.incarnation.clone(), self.state());
            let mut change = |key: &Key, count: &mut u32| {
                let before = state.told.insert((inc.clone(), key.clone()), *count).unwrap_or(0);
                *count = count.wrapping_sub(before);
            };
            match &mut call.request {
                Request::Claim(claim) => change(&claim.key, &mut claim.have),
                Request::Declare(lines) => lines.iter_mut().for_each(|line| change(&line.key, &mut line.count)),
                _ => {}
            }
        }
        calls
    }

    /// [`Mutation::Increments`]: the proxy has heard that it has one more.
    pub fn heard(&self, calls: &[Call], replies: &[Reply]) {
        for (call, reply) in calls.iter().zip(replies) {
            if let (Request::Claim(claim), Reply::Claim(Home::Bound { .. })) = (&call.request, reply) {
                *self.state().told.entry((call.incarnation.clone(), claim.key.clone())).or_default() += 1;
            }
        }
    }

    /// [`Mutation::Increments`]: what the store has, and the difference.
    pub fn received(&self, call: &Call, binding: impl Fn(&Key) -> Option<BindingView>) -> Call {
        let mut call = call.clone();
        if self.mutation != Mutation::Increments {
            return call;
        }
        let inc = call.incarnation.clone();
        let add = |key: &Key, count: &mut u32| {
            let holders = binding(key).map(|view| view.holders).unwrap_or_default();
            let stored = holders.iter().find(|(holder, _)| *holder == inc).map_or(0, |(_, held)| *held);
            *count = stored.saturating_add_signed(count.cast_signed());
        };
        match &mut call.request {
            Request::Claim(claim) => add(&claim.key, &mut claim.have),
            Request::Declare(lines) => lines.iter_mut().for_each(|line| add(&line.key, &mut line.count)),
            _ => {}
        }
        call
    }

    /// [`Mutation::GapsAccepted`]: calls that fill the gap before that one.
    pub fn missing_before(&self, call: &Call) -> Vec<Call> {
        let state = self.state();
        let known = state.applied.get(&call.incarnation).copied();
        let Some(last) = known.filter(|_| self.mutation == Mutation::GapsAccepted && call.run == state.run) else {
            return Vec::new();
        };
        let missing = |seq| Call { seq, request: Request::Held { cursor: "0".to_owned() }, ..call.clone() };
        (last + 1..call.seq).map(missing).collect()
    }

    pub fn applied(&self, call: &Call, reply: &Reply) {
        let mut state = self.state();
        match reply {
            Reply::Lost | Reply::Stale => return,
            Reply::Hello(welcome) => state.run.clone_from(&welcome.run),
            _ => {}
        }
        state.applied.insert(call.incarnation.clone(), call.seq);
    }

    pub fn save(&self) {
        let mut state = self.state();
        state.saved = state.applied.clone();
    }

    pub fn roll_back(&self) {
        let mut state = self.state();
        state.applied = state.saved.clone();
    }

    /// [`Mutation::ServersClock`]: the shard's clock follows a step of the server's. A ghost's hellos carry it there, for
    /// none of them can carry it further than [`STEP`].
    pub fn stepped(&self, step: &Step<'_>, exchange: impl Fn(&Call) -> Reply) {
        if self.mutation != Mutation::ServersClock || step.by <= 0 {
            return;
        }
        let mut state = self.state();
        state.ghosts += 1;
        let incarnation = Incarnation::new(format!("ghost{}", state.ghosts));
        drop(state);
        let hello = Hello { acked: 0, errand: 0, name: "ghost".to_owned(), version: String::new() };
        let mut call = Call { incarnation, run: String::new(), seq: 0, request: Request::Hello(hello) };
        for count in 1..=step.by.unsigned_abs() / STEP {
            step.server.set_ms(step.from + count * STEP);
            call.seq = count;
            if let Reply::Hello(welcome) = exchange(&call) {
                call.run = welcome.run;
            }
        }
        let dead = call.incarnation.clone();
        exchange(&Call { seq: call.seq + 1, request: Request::Forget { dead }, ..call });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
