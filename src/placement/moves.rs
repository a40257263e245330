//! What operators do to one user: move, kick, hold, release, pin. Any proxy can, and none is needed afterwards: all of it
//! is in the store, and whoever looks in goes on with it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::info;

use super::people::People;
use super::watch::{Start, Until, still};
use crate::fleet::{Fleet, NoOrder, Settler, Shard};
use crate::model::{BackendId, Key};
use crate::store::{BindingView, Holder, Mark, MarkChange, Marked, Move, Order, Outcome, Rules, Target};

pub use super::people::Who;

/// Does what operators want of users. One for the whole proxy.
pub struct Moves {
    pub(super) fleet: Arc<Fleet>,
    pub(super) settler: Arc<Settler>,
    /// Until a move is given up.
    pub(super) timeout: Duration,
    pub(super) rules: Rules,
    /// Numbers what this proxy locks.
    pub(super) locks: AtomicU64,
    /// Turns of migrations: so many may be under way here at once, and as many of their hooks.
    pub(super) migrations: Semaphore,
}

/// What is wanted of a move.
#[derive(Clone, Debug)]
pub struct MoveWish {
    /// Where to; `None` for any backend but the present one.
    pub to: Option<BackendId>,
    /// At once, though sessions are still open at the old home.
    pub force: bool,
    /// Run the hook, if there is one.
    pub hook: bool,
    /// Wait until it is over.
    pub wait: bool,
}

/// How a move or kick went.
#[derive(Clone, Debug)]
pub struct MoveReport {
    /// Whose.
    pub key: Key,
    /// The home before; `None` if there was none.
    pub from: Option<BackendId>,
    /// The home now; `None` if there is none, or nobody knows.
    pub home: Option<BackendId>,
    /// What it came to.
    pub end: MoveEnd,
    /// How many proxies had sessions of the user.
    pub proxies: usize,
    /// How many sessions there were.
    pub sessions: u32,
    /// Who has not said that they are closed.
    pub left: Vec<Who>,
    /// Whether the old backend itself says that it has let go of the user, or why that is not known; if it was asked.
    pub quiet: Option<Result<(), String>>,
    /// How long it took.
    pub took: Duration,
}

/// What a move or kick came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveEnd {
    /// The new home is open; or, of a kick, all sessions are closed.
    Done,
    /// It has begun, and nobody waited for it.
    Begun,
    /// It was given up: the home is what it was.
    Cancelled(String),
    /// The store does not say.
    Unknown(String),
}

