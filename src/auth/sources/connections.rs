//! Connections that are kept between questions. A source's link bounds how many questions there are at once, and so how many
//! connections; a pool with a queue of its own (as sqlx has) would only hide why no connection can be had.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::timeout;

/// A connection that was not used for so long is not trusted: a firewall in between may have forgotten it.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server does not answer, or says that it cannot at the moment.
    Away(String),
    /// It answers, but with nothing that is of use: the question is at fault, or what is stored.
    Odd(String),
}

/// Knows how to connect, and how to ask.
#[async_trait]
pub(super) trait Driver: Send + Sync {
    type Connection: Send;
    type Request: Send + Sync;
    type Answer: Send;

    async fn connect(&self) -> Result<Self::Connection, Trouble>;

    async fn put(&self, connection: &mut Self::Connection, request: &Self::Request) -> Result<Self::Answer, Trouble>;
}

/// A driver and its idle connections.
pub(super) struct Connections<D: Driver> {
    driver: D,
    idle: Mutex<Vec<(D::Connection, Instant)>>,
    /// How long a connection from before may take: half of what the whole question may, so that another server can still be
    /// asked if the one at its end hangs.
    patience: Duration,
}

impl<D: Driver> Connections<D> {
    pub(super) fn new(driver: D, timeout: Duration) -> Self {
        Self { driver, idle: Mutex::default(), patience: timeout / 2 }
    }

    pub(super) fn driver(&self) -> &D {
        &self.driver
    }

    /// Asks by a connection from before if there is one. If that fails, all of them may be broken, and a new one is made.
    /// A connection whose question is given up is closed.
    pub(super) async fn ask(&self, request: &D::Request) -> Result<D::Answer, Trouble> {
        if let Some(mut connection) = self.take() {
            if let Ok(Ok(answer)) = timeout(self.patience, self.driver.put(&mut connection, request)).await {
                self.keep(connection);
                return Ok(answer);
            }
            self.idle().clear();
        }
        let mut connection = self.driver.connect().await?;
        let answer = self.driver.put(&mut connection, request).await?;
        self.keep(connection);
        Ok(answer)
    }

    /// The one that was used last.
    fn take(&self) -> Option<D::Connection> {
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() < MAX_IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: D::Connection) {
        self.idle().push((connection, Instant::now()));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(D::Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
