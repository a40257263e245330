//! A proxy without sockets: it can be killed, cut off and made to stand still, and its sessions are tasks.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use homing::fleet::{Change, Fleet, Hook, InForce, Joining, Rows, Settler, StateFile, Verb};
use homing::ledger::{Ledger, Place, Slot, Stop};
use homing::model::{BackendId, Clock, Ending, Incarnation, Key, KeyTemplate, Pool, Refusal, Tasks};
use homing::placement::{Moves, Placement, Times, Wanted};
use homing::store::link::Identity;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Road, Stage, Witness};

/// How many milliseconds a backend takes to close, unless a test says otherwise.
const FIN: u64 = 10;

pub struct Proxy {
    pub name: String,
    pub road: Road,
    pub fleet: Arc<Fleet>,
    pub placement: Arc<Placement>,
    pub moves: Arc<Moves>,
    /// Cancelled: it goes down, and takes no more duties.
    pub closing: CancellationToken,
    /// How many milliseconds a backend takes to close.
    fin: Arc<AtomicU64>,
    witness: Witness,
    handle: Handle,
    /// One thread: what blocks it makes the whole proxy stand still.
    runtime: Mutex<Option<Runtime>>,
}

impl Proxy {
    /// Starts it, with the state file at `state` if any; it may not be ready for logins yet.
    pub async fn start(stage: &Stage, name: &str, rows: Rows, state: Option<&Path>) -> Self {
        Self::start_on(stage, stage.road(), name, rows, state).await
    }

    pub async fn start_on(stage: &Stage, road: Road, name: &str, rows: Rows, state: Option<&Path>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let incarnation = Incarnation::random();
        let state = state.map(|path| StateFile::open(path, incarnation.clone()).unwrap());
        let identity = Identity { incarnation, name: name.to_owned(), version: "test".to_owned() };
        let (config, way) = (stage.config(), Arc::new(road.clone()));
        let times = Times { login_wait: stage.login_wait, fresh: config.recovery / 2, user_expire: config.user_expire };
        let hook = stage.hook.as_ref().map(|hook| hook.at(name) as Arc<dyn Hook>);
        let (rules, timeout, closing) = (stage.rules, stage.move_timeout, CancellationToken::new());
        let patience = stage.patience;
        let attending = closing.clone();
        let (shards, jobs) = (stage.shards, stage.jobs());
        let migrations = stage.moves.load().max_parallel_migrations;
        let start = async move {
            let joining = Joining {
                patience,
                rows,
                follow: Arc::new(|_| Vec::new()),
                state_file: state,
                shards,
                affinity: KeyTemplate::default(),
                clock: Clock::boottime(),
                tasks: Tasks::new(|task| drop(tokio::spawn(task))),
            };
            let fleet = Arc::new(Fleet::join(way.clone(), identity, &config, joining));
            fleet.work(&jobs);
            let settler = Arc::new(Settler::new(way, fleet.incarnation().clone(), hook));
            fleet.attend(&settler, &homing::placement::errand::runner(&fleet), &attending);
            let moves = Arc::new(Moves::new(fleet.clone(), settler, timeout, rules, migrations));
            (fleet.clone(), Arc::new(Placement::start(fleet, times)), moves)
        };
        let (fleet, placement, moves) = runtime.spawn(start).await.unwrap();
        let witness = stage.witness.clone();
        Self {
            name: name.to_owned(),
            road,
            fleet,
            placement,
            moves,
            closing,
            fin: Arc::new(AtomicU64::new(FIN)),
            witness,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
        }
    }

    /// Of the key's shard.
    pub fn ledger_of(&self, key: &str) -> &Arc<Ledger> {
        &self.fleet.shard_of(&Key::new(key)).ledger
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.fleet.shards()[0].ledger
    }

    pub fn incarnation(&self) -> String {
        self.fleet.incarnation().to_string()
    }

    pub fn table(&self) -> (u64, Rows) {
        let table = self.fleet.shards()[0].roster.table();
        (table.version, table.rows.clone())
    }

