//! How long a step with a backend may take, and what ends it before.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::recipient::{Delivery, stopped, stopped_at_once};
use super::upstream::Lost;
use super::way::Shared;
use crate::model::Ending;
use crate::session::Services;

/// Why a step did not come to its end.
pub(super) enum Stop {
    /// A recipient must go.
    Told(Ending),
    Lost(Lost),
    Slow,
}

/// A step with a backend, unless it takes too long or a recipient must go.
pub(super) async fn within<T>(
    shared: &Shared<'_>,
    deliveries: &[Delivery],
    doom: &mut Option<Instant>,
    step: impl Future<Output = Result<T, Lost>>,
) -> Result<T, Stop> {
    tokio::select! {
        biased; // what must not go on does not by chance
        why = doomed(deliveries, doom, shared.services) => Err(Stop::Told(why)),
        outcome = in_time(shared.lmtp.backend_timeout, step) => outcome,
    }
}

/// A step that nothing but time ends.
pub(super) async fn in_time<T>(patience: Duration, step: impl Future<Output = Result<T, Lost>>) -> Result<T, Stop> {
    match timeout(patience, step).await {
        Ok(outcome) => outcome.map_err(Stop::Lost),
        Err(_) => Err(Stop::Slow),
    }
}

/// Resolves when a message must be given up: who may finish what he is at has a while for it. `doom`: when it is over.
pub(super) async fn doomed(deliveries: &[Delivery], doom: &mut Option<Instant>, services: &Services) -> Ending {
    let why = stopped(deliveries).await;
    if !why.may_wait() {
        return why;
    }
    let limits = services.limits.load_full();
    let grace =
        if why == Ending::Shutdown { limits.shutdown_grace.max(limits.kick_deadline) } else { limits.kick_deadline };
    let until = *doom.get_or_insert_with(|| Instant::now() + grace);
    tokio::select! {
        biased;
        urgent = stopped_at_once(deliveries) => urgent,
        () = sleep_until(until) => why,
    }
}
