//! One login at a proxy, as `session`, `backend` and `relay` lead it, without a byte: found a home, the backend lets it in
//! and relays until somebody ends it; it leaves the ledger after the backend's last word.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use homing::ledger::{Enter, Place, Slot, Stop};
use homing::model::{BackendId, Ending, Key, Refusal};
use homing::placement::Wanted;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::executor::{Owner, WORLD};
use super::plan::{CLOSE, CONNECT, Mutation};
use super::proxy::Proxy;
use super::world::World;

/// How long a relay may look at nothing while nothing flows.
const IDLE: u64 = 2_000;

/// What a client has of its session. Dropped, the client goes.
pub struct Client {
    _stays: oneshot::Sender<()>,
}

/// Logs in at that proxy. The session lives in a task of the proxy's.
pub async fn log_in(world: &Arc<World>, proxy: &Arc<Proxy>, wanted: Wanted) -> Result<Client, Refusal> {
    let (arrived, arrival) = oneshot::channel();
    let (stays, left) = oneshot::channel();
    world.executor.spawn(proxy.owner, lead(world.clone(), proxy.clone(), wanted, arrived, left));
    arrival.await.unwrap_or(Err(Refusal::ShuttingDown))?;
    Ok(Client { _stays: stays })
}

async fn lead(
    world: Arc<World>,
    proxy: Arc<Proxy>,
    wanted: Wanted,
    mut arrived: oneshot::Sender<Result<(), Refusal>>,
    left: oneshot::Receiver<()>,
) {
    let visit = Visit::new(&world, &proxy, &wanted);
    let told = Arc::new(Told::default());
    let found = tokio::select! {
        biased;
        // A client without patience: its login is dropped wherever it stands.
        () = arrived.closed() => return,
        found = find(&world, &proxy, &wanted, told.clone()) => found,
    };
    match found {
        Ok(slot) => stay(visit, slot, &proxy, &wanted, &told, arrived, left).await,
        Err(why) => {
            world.facts().refused += 1;
            world.tell(|| format!("p{} {} refused {why:?}", proxy.owner, wanted.key));
            let _ = arrived.send(Err(why));
        }
    }
}

/// With a home: the backend lets it in, or not, and whatever comes then, it parts.
async fn stay(
    mut visit: Visit,
    slot: Slot,
    proxy: &Proxy,
    wanted: &Wanted,
    told: &Told,
    arrived: oneshot::Sender<Result<(), Refusal>>,
    left: oneshot::Receiver<()>,
) {
    let place = slot.place().clone();
    visit.is_placed(&place);
    let ending = match connect(&mut visit, proxy, wanted, &place.backend, told).await {
        Ok(()) => {
            if !wanted.unproven {
                slot.prove();
            }
            let _ = arrived.send(Ok(()));
            relay(&visit, proxy, &wanted.key, told, left).await
        }
        Err(why) => {
            let _ = arrived.send(Err(Refusal::BackendUnavailable));
            why
        }
    };
    visit.part(ending == Ending::Isolated, slot).await;
}

/// Finds a home. [`Mutation::JoinsTheDead`]: where it was last, without asking.
async fn find(world: &World, proxy: &Proxy, wanted: &Wanted, told: Arc<Told>) -> Result<Slot, Refusal> {
    let mutated = world.plan.mutation == Mutation::JoinsTheDead;
    let known = proxy.homes.lock().unwrap_or_else(PoisonError::into_inner).get(&wanted.key).cloned();
    if let Some(place) = known.filter(|_| mutated) {
        let stop: Arc<dyn Stop> = told.clone();
        match proxy.ledger(&wanted.key).enter(&wanted.key, &stop, |_| true, |_| ()) {
            Enter::Joined(slot) => return Ok(slot),
            Enter::Claiming(ticket, ()) => {
                if let Some(slot) = ticket.bound(place, stop, false) {
                    slot.prove(); // makes it declared
                    return Ok(slot);
                }
            }
            Enter::Wait(_) => {}
        }
    }
    let slot = proxy.placement.place(wanted, told).await?;
    if mutated {
        let mut homes = proxy.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.insert(wanted.key.clone(), slot.place().clone());
    }
    Ok(slot)
}

/// Whatever the failure, it is for `part` to see to it that nothing is left at the backend.
async fn connect(
    visit: &mut Visit,
    proxy: &Proxy,
    wanted: &Wanted,
    backend: &BackendId,
    told: &Told,
) -> Result<(), Ending> {
    if proxy.is_isolated(&wanted.key) {
        return Err(Ending::Isolated);
    }
    if let Some(why) = told.reason.get() {
        return Err(*why);
    }
    let line = visit.dial(backend);
    let answered = async {
        while !line.is(Stage::Open) {
            if line.is(Stage::Over) {
                return Err(Ending::BackendLost);
            }
            line.news.notified().await;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        why = told.told() => Err(why),
        outcome = timeout(CONNECT, answered) => match outcome {
            _ if proxy.is_isolated(&wanted.key) => Err(Ending::Isolated),
            Ok(outcome) => outcome,
            Err(_) => Err(Ending::BackendLost),
        },
    }
}

/// Relays until somebody ends it. Before any byte moves, the clock is looked at.
async fn relay(visit: &Visit, proxy: &Proxy, key: &Key, told: &Told, mut left: oneshot::Receiver<()>) -> Ending {
    let Some(line) = visit.line.clone() else { return Ending::BackendLost };
    loop {
        let why = tokio::select! {
            biased;
            why = told.told() => why,
            _ = &mut left => Ending::ClientClosed,
            () = line.over() => Ending::BackendClosed,
            () = sleep(visit.world.dice.span(100, IDLE)) => {
                if !proxy.is_isolated(key) {
                    continue;
                }
                Ending::Isolated
            }
        };
        return if proxy.is_isolated(key) { Ending::Isolated } else { why };
    }
}

/// How far a connection to a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialling,
    Open,
    Over,
}

