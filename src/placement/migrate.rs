//! migrate: a user's mailbox goes to another backend. Hold, kick, copy, switch, release; and back to how it was if anything
//! fails before the switch.
//!
//! The hold is short and renewed while this proxy works, so that its death locks nobody out for longer than [`HOLD`]. Who
//! runs the migration again then begins from the start; what is done already is found done.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::moves::{MoveEnd, MoveReport, Moves, Refused, Who, ms};
use super::watch::{Begun, Start, Until};
use crate::fleet::{Hook, HookTurn};
use crate::model::{BackendId, Key};
use crate::store::{BindingView, MarkChange, Move, Target};

/// How long a user is held after the last sign of life of the proxy that migrates.
const HOLD: Duration = Duration::from_secs(120);
/// How often the hold is renewed.
const RENEW: Duration = Duration::from_secs(20);
/// How often a release that got no answer is tried.
const RELEASES: u32 = 10;
/// Between two of them.
const AGAIN: Duration = Duration::from_millis(500);

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

/// The only migration of a key at this proxy, while this lives: the end of a second would take off the hold of the first.
struct Alone<'a> {
    all: &'a Mutex<BTreeSet<Key>>,
    key: &'a Key,
}

impl<'a> Alone<'a> {
    fn with(all: &'a Mutex<BTreeSet<Key>>, key: &'a Key) -> Option<Self> {
        let first = all.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        first.then_some(Self { all, key })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
    }
}

impl Moves {
    /// Migrates one user. Whatever happens, the hold is taken off in the end, or runs out.
    pub async fn migrate(&self, key: &Key, migration: &Migration) -> MigrationReport {
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
        let Some(_alone) = Alone::with(&self.migrating, key) else {
            progress.report.failed = Some((MigrationStep::Check, format!("{key} is being migrated already")));
            return progress.report;
        };
        let mut outcome = self.check(key, migration, &mut progress).await;
        if outcome.is_ok() {
            progress.step = MigrationStep::Hold;
            outcome = tokio::select! {
                outcome = self.under_hold(key, migration, &mut progress) => outcome,
                lapsed = self.keep_held(key) => Err(lapsed),
            };
            if let Err(why) = self.let_in(key, &progress.before).await
                && outcome.is_ok()
            {
                progress.step = MigrationStep::Release;
                outcome = Err(why);
            }
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
        let table = self.home_shard(key).roster.table();
        let to = &migration.to;
        let row = table.rows.get(to).ok_or_else(|| format!("there is no backend {to}"))?;
        if !row.usable() {
            return Err(format!("{to} is {}", row.condition()));
        }
        if home.is_none() && migration.copy.is_some() {
            return Err(format!(
                "{key} is not bound, so nobody knows where the mailbox is; say so first: homing user move {key} --to BACKEND"
            ));
        }
        match home.and_then(|home| table.rows.get(&home)) {
            Some(home) if home.pool != row.pool => {
                Err(format!("{to} is of the pool {}, but {key} is at home in the pool {}", row.pool, home.pool))
            }
            _ => Ok(()),
        }
    }

    /// All that is done while nobody can log in.
    async fn under_hold(&self, key: &Key, migration: &Migration, progress: &mut Progress) -> Result<(), String> {
        self.renew(key).await?;
        if progress.report.from.as_ref() == Some(&migration.to) {
            // A run before this one has come so far.
            return self.repin(key, migration, progress).await.map(drop);
        }
        progress.step = MigrationStep::Kick;
        let kicked = self.kick_for_good(key).await?;
        progress.report.closed =
            kicked.sessions - kicked.left.iter().map(|who| who.sessions).sum::<u32>().min(kicked.sessions);
        progress.report.left = kicked.left;
        match kicked.end {
            MoveEnd::Done | MoveEnd::Begun => {}
            MoveEnd::Cancelled(why) | MoveEnd::Unknown(why) => return Err(why),
        }
        if let (Some(quiet), Some(from)) = (&migration.quiet, &progress.report.from) {
            quiet.wait(key, from).await?;
        }
        progress.step = MigrationStep::Copy;
        if let (Some(copy), Some(from)) = (&migration.copy, &progress.report.from) {
            let to = Target::Backend(migration.to.clone());
            copy.run(&HookTurn::new(&self.home_shard(key).roster, key, from, &to, false)).await?;
        }
        progress.step = MigrationStep::Switch;
        self.switch(key, migration, progress).await
    }

    /// Ends all sessions and waits until the kick delay is over: then the old backend has written all it will.
    async fn kick_for_good(&self, key: &Key) -> Result<MoveReport, String> {
        let found = self.binding(key).await.map_err(text)?;
        let home = found.backend;
        match self.begin(self.order(key, Target::Stay), home.clone()).await {
            Ok(Start::Begun(begun)) => Ok(self.watch(&begun, Until::Over).await),
            Ok(Start::Done(..)) | Err(Refused::Unbound(_)) => {
                // Nobody is there, but somebody may have left a moment ago.
                let left = self.rules.kick_delay.saturating_sub(found.idle_ms.unwrap_or(0));
                sleep(Duration::from_millis(if home.is_some() { left } else { 0 })).await;
                Ok(self.done_at_once(key, home.clone(), home))
            }
            Err(refused) => Err(refused.to_string()),
        }
    }

    /// The point of no return. A pin goes first: whoever is pinned elsewhere would go back there.
    async fn switch(&self, key: &Key, migration: &Migration, progress: &mut Progress) -> Result<(), String> {
        let pinned = self.repin(key, migration, progress).await?;
        let mut outcome = self.open_new_home(key, migration).await;
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

    async fn open_new_home(&self, key: &Key, migration: &Migration) -> Result<(), String> {
        let home = self.binding(key).await.map_err(text)?.backend;
        let order = self.order(key, Target::Backend(migration.to.clone()));
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

    fn order(&self, key: &Key, to: Target) -> Move {
        let timeout = self.timeout_ms();
        Move { key: key.clone(), seen: None, to, force: false, hook: false, timeout, pace: None }
    }

    async fn renew(&self, key: &Key) -> Result<(), String> {
        self.mark(key, MarkChange::Hold(ms(HOLD))).await.map(drop).map_err(text)
    }

    /// Renews the hold. Ends only if it must be taken to have lapsed: somebody may have come in, and changed what is copied.
    async fn keep_held(&self, key: &Key) -> String {
        let mut held = Instant::now();
        loop {
            sleep(RENEW).await;
            let asked = Instant::now();
            match self.renew(key).await {
                Ok(()) => held = asked,
                Err(error) if held.elapsed() + RENEW >= HOLD => {
                    return format!("the hold could not be renewed, and may have lapsed: {error}");
                }
                Err(error) => warn!(%key, error, "the hold of a migration could not be renewed yet"),
            }
        }
    }

    /// Takes the hold off.
    async fn let_in(&self, key: &Key, before: &BindingView) -> Result<(), String> {
        let mut last = String::new();
        // A hold without end is an operator's own; one with an end may be that of a migration which broke off.
        let change = if before.hold_ms == Some(0) { MarkChange::Hold(0) } else { MarkChange::Release };
        for _ in 0..RELEASES {
            match self.mark(key, change.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
            sleep(AGAIN).await;
        }
        Err(format!("{last}; the hold runs out within {} s", HOLD.as_secs()))
    }
}

fn text(error: Refused) -> String {
    error.to_string()
}
