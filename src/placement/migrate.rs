//! migrate: a user's mailbox goes to another backend. Hold, kick, copy, switch, release; and back to how it was if anything
//! fails before the switch.
//!
//! Meanwhile the user is locked (`lock.rs`): a second migration of the same user is refused, and who has lost the lock, or
//! finds another home than was emptied, does not switch. Who runs a migration again begins from the start; what is done
//! already is found done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::lock::Locked;
use super::moves::{MoveEnd, MoveReport, Moves, Refused, Who};
use super::watch::{Begun, Start, Until};
use crate::fleet::{Hook, HookTurn};
use crate::model::{BackendId, Generation, Key};
use crate::store::{BindingView, MarkChange, Move, Target};

/// Says whether a mail server has let go of a user, who has no session there any more as far as proxies know.
#[async_trait]
pub trait Quiet: Send + Sync + 'static {
    /// Waits until it has; the error says why that is not known.
    async fn wait(&self, key: &Key, backend: &BackendId) -> Result<(), String>;
}

/// What a migration consists of.
#[derive(Clone)]
pub struct Migration {
    /// Where to.
    pub to: BackendId,
    /// Copies the mailbox; the arguments are those of a move's hook.
    pub copy: Option<Arc<dyn Hook>>,
    /// Asked after the kick.
    pub quiet: Option<Arc<dyn Quiet>>,
    /// Pin the user there, too.
    pub pin: bool,
}

/// A step of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationStep {
    /// Looking whether it can be done at all.
    Check,
    /// Logins are made to wait.
    Hold,
    /// Sessions are ended, and known to be.
    Kick,
    /// The mailbox is copied.
    Copy,
    /// The new home is opened.
    Switch,
    /// Logins go on.
    Release,
}

impl MigrationStep {
    /// The word for people and scripts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Hold => "hold",
            Self::Kick => "kick",
            Self::Copy => "copy",
            Self::Switch => "switch",
            Self::Release => "release",
        }
    }
}

/// How a migration went.
#[derive(Clone, Debug)]
pub struct MigrationReport {
    /// Whose.
    pub key: Key,
    /// The home before.
    pub from: Option<BackendId>,
    /// The home now, as far as is known.
    pub home: Option<BackendId>,
    /// Where it failed and why; `None` if all went well.
    pub failed: Option<(MigrationStep, String)>,
    /// Sessions that were ended.
    pub closed: u32,
    /// Who has not said that they are closed.
    pub left: Vec<Who>,
    /// How long it took.
    pub took: Duration,
}

/// What one migration has come to so far.
struct Progress {
    report: MigrationReport,
    /// The binding as it was found.
    before: BindingView,
    step: MigrationStep,
}

impl Moves {
    /// Migrates one user, when it is this migration's turn. Whatever happens, the lock is taken off in the end, or lapses.
    pub async fn migrate(&self, key: &Key, migration: &Migration) -> MigrationReport {
        // Before anybody is disturbed. It fails only if it were closed, which nobody does.
        let _turn = self.migrations.acquire().await;
        let began = Instant::now();
        let report = MigrationReport {
            key: key.clone(),
            from: None,
            home: None,
            failed: None,
            closed: 0,
            left: Vec::new(),
            took: Duration::ZERO,
        };
        let mut progress = Progress { report, before: BindingView::default(), step: MigrationStep::Check };
        let mut outcome = self.check(key, migration, &mut progress).await;
        if outcome.is_ok() {
            progress.step = MigrationStep::Hold;
            outcome = self.alone(key, migration, &mut progress).await;
        }
        let Progress { mut report, step, .. } = progress;
        report.failed = outcome.err().map(|why| (step, why));
        report.took = began.elapsed();
        match &report.failed {
            None => info!(%key, to = %migration.to, took = ?report.took, "migrated"),
            Some((step, why)) => warn!(%key, to = %migration.to, step = step.word(), why, "a migration has failed"),
        }
        report
    }

    /// What can be known before anybody is disturbed.
    async fn check(&self, key: &Key, migration: &Migration, progress: &mut Progress) -> Result<(), String> {
        progress.before = self.binding(key).await.map_err(text)?;
        let home = progress.before.backend.clone();
        (progress.report.from, progress.report.home) = (home.clone(), home.clone());
        self.unlocked(key, &progress.before).await.map_err(text)?;
        self.fits(key, home.as_ref(), &migration.to)?;
        if home.is_none() && migration.copy.is_some() {
            return Err(format!(
                "{key} is not bound, so nobody knows where the mailbox is; say so first: homing user move {key} --to BACKEND"
            ));
        }
        Ok(())
    }

    /// Locks the user, does what is to be done, and unlocks.
    async fn alone(&self, key: &Key, migration: &Migration, progress: &mut Progress) -> Result<(), String> {
        let lock = self.lock(key).await?;
        let outcome = lock.during(self.under_lock(&lock, key, migration, progress)).await;
        let opened = lock.open().await;
        outcome??;
        progress.step = MigrationStep::Release;
        opened
    }

