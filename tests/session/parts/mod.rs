//! What the tests are made of.

mod log;
mod peer;
mod site;

pub(crate) use log::{Line, lines};
pub(crate) use peer::{Peer, Server};
pub(crate) use site::{BALANCER, Site, config};

use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what} has not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
