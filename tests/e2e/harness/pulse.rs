//! Logins one after another, all the time, to see when there are none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Imap, Result, Status, User};

/// Somebody who logs in and out without end, each time as another user and at another door.
pub struct Pulse {
    beats: watch::Receiver<Vec<Instant>>,
    task: JoinHandle<()>,
}

impl Pulse {
    /// Begins. Nobody else may be logged in as `users`: a user with a session at a proxy needs no store to log in there.
    pub fn begin(doors: Vec<SocketAddr>, users: Vec<User>) -> Self {
        let (out, beats) = watch::channel(vec![Instant::now()]);
        let task = tokio::spawn(async move {
            for (door, user) in doors.into_iter().cycle().zip(users.into_iter().cycle()) {
                match log_in_and_out(door, &user).await {
                    Ok(true) => out.send_modify(|beats| beats.push(Instant::now())),
                    // As a mail client would, only faster.
                    Ok(false) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        Self { beats, task }
    }

    /// Waits until `count` logins more than now have succeeded.
    pub async fn beats(&mut self, count: usize) -> Result {
        let wanted = self.beats.borrow().len() + count;
        let reached = self.beats.wait_for(|beats| beats.len() >= wanted);
        tokio::time::timeout(Duration::from_secs(120), reached).await??;
        Ok(())
    }

    /// The longest time without a login since then.
    pub fn longest_pause(&self, since: Instant) -> Duration {
        let beats = self.beats.borrow();
        let gaps = beats.windows(2).filter(|pair| pair[1] > since).map(|pair| pair[1] - pair[0].max(since));
        gaps.max().unwrap_or_default()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn log_in_and_out(door: SocketAddr, user: &User) -> Result<bool> {
    let mut imap = Imap::connect(door).await?;
    let welcome = imap.try_login(user).await?.status == Status::Ok;
    if welcome {
        imap.logout().await?;
    }
    Ok(welcome)
}