/// One connection to a backend.
struct Line {
    /// As the proxy knows it.
    stage: Mutex<Stage>,
    news: Notify,
    /// The proxy has closed its side, or reset the connection.
    closed: Mutex<(bool, bool)>,
    hung_up: Notify,
}

impl Line {
    fn is(&self, stage: Stage) -> bool {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) == stage
    }

    fn becomes(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        self.news.notify_one();
    }

    async fn over(&self) {
        while !self.is(Stage::Over) {
            self.news.notified().await;
        }
    }

    fn close(&self, reset: bool) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = (true, closed.1 || reset);
        self.hung_up.notify_one();
    }

    /// Whether the proxy has closed it, and whether by a reset.
    fn closed(&self) -> (bool, bool) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn hangs_up(&self) {
        while !self.closed().0 {
            self.hung_up.notified().await;
        }
    }
}

/// A login as the world sees it. Dropped before it has parted, its proxy was killed.
struct Visit {
    world: Arc<World>,
    owner: Owner,
    number: u64,
    backend: Option<BackendId>,
    line: Option<Arc<Line>>,
}

impl Visit {
    fn new(world: &Arc<World>, proxy: &Proxy, wanted: &Wanted) -> Self {
        let number = world.asks(proxy.owner, &wanted.key);
        Self { world: world.clone(), owner: proxy.owner, number, backend: None, line: None }
    }

    fn is_placed(&mut self, place: &Place) {
        self.backend = Some(place.backend.clone());
        self.world.placed(self.number, place);
    }

    fn dial(&mut self, backend: &BackendId) -> Arc<Line> {
        let line = Arc::new(Line {
            stage: Mutex::new(Stage::Dialling),
            news: Notify::new(),
            closed: Mutex::default(),
            hung_up: Notify::new(),
        });
        let there = At { world: self.world.clone(), owner: self.owner, backend: backend.clone() };
        self.world.executor.spawn(WORLD, serve(there, self.number, line.clone()));
        self.line = Some(line.clone());
        line
    }

    /// Closes in good order, or with a reset if there is no time for that, and leaves the ledger then.
    async fn part(mut self, isolated: bool, slot: Slot) {
        if let Some(line) = self.line.clone() {
            line.close(isolated);
            if self.world.plan.mutation == Mutation::NoFinWait {
                drop(slot);
                self.world.leaves(self.number);
                line.over().await;
                self.line = None;
                return;
            }
            if !isolated && timeout(CLOSE, line.over()).await.is_err() {
                line.close(true);
            }
            if !line.is(Stage::Over) {
                self.reset();
            }
        }
        self.line = None;
        drop(slot);
    }

    /// Where the reset is heard, it is over; where it is not, nothing more can be done: E6.
    fn reset(&self) {
        let Some(backend) = &self.backend else { return };
        if self.world.reaches(self.owner, backend) {
            self.world.ends(self.number);
        } else {
            self.world.is_unheard(self.number);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.close(true);
            self.reset();
        }
        self.world.leaves(self.number);
    }
}

/// A backend, as one proxy reaches it.
struct At {
    world: Arc<World>,
    owner: Owner,
    backend: BackendId,
}

impl At {
    /// Something is under way between the two.
    async fn travels(&self) {
        if self.world.dice.percent(50) {
            sleep(Duration::from_millis(1)).await;
        }
        self.world.way(self.owner, &self.backend).await;
    }
}

/// The backend's side of a connection.
async fn serve(at: At, number: u64, line: Arc<Line>) {
    let world = &at.world;
    at.travels().await;
    sleep(world.dice.span(0, 5)).await;
    // A reset finds the login on its way, or was before it; what was merely closed is let in first.
    if world.is_off(&at.backend) || line.closed().1 {
        return line.becomes(Stage::Over);
    }
    world.opens(number);
    at.travels().await;
    if line.is(Stage::Dialling) {
        line.becomes(Stage::Open);
    }
    let seldom = if world.dice.percent(5) { world.dice.span(10, 3000) } else { Duration::from_secs(3600) };
    tokio::select! {
        biased;
        () = line.hangs_up() => {
            at.travels().await;
            if !line.closed().1 && !world.is_off(&at.backend) {
                sleep(world.dice.span(0, if world.dice.percent(10) { 450 } else { 20 })).await;
            }
        }
        () = sleep(seldom) => {}
        () = switched_off(&at) => {}
    }
    world.ends(number);
    at.travels().await;
    line.becomes(Stage::Over);
}

async fn switched_off(at: &At) {
    while !at.world.is_off(&at.backend) {
        at.world.changes().await;
    }
}

/// How a session hears that it is to end.
#[derive(Default)]
struct Told {
    reason: OnceLock<Ending>,
    rung: Notify,
}

impl Told {
    async fn told(&self) -> Ending {
        loop {
            if let Some(why) = self.reason.get() {
                return *why;
            }
            self.rung.notified().await;
        }
    }
}

impl Stop for Told {
    fn stop(&self, why: Ending) {
        if self.reason.set(why).is_ok() {
            self.rung.notify_one();
        }
    }
}
