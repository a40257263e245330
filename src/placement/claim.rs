//! One login's way to its home: join, or claim, or wait and try again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use super::{Times, Wanted};
use crate::fleet::Shard;
use crate::ledger::{Enter, Place, Slot, Stop, Ticket};
use crate::model::{BackendId, Refusal};
use crate::store::link::{NoAnswer, Pending, answer};
use crate::store::{Claim, Home, Reply, Request, WaitReason};

/// Between two claims of a login that waits for others to close their sessions.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Between two claims while the store does not answer.
const RETRY: Duration = Duration::from_millis(50);
/// How long a login waits for a store that has not answered it: long enough for one reconnect, short enough to be prompt.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one try came to.
enum Try {
    Home(Slot),
    Refused(Refusal),
    /// Ask again at that time; if it is too late then, refuse so.
    Again(Instant, Refusal),
}

pub(super) async fn place(shard: &Shard, wanted: &Wanted, stop: &Arc<dyn Stop>, times: Times) -> Result<Slot, Refusal> {
    let deadline = Instant::now() + times.login_wait;
    // Since when there has been no answer. Not from the beginning: whoever was answered too late to believe it, because
    // this machine stood still, may ask once more.
    let mut unanswered = None;
    loop {
        let hint = shard.ledger.recall(&wanted.key, times.user_expire);
        let claim = |have| shard.link.send(Request::Claim(request(wanted, have, hint)));
        let joinable = |backend: &_| wanted.limit == 0 && shard.lease.holds() && shard.roster.usable(backend);
        let outcome = match shard.ledger.enter(&wanted.key, stop, joinable, claim) {
            Enter::Joined(slot) => {
                if !wanted.unproven {
                    slot.prove();
                }
                return Ok(noted(slot, wanted));
            }
            Enter::Wait(waiting) => match timeout_at(deadline, waiting).await {
                Ok(()) => continue,
                Err(_) => Try::Refused(Refusal::HomeUnsettled),
            },
            Enter::Claiming(ticket, pending) => ask(shard, wanted, stop, times, ticket, pending).await,
        };
        match outcome {
            Try::Home(slot) => return Ok(noted(slot, wanted)),
            Try::Refused(why) => return Err(why),
            Try::Again(at, why) => {
                let until = if why == Refusal::StoreUnavailable {
                    let since: Instant = *unanswered.get_or_insert_with(Instant::now);
                    deadline.min(since + PATIENCE)
                } else {
                    unanswered = None;
                    deadline
                };
                if at > until {
                    return Err(why);
                }
                sleep_until(at).await;
            }
        }
    }
}

/// Bulk work spares whom the passdb would only send back.
fn noted(slot: Slot, wanted: &Wanted) -> Slot {
    if wanted.pin.as_ref() == Some(&slot.place().backend) {
        slot.pin();
    }
    slot
}

/// Waits for a claim's answer and settles it in the ledger.
async fn ask(
    shard: &Shard,
    wanted: &Wanted,
    stop: &Arc<dyn Stop>,
    times: Times,
    ticket: Ticket,
    pending: Pending,
) -> Try {
    let answer = match answer(pending).await {
        Ok(answer) => answer,
        Err(why) => return unanswered(ticket, why),
    };
    // An old answer may come from before a loss that everybody else has recovered from.
    let age = Duration::from_millis(shard.clock.now_ms().saturating_sub(answer.sent_boottime_ms));
    if age > times.fresh || !shard.lease.holds() {
        return unanswered(ticket, NoAnswer::Unknown);
    }
    let Reply::Claim(home) = answer.reply else { return unanswered(ticket, NoAnswer::Unknown) };
    debug!(key = %wanted.key, ?home, "claimed");
    match home {
        Home::Bound { backend, generation } => {
            let slot = ticket.bound(Place { backend, generation }, stop.clone(), !wanted.unproven);
            // The table may have changed since the store answered. Looked at only now that the slot can be told to end:
            // a backend is closed after the table has changed, so no session slips through between the two.
            match slot.filter(|slot| shard.roster.usable(&slot.place().backend)) {
                Some(slot) => Try::Home(slot),
                None => Try::Again(Instant::now() + RETRY, Refusal::HomeUnsettled),
            }
        }
        Home::Wait { ms, reason } => {
            debug!(key = %wanted.key, ?reason, ms, "the home is not settled");
            ticket.declined();
            let pause = match reason {
                // The end of the window is known, and to ask before it only delays those who still have to assert.
                WaitReason::Recovery => Duration::from_millis(ms),
                WaitReason::Closing | WaitReason::Hold | WaitReason::Moving => Duration::from_millis(ms).min(ASK_AGAIN),
            };
            Try::Again(Instant::now() + pause, Refusal::HomeUnsettled)
        }
        Home::Limit => {
            ticket.declined();
            Try::Refused(Refusal::TooManySessions)
        }
        Home::Full => {
            ticket.declined();
            Try::Refused(Refusal::BackendFull)
        }
        Home::NoBackend => {
            ticket.declined();
            Try::Refused(Refusal::NoBackend)
        }
    }
}

/// Unless the claim was certainly not sent, it may have been applied: the ticket leaves the key dirty.
fn unanswered(ticket: Ticket, why: NoAnswer) -> Try {
    debug!(error = %why, "claim");
    match why {
        NoAnswer::Unsent => ticket.declined(),
        NoAnswer::Unknown => drop(ticket),
    }
    Try::Again(Instant::now() + RETRY, Refusal::StoreUnavailable)
}

fn request(wanted: &Wanted, have: u32, hint: Option<BackendId>) -> Claim {
    Claim {
        key: wanted.key.clone(),
        have,
        pool: wanted.pool.clone(),
        pin: wanted.pin.clone(),
        limit: wanted.limit,
        unproven: wanted.unproven,
        hint,
    }
}
