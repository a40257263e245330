//! Runs the tasks of a whole fleet, one poll at a time, in an order that the dice choose: the same seed makes the same
//! order. The tasks of one proxy can be held still, or dropped, while the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use homing::model::{Task, Tasks};
use tokio::task::unconstrained;

use super::{Dice, clock};

/// Whose task: 0 for the world, else a run of a proxy.
pub type Owner = usize;
/// The world, whose tasks are never held still.
pub const WORLD: Owner = 0;

/// Polls at one instant after which nobody believes that it will ever pass.
const LIVELOCK: u64 = 200_000;

/// Clones are the same executor.
#[derive(Clone)]
pub struct Executor(Arc<Core>);

struct Core {
    dice: Dice,
    state: Mutex<State>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Entry>,
    last: u64,
    frozen: BTreeSet<Owner>,
    dead: BTreeSet<Owner>,
    /// Tasks of the frozen that somebody has woken.
    held: BTreeMap<Owner, BTreeSet<u64>>,
    polls: u64,
    /// Sums up all that has happened: which task was polled when.
    print: u64,
    /// Polls since time has moved.
    here: (u64, u64),
}

struct Entry {
    owner: Owner,
    /// Out of its place while it is polled.
    task: Option<Task>,
    waker: Waker,
}

/// Tasks that were woken. In order of their numbers: who wakes several must not choose the order.
#[derive(Default)]
struct Ready {
    tasks: Mutex<BTreeSet<u64>>,
    runner: Mutex<Option<Waker>>,
}

struct Bell {
    number: u64,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.ready.tasks).insert(self.number);
        if let Some(runner) = lock(&self.ready.runner).take() {
            runner.wake();
        }
    }
}

impl Executor {
    pub fn new(dice: Dice) -> Self {
        Self(Arc::new(Core { dice, state: Mutex::default(), ready: Arc::default() }))
    }

    /// Runs a task of that owner from now on.
    pub fn spawn(&self, owner: Owner, task: impl Future<Output = ()> + Send + 'static) {
        self.start(owner, Box::pin(task));
    }

    /// What starts the tasks of a proxy.
    pub fn tasks_of(&self, owner: Owner) -> Tasks {
        let executor = self.clone();
        Tasks::new(move |task| executor.start(owner, task))
    }

    fn start(&self, owner: Owner, task: Task) {
        let mut state = self.state();
        if state.dead.contains(&owner) {
            return; // the last wish of a task that was dropped
        }
        state.last += 1;
        let number = state.last;
        let waker = Waker::from(Arc::new(Bell { number, ready: self.0.ready.clone() }));
        state.tasks.insert(number, Entry { owner, task: Some(task), waker: waker.clone() });
        waker.wake();
    }

    /// None of its tasks runs on, until it thaws.
    pub fn freeze(&self, owner: Owner) {
        self.state().frozen.insert(owner);
    }

    pub fn thaw(&self, owner: Owner) {
        let mut state = self.state();
        state.frozen.remove(&owner);
        let held = state.held.remove(&owner).unwrap_or_default();
        let wakers: Vec<Waker> =
            held.iter().filter_map(|number| state.tasks.get(number)).map(|e| e.waker.clone()).collect();
        drop(state);
        wakers.iter().for_each(Waker::wake_by_ref);
    }

    /// kill -9: drops all of its tasks.
    pub fn kill(&self, owner: Owner) {
        let mut state = self.state();
        let dead: Vec<u64> = state.tasks.iter().filter(|(_, entry)| entry.owner == owner).map(|(n, _)| *n).collect();
        let dead: Vec<Entry> = dead.iter().filter_map(|number| state.tasks.remove(number)).collect();
        state.held.remove(&owner);
        state.dead.insert(owner);
        drop(state);
        let before = clock::enter(owner);
        drop(dead);
        clock::enter(before);
    }

    /// Runs everything until the world's `story` is told. An error: time does not pass any more.
    pub async fn run(&self, story: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
        let over = Arc::new(Mutex::new(false));
        let told = over.clone();
        self.spawn(WORLD, async move {
            story.await;
            *lock(&told) = true;
        });
        let executor = self.clone();
        poll_fn(move |cx| executor.step_until(cx, &over)).await
    }

    /// Polls so far, and what sums up their order.
    pub fn print(&self) -> (u64, u64) {
        let state = self.state();
        (state.polls, state.print)
    }

    fn step_until(&self, cx: &mut Context<'_>, over: &Mutex<bool>) -> Poll<Result<(), String>> {
        loop {
            *lock(&self.0.ready.runner) = None;
            let Some((number, owner, mut task, waker)) = self.choose() else {
                *lock(&self.0.ready.runner) = Some(cx.waker().clone());
                // Somebody may have been woken between the look and the note.
                if lock(&self.0.ready.tasks).is_empty() {
                    return Poll::Pending;
                }
                continue;
            };
            if self.state().here.1 > LIVELOCK {
                return Poll::Ready(Err(format!("livelock: task {number} of {owner}")));
            }
            let before = clock::enter(owner);
            let done = std::pin::pin!(unconstrained(&mut task)).poll(&mut Context::from_waker(&waker)).is_ready();
            if done {
                drop(task);
                self.state().tasks.remove(&number);
            } else if let Some(entry) = self.state().tasks.get_mut(&number) {
                entry.task = Some(task);
            }
            clock::enter(before);
            if *lock(over) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes a task that was woken and may run.
    fn choose(&self) -> Option<(u64, Owner, Task, Waker)> {
        let mut state = self.state();
        let state = &mut *state;
        loop {
            let number = {
                let mut ready = lock(&self.0.ready.tasks);
                let number = *ready.iter().nth(self.0.dice.index(ready.len())?)?;
                ready.remove(&number);
                number
            };
            let Some(entry) = state.tasks.get_mut(&number) else { continue };
            if state.frozen.contains(&entry.owner) {
                state.held.entry(entry.owner).or_default().insert(number);
                continue;
            }
            let Some(task) = entry.task.take() else { continue };
            let now = clock::now();
            state.polls += 1;
            state.here = if state.here.0 == now { (now, state.here.1 + 1) } else { (now, 0) };
            state.print = (state.print ^ (now << 20) ^ number).wrapping_mul(0x0100_0000_01b3);
            return Some((number, entry.owner, task, entry.waker.clone()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
