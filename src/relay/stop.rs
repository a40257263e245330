//! Ending a session from outside: a signal that somebody gives, and a clock that runs out.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::model::{Ending, boottime_ms};

/// Makes both ends of a stop signal. They cost one allocation of some 50 bytes.
pub fn stop_pair() -> (StopHandle, StopSignal) {
    let shared = Arc::new(Shared { patient: OnceLock::new(), urgent: OnceLock::new(), waiter: AtomicWaker::new() });
    (StopHandle(Arc::clone(&shared)), StopSignal(shared))
}

struct Shared {
    /// The first reason that lets the session finish what it is at.
    patient: OnceLock<Ending>,
    /// The first that does not. It counts, whenever it comes.
    urgent: OnceLock<Ending>,
    waiter: AtomicWaker,
}

impl Shared {
    fn reason(&self) -> Option<Ending> {
        self.urgent.get().or(self.patient.get()).copied()
    }
}

/// The end that stops. Cheap to clone; never waits.
#[derive(Clone)]
pub struct StopHandle(Arc<Shared>);

impl StopHandle {
    /// Tells the session to end. The first reason counts, but one that cannot wait goes before one that can. False if
    /// there was a reason that counts before.
    pub fn stop(&self, reason: Ending) -> bool {
        let news = if reason.may_wait() {
            self.0.urgent.get().is_none() && self.0.patient.set(reason).is_ok()
        } else {
            self.0.urgent.set(reason).is_ok()
        };
        self.0.waiter.wake();
        news
    }
}

/// The end that listens. One task at a time may wait for it.
pub struct StopSignal(Arc<Shared>);

impl StopSignal {
    /// The reason, once there is one; else wakes this task when there is.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Ending> {
        // Registered before the look, so that a stop in between is not missed.
        self.0.waiter.register(cx.waker());
        self.0.reason().map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits for the reason. Dropping this loses nothing.
    pub async fn stopped(&self) -> Ending {
        poll_fn(|cx| self.poll(cx)).await
    }
}

/// The deadline (CLOCK_BOOTTIME in ms, 0 for none) has passed. That clock goes on while the machine sleeps: a proxy that
/// was suspended must know that its time is over.
pub(super) fn is_isolated(deadline: &AtomicU64) -> bool {
    let deadline = deadline.load(Ordering::Relaxed);
    deadline != 0 && boottime_ms() >= deadline
}