    /// All that is done while nobody can log in.
    async fn under_lock(
        &self,
        lock: &Locked<'_>,
        key: &Key,
        migration: &Migration,
        progress: &mut Progress,
    ) -> Result<(), String> {
        if progress.report.from.as_ref() == Some(&migration.to) {
            // A run before this one has come so far.
            return self.repin(key, migration, progress).await.map(drop);
        }
        progress.step = MigrationStep::Kick;
        let kicked = self.kick_for_good(key).await.map_err(text)?;
        progress.report.closed =
            kicked.sessions - kicked.left.iter().map(|who| who.sessions).sum::<u32>().min(kicked.sessions);
        progress.report.left = kicked.left;
        match kicked.end {
            MoveEnd::Done | MoveEnd::Begun => {}
            MoveEnd::Cancelled(why) | MoveEnd::Unknown(why) => return Err(why),
        }
        let emptied = self.emptied(lock, key, progress).await?;
        if let (Some(quiet), Some(from)) = (&migration.quiet, &progress.report.from) {
            quiet.wait(key, from).await?;
        }
        progress.step = MigrationStep::Copy;
        if let (Some(copy), Some(from)) = (&migration.copy, &progress.report.from) {
            let to = Target::Backend(migration.to.clone());
            copy.run(&HookTurn::new(&self.home_shard(key).roster, key, from, &to, false)).await?;
        }
        progress.step = MigrationStep::Switch;
        lock.renew().await?;
        self.switch(key, migration, emptied, progress).await
    }

    /// The generation of the home that the kick has left empty; `None` if there is no home. Whatever gives the user another
    /// later, or the store's loss of this one, is seen by the switch.
    async fn emptied(&self, lock: &Locked<'_>, key: &Key, progress: &Progress) -> Result<Option<Generation>, String> {
        let found = self.binding(key).await.map_err(text)?;
        if !lock.is(found.lock.as_ref()) || found.sessions > 0 || found.backend != progress.report.from {
            return Err(format!("somebody has come in, or moved {key}, while the sessions were ended"));
        }
        Ok(found.backend.map(|_| found.generation))
    }

    /// Ends all sessions and waits until the kick delay is over: then the old backend has written all it will.
    pub(super) async fn kick_for_good(&self, key: &Key) -> Result<MoveReport, Refused> {
        let found = self.binding(key).await?;
        let home = found.backend;
        match self.begin(self.order(key, None, Target::Stay), home.clone()).await {
            Ok(Start::Begun(begun)) => Ok(self.watch(&begun, Until::Over).await),
            Ok(Start::Done(..)) | Err(Refused::Unbound(_)) => {
                // Nobody is there, but somebody may have left a moment ago.
                let left = self.rules.kick_delay.saturating_sub(found.idle_ms.unwrap_or(0));
                sleep(Duration::from_millis(if home.is_some() { left } else { 0 })).await;
                Ok(self.done_at_once(key, home.clone(), home))
            }
            Err(refused) => Err(refused),
        }
    }

    /// The point of no return. A pin goes first: whoever is pinned elsewhere would go back there.
    async fn switch(
        &self,
        key: &Key,
        migration: &Migration,
        emptied: Option<Generation>,
        progress: &mut Progress,
    ) -> Result<(), String> {
        let pinned = self.repin(key, migration, progress).await?;
        let order = self.order(key, emptied, Target::Backend(migration.to.clone()));
        let mut outcome = self.open_new_home(order, progress.report.from.clone()).await;
        // An answer may be lost of what was done all the same. Who is at the new home must not be sent back to the old.
        let now = self.binding(key).await;
        if outcome.is_err() && now.as_ref().is_ok_and(|now| now.backend.as_ref() == Some(&migration.to)) {
            outcome = Ok(());
        }
        match outcome {
            Ok(()) => progress.report.home = Some(migration.to.clone()),
            Err(_) if pinned && now.is_ok() => {
                let back = progress.before.pin.clone().map_or(MarkChange::Unpin, MarkChange::Pin);
                if let Err(error) = self.mark(key, back).await {
                    warn!(%key, %error, "the pin could not be set back");
                }
            }
            Err(_) => {}
        }
        outcome
    }

    async fn open_new_home(&self, order: Move, home: Option<BackendId>) -> Result<(), String> {
        let begun: Begun = match self.begin(order, home).await.map_err(text)? {
            Start::Done(..) => return Ok(()),
            Start::Begun(begun) => begun,
        };
        match self.watch(&begun, Until::Over).await.end {
            MoveEnd::Done | MoveEnd::Begun => Ok(()),
            MoveEnd::Cancelled(why) | MoveEnd::Unknown(why) => Err(why),
        }
    }

    /// Pins the user at the new home, if that is wanted, or if a pin holds the user elsewhere. Whether it did.
    async fn repin(&self, key: &Key, migration: &Migration, progress: &Progress) -> Result<bool, String> {
        let pin = progress.before.pin.as_ref();
        let wanted = pin != Some(&migration.to) && (migration.pin || pin.is_some());
        if wanted {
            self.mark(key, MarkChange::Pin(migration.to.clone())).await.map_err(text)?;
        }
        Ok(wanted)
    }

    fn order(&self, key: &Key, seen: Option<Generation>, to: Target) -> Move {
        let timeout = self.timeout_ms();
        Move { key: key.clone(), seen, to, force: false, hook: false, timeout, pace: None }
    }
}

fn text(error: Refused) -> String {
    error.to_string()
}
