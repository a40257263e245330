//! Channels of a shard, heard as long as anybody listens: the connection is made anew when it breaks, at the master of
//! the day. What is said in between is missed, so nothing may depend on hearing it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::Value;
use redis::aio::PubSubSink;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::doors::{Doors, no_answer};
use super::keys::Keys;
use super::master::Masters;
use crate::config::StoreAddress;
use crate::store::StoreError;

/// Messages that wait for a listener who is busy. Later ones are dropped: they would say no more than "look".
const WAITING: usize = 64;
/// First and longest pause before a broken subscription is made anew.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// How long a silent server is trusted before it is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(5);

/// Channels that are listened to. Ends when dropped.
pub(super) struct Subscription {
    messages: mpsc::Receiver<()>,
    begun: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Subscription {
    /// Waits for something to be said, for as long as it takes, over every outage.
    pub(super) async fn next(&mut self) {
        if self.messages.recv().await.is_none() {
            std::future::pending().await // the runtime is ending
        }
    }

    /// Waits until the channels were heard for the first time, or the patience is over.
    pub(super) async fn begun(&mut self, patience: Duration) {
        // Whether it is over does not matter: it is tried again and again.
        let _ = timeout(patience, self.begun.wait_for(|begun| *begun)).await;
    }

    pub(super) fn start(doors: Arc<Doors>, masters: Arc<Masters>, keys: Keys, channels: Vec<String>) -> Self {
        let (out, messages) = mpsc::channel(WAITING);
        let (up, begun) = watch::channel(false);
        let ear = Ear { doors, masters, keys, channels, out, up };
        Self { messages, begun, _task: AbortOnDropHandle::new(tokio::spawn(ear.run())) }
    }
}

struct Ear {
    doors: Arc<Doors>,
    masters: Arc<Masters>,
    keys: Keys,
    channels: Vec<String>,
    out: mpsc::Sender<()>,
    up: watch::Sender<bool>,
}

impl Ear {
    async fn run(self) {
        let [least, most] = PAUSE;
        let mut pause = least;
        loop {
            let mut heard = false;
            if let Err(error) = self.hear(&mut heard).await {
                debug!(%error, "subscription broken; making it anew");
            }
            pause = if heard { least } else { (pause * 2).min(most) };
            sleep(pause).await;
        }
    }

    /// Listens until the connection breaks or leads to a deposed master. `heard`: it was up.
    async fn hear(&self, heard: &mut bool) -> Result<(), StoreError> {
        let mut master = self.masters.of(&self.keys, &self.doors).await?;
        let at = master.at.clone();
        let (mut mouth, mut ear) = self.doors.listen(&at, &self.channels).await?.split();
        *heard = true;
        self.up.send_replace(true);
        debug!(master = %at, channels = ?self.channels, "listening");
        let mut deposed = std::pin::pin!(master.deposed());
        loop {
            tokio::select! {
                () = &mut deposed => return Ok(()),
                message = timeout(SILENCE, ear.next()) => match message {
                    Ok(Some(_)) => {
                        // Full: whoever listens has enough to look at already.
                        let _ = self.out.try_send(());
                    }
                    Ok(None) => return Err(no_answer(&at, &"the connection has ended")),
                    Err(_) => self.is_alive(&at, &mut mouth).await?,
                },
            }
        }
    }

    async fn is_alive(&self, at: &StoreAddress, mouth: &mut PubSubSink) -> Result<(), StoreError> {
        match timeout(self.doors.patience(), mouth.ping::<Value>()).await {
            Ok(pong) => pong.map(drop).map_err(|error| no_answer(at, &error)),
            Err(_) => Err(no_answer(at, &"no answer to PING")),
        }
    }
}