    /// An operator changes backends here.
    pub async fn change(&self, names: &str, verb: Verb) -> Result<InForce, String> {
        let backends = names.split_whitespace().map(BackendId::new).collect();
        self.fleet.change(&Change { backends, verb }).await.map_err(|fault| fault.to_string())
    }

    /// Its file changes from `old` to `new`.
    pub fn reload(&self, old: Rows, new: Rows) {
        self.fleet.change_file(&old, new);
    }

    /// From now on its backends take so long to close.
    pub fn backends_close_after(&self, span: Duration) {
        self.fin.store(span.as_millis() as u64, Ordering::Relaxed);
    }

    /// Has an operator's work done by this proxy: it dies with it.
    pub fn operate<T, F>(&self, work: impl FnOnce(Arc<Moves>) -> F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.handle.spawn(work(self.moves.clone()))
    }

    /// kill -9: nothing of it runs on.
    pub fn kill(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }

    /// SIGSTOP for so long.
    pub async fn stand_still(&self, span: Duration) {
        self.handle.spawn(async move { std::thread::sleep(span) }).await.unwrap();
    }

    pub async fn log_in(&self, key: &str) -> Result<Session, Refusal> {
        self.log_in_as(wanted(key)).await
    }

    pub async fn log_in_as(&self, wanted: Wanted) -> Result<Session, Refusal> {
        let (arrived, arrival) = oneshot::channel();
        let told = Arc::new(Told::default());
        let (stop, placement) = (told.clone(), self.placement.clone());
        let (witness, name, fin) = (self.witness.clone(), self.name.clone(), self.fin.clone());
        let (client, client_left) = oneshot::channel::<()>();
        let task = self.handle.spawn(async move {
            let slot: Slot = match placement.place(&wanted, stop.clone()).await {
                Ok(slot) => slot,
                Err(refusal) => return drop(arrived.send(Err(refusal))),
            };
            // Dropped before the slot, also if the proxy is killed: the backend has closed when the slot goes.
            let visit = witness.enter(&wanted.key, slot.place(), &name);
            if !wanted.unproven {
                slot.prove();
            }
            if arrived.send(Ok(slot.place().clone())).is_ok() {
                tokio::select! {
                    _ = client_left => {}
                    () = stop.rung.notified() => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(fin.load(Ordering::Relaxed))).await;
            drop(visit);
            drop(slot);
        });
        let mut impatience = AbortOnDrop(Some(task.abort_handle()));
        let place = arrival.await.unwrap_or(Err(Refusal::ShuttingDown))?;
        impatience.0 = None;
        Ok(Session { place, told, client: Some(client), task })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client that goes before it is let in: its login is dropped wherever it stands.
struct AbortOnDrop(Option<AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// An ordinary login.
pub fn wanted(key: &str) -> Wanted {
    Wanted { key: Key::new(key), pool: Pool::default(), pin: None, limit: 0, unproven: false }
}

#[derive(Default)]
struct Told {
    reason: OnceLock<Ending>,
    rung: Notify,
}

impl Stop for Told {
    fn stop(&self, why: Ending) {
        if self.reason.set(why).is_ok() {
            self.rung.notify_one();
        }
    }
}

/// A session as its client has it. Dropped, the client goes.
pub struct Session {
    pub place: Place,
    told: Arc<Told>,
    client: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Session {
    pub fn backend(&self) -> &str {
        self.place.backend.as_str()
    }

    /// Why the proxy has ended it, if it has.
    pub fn ended(&self) -> Option<Ending> {
        self.told.reason.get().copied()
    }

    /// Waits until nothing is left of it: its backend has closed, and the ledger knows.
    pub async fn gone(mut self) -> Option<Ending> {
        // If its proxy was killed, it is gone, too.
        let _ = (&mut self.task).await;
        self.ended()
    }

    /// Waits until nothing is left of it, or the client goes because `over` resolves.
    pub async fn until(mut self, over: impl Future<Output = ()>) {
        tokio::select! {
            _ = &mut self.task => return,
            () = over => {}
        }
        self.leave().await;
    }

    /// The client goes; waits until nothing is left.
    pub async fn leave(mut self) {
        self.client.take();
        self.gone().await;
    }
}
