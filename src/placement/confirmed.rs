//! A move or kick of one user that the old backend itself is to confirm: it has no process of the user any more. Logins wait
//! until it has, for one that came in meanwhile would be such a process, or could be at the new backend too early.

use std::sync::Arc;

use tracing::warn;

use super::migrate::Quiet;
use super::moves::{MoveEnd, MoveReport, MoveWish, Moves, Refused};
use crate::model::Key;

impl Moves {
    /// Ends all sessions of a user, and asks the home whether it has let go.
    pub async fn kick_confirmed(&self, key: &Key, quiet: &Arc<dyn Quiet>) -> Result<MoveReport, Refused> {
        let lock = self.lock(key).await.map_err(Refused::Lock)?;
        let done = lock.during(self.empty(key, quiet)).await;
        self.let_in(key, lock.open().await);
        done.map_err(Refused::Lock)?
    }

    /// Ends all sessions of a user, asks the home whether it has let go, and only then moves the user. If it has not, the
    /// user stays.
    pub async fn move_confirmed(
        &self,
        key: &Key,
        wish: &MoveWish,
        quiet: &Arc<dyn Quiet>,
    ) -> Result<MoveReport, Refused> {
        let home = self.free(key, wish).await?.backend;
        if let Some(to) = &wish.to {
            if home.as_ref() == Some(to) {
                return self.move_user(key, wish).await;
            }
            self.fits(key, home.as_ref(), to).map_err(Refused::NoBackend)?;
        }
        let lock = self.lock(key).await.map_err(Refused::Lock)?;
        let done = lock.during(self.empty_then_move(key, wish, quiet)).await;
        self.let_in(key, lock.open().await);
        done.map_err(Refused::Lock)?
    }

    async fn empty_then_move(&self, key: &Key, wish: &MoveWish, quiet: &Arc<dyn Quiet>) -> Result<MoveReport, Refused> {
        let mut kicked = self.empty(key, quiet).await?;
        if let Some(Err(why)) = &kicked.quiet {
            kicked.end = MoveEnd::Cancelled(why.clone());
        }
        if kicked.end != MoveEnd::Done {
            return Ok(kicked);
        }
        let moved = self.move_now(key, wish, kicked.from.clone()).await?;
        // What was to be ended ended with the kick.
        Ok(MoveReport { home: moved.home, end: moved.end, left: moved.left, took: kicked.took + moved.took, ..kicked })
    }

    /// Ends all sessions for good, as the backend says, too.
    async fn empty(&self, key: &Key, quiet: &Arc<dyn Quiet>) -> Result<MoveReport, Refused> {
        let mut report = self.kick_for_good(key).await?;
        if let (MoveEnd::Done, Some(from)) = (&report.end, &report.from) {
            report.quiet = Some(quiet.wait(key, from).await);
        }
        Ok(report)
    }

    fn let_in(&self, key: &Key, opened: Result<(), String>) {
        if let Err(error) = opened {
            warn!(%key, error, "a user could not be let in again yet");
        }
    }
}
