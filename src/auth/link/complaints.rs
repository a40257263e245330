//! What was said about one source, so that an outage under load does not fill the disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::SessionId;

/// How often a source that does not answer is written about.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// The last complaint, and how many were swallowed since.
#[derive(Default)]
pub(in crate::auth) struct Complaints(Mutex<Told>);

#[derive(Default)]
struct Told {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Writes that `who` could not answer, unless that happened just now.
    pub(in crate::auth) fn add(&self, who: &str, why: &str, session: &SessionId) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_some_and(|last| last.elapsed() < COMPLAINT_INTERVAL) {
            told.unsaid += 1;
            return;
        }
        let unsaid = std::mem::take(&mut told.unsaid);
        told.last = Some(Instant::now());
        drop(told);
        tracing::error!(%session, unsaid, "{who} could not answer: {why}");
    }
}