impl fmt::Display for MoveEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Begun => f.write_str("begun"),
            Self::Cancelled(why) => write!(f, "cancelled: {why}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A move is on.
    #[error("{0} is being moved already; wait until that is over, or see how far it is with: homing user explain {0}")]
    Busy(Key),
    /// Nothing to move.
    #[error("{0} is not bound: the next login is placed. Name a backend with --to to bind it there")]
    Unbound(Key),
    /// The backend cannot take the user.
    #[error("{0}")]
    NoBackend(String),
    /// A pin would undo the move.
    #[error("{0} is pinned to {1}, and would go back there; change that with: homing user pin {0} BACKEND, or unpin")]
    Pinned(Key, BackendId),
    /// Somebody else is alone with the user; or whoever wanted to be is not any more.
    #[error("{0}")]
    Lock(String),
    /// Somebody else has changed the home.
    #[error("the home of {0} has just changed; look again")]
    Changed(Key),
    /// A mark was set, but what belonged to it was not done.
    #[error("{0}, but {1}")]
    Half(&'static str, Box<Refused>),
    /// Nobody knows whether a move has begun.
    #[error("{1}; whether the move has begun all the same shows: homing user explain {0}")]
    Unheard(Key, NoOrder),
    /// The store did not answer, or cannot yet.
    #[error(transparent)]
    Store(#[from] NoOrder),
}

/// Who has sessions of a user that is now held, pinned or free.
#[derive(Clone, Debug)]
pub struct MarkReport {
    /// Whose.
    pub key: Key,
    /// The home, if there is one.
    pub home: Option<BackendId>,
    /// Who has sessions.
    pub holders: Vec<Who>,
    /// The kick or move that came with it.
    pub moved: Option<MoveReport>,
}

impl Moves {
    /// `timeout`: until a move is given up. `rules`: those of the store. `migrations`: how many may be under way at once.
    pub fn new(fleet: Arc<Fleet>, settler: Arc<Settler>, timeout: Duration, rules: Rules, migrations: u32) -> Self {
        let migrations = Semaphore::new(migrations.max(1) as usize); // a u32 fits
        Self { fleet, settler, timeout, rules, locks: AtomicU64::default(), migrations }
    }

    /// Moves a user.
    pub async fn move_user(&self, key: &Key, wish: &MoveWish) -> Result<MoveReport, Refused> {
        let home = self.free(key, wish).await?.backend;
        self.move_now(key, wish, home).await
    }

    /// The binding of a user who may be moved so.
    pub(super) async fn free(&self, key: &Key, wish: &MoveWish) -> Result<BindingView, Refused> {
        let view = self.binding(key).await?;
        if let Some(pin) = view.pin.as_ref().filter(|pin| wish.to.as_ref() != Some(pin)) {
            return Err(Refused::Pinned(key.clone(), pin.clone()));
        }
        if !wish.force {
            self.unlocked(key, &view).await?;
        }
        Ok(view)
    }

    pub(super) async fn move_now(
        &self,
        key: &Key,
        wish: &MoveWish,
        home: Option<BackendId>,
    ) -> Result<MoveReport, Refused> {
        let target = wish.to.clone().map_or(Target::Elsewhere, Target::Backend);
        let order = Move {
            key: key.clone(),
            seen: None,
            to: target,
            force: wish.force,
            hook: wish.hook && !wish.force && self.settler.has_hook(),
            timeout: self.timeout_ms(),
            pace: None,
        };
        self.carry_out(order, home, if wish.wait { Some(Until::Over) } else { None }).await
    }

    /// Ends all sessions of a user, at every proxy. The home stays.
    pub async fn kick(&self, key: &Key, wait: bool) -> Result<MoveReport, Refused> {
        let found = self.binding(key).await?;
        self.unlocked(key, &found).await?;
        let home = found.backend;
        let order = Move {
            key: key.clone(),
            seen: None,
            to: Target::Stay,
            force: false,
            hook: false,
            timeout: self.timeout_ms(),
            pace: None,
        };
        let until = if wait { Some(Until::Empty) } else { None };
        match self.carry_out(order, home, until).await {
            // Who is nowhere has no sessions.
            Err(Refused::Unbound(_)) => Ok(self.done_at_once(key, None, None)),
            outcome => outcome,
        }
    }

    /// Keeps a user's logins waiting; `span` is `None` for without end. With `kick` the sessions are ended, too.
    pub async fn hold(&self, key: &Key, span: Option<Duration>, kick: bool) -> Result<MarkReport, Refused> {
        let mut report = self.mark(key, MarkChange::Hold(span.map_or(0, |span| ms(span).max(1)))).await?;
        if kick {
            let kicked = self.kick(key, true).await.map_err(|why| half("the hold is on", why))?;
            report.holders.clone_from(&kicked.left);
            report.moved = Some(kicked);
        }
        Ok(report)
    }

    /// Lets a user's logins in again.
    pub async fn release(&self, key: &Key) -> Result<MarkReport, Refused> {
        self.mark(key, MarkChange::Release).await
    }

    /// Makes a backend the user's home whenever it can be; and now, if `go`.
    pub async fn pin(&self, key: &Key, backend: &BackendId, go: bool) -> Result<MarkReport, Refused> {
        let mut report = self.mark(key, MarkChange::Pin(backend.clone())).await?;
        if go && report.home.as_ref().is_some_and(|home| home != backend) {
            let wish = MoveWish { to: Some(backend.clone()), force: false, hook: true, wait: true };
            let moved = self.move_user(key, &wish).await.map_err(|why| half("the pin is set", why))?;
            report.home.clone_from(&moved.home);
            report.moved = Some(moved);
        }
        Ok(report)
    }

    /// Forgets a pin. The user stays at home.
    pub async fn unpin(&self, key: &Key) -> Result<MarkReport, Refused> {
        self.mark(key, MarkChange::Unpin).await
    }

    async fn carry_out(
        &self,
        order: Move,
        from: Option<BackendId>,
        until: Option<Until>,
    ) -> Result<MoveReport, Refused> {
        let key = order.key.clone();
        info!(%key, goes = %order.to, force = order.force, "an operator moves a user");
        match (self.begin(order, from.clone()).await?, until) {
            (Start::Done(backend), _) => Ok(self.done_at_once(&key, from, Some(backend))),
            (Start::Begun(begun), Some(until)) => Ok(self.watch(&begun, until).await),
            (Start::Begun(begun), None) => {
                let left = begun.holders.iter().map(|(incarnation, sessions)| still(incarnation, *sessions)).collect();
                Ok(self.report(&begun, MoveEnd::Begun, begun.from.clone(), left).await)
            }
        }
    }

    pub(super) fn done_at_once(&self, key: &Key, from: Option<BackendId>, home: Option<BackendId>) -> MoveReport {
        let (end, left, took) = (MoveEnd::Done, Vec::new(), Duration::ZERO);
        MoveReport { key: key.clone(), from, home, end, proxies: 0, sessions: 0, left, quiet: None, took }
    }

    /// Sets or clears a mark.
    pub(super) async fn mark(&self, key: &Key, change: MarkChange) -> Result<MarkReport, Refused> {
        let Marked { backend, holders, no_backend, .. } = self.change_mark(key, change.clone()).await?;
        if no_backend && let MarkChange::Pin(to) = &change {
            return Err(Refused::NoBackend(self.why_not(key, None, &Target::Backend(to.clone()))));
        }
        info!(%key, mark = %change, "an operator has marked a user");
        let holders: Vec<Holder> = holders.iter().map(|(whose, sessions)| still(whose, *sessions)).collect();
        let holders = if holders.is_empty() { Vec::new() } else { self.people(key).await.holders(&holders) };
        Ok(MarkReport { key: key.clone(), home: backend, holders, moved: None })
    }

    /// Sets or clears a mark, and says what the store said.
    pub(super) async fn change_mark(&self, key: &Key, change: MarkChange) -> Result<Marked, Refused> {
        let order = Order::Mark(Mark { key: key.clone(), change });
        match self.settler.order(self.shard(key), &order).await? {
            Outcome::Mark(marked) => Ok(marked),
            other => Err(nonsense(&other)),
        }
    }

    /// What the store knows of a key; nothing, if it knows nothing.
    pub(super) async fn binding(&self, key: &Key) -> Result<BindingView, Refused> {
        let view = super::in_time(self.fleet.store().binding(self.shard(key), key)).await.map_err(NoOrder::Store)?;
        Ok(view.unwrap_or_default())
    }

    /// The names of those who hold a key. They are a courtesy: without a census the incarnations stand alone.
    pub(super) async fn people(&self, key: &Key) -> People {
        People::of(super::in_time(self.fleet.store().census(self.shard(key))).await.unwrap_or_default())
    }

    pub(super) fn shard(&self, key: &Key) -> u16 {
        self.home_shard(key).number
    }

    pub(super) fn home_shard(&self, key: &Key) -> &Shard {
        self.fleet.shard_of(key)
    }

    pub(super) fn timeout_ms(&self) -> u64 {
        ms(self.timeout)
    }
}

pub(super) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn half(done: &'static str, why: Refused) -> Refused {
    Refused::Half(done, Box::new(why))
}

pub(super) fn nonsense(outcome: &Outcome) -> Refused {
    NoOrder::Store(format!("the store answered something else: {outcome:?}")).into()
}
