//! The first stage: bytes pass in both directions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};

use super::direction::{Direction, Over, Spare};
use super::parting::{Farewell, Parting};
use super::pool::BufferPool;
use super::stop::{self, StopSignal};
use super::{Outcome, RelaySession, RelaySettings};
use crate::model::Ending;
use crate::net::Stream;

/// The silence behind a line of the backend that makes a safe point to stop at. Longer than a mail server pauses within an
/// answer, or a client before the literal that it was asked for; half of what a kick of the whole fleet may take.
const QUIET: Duration = Duration::from_millis(50);
/// How long a client may take to hear our last words and to close.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

/// Two connections and what passes between them.
pub(super) struct Moving {
    client: Stream,
    backend: Stream,
    /// Client to backend.
    up: Direction,
    /// Backend to client.
    down: Direction,
    sending: Sending,
    /// The backend has spoken since the client did.
    answered: bool,
    /// When a byte was last given on, in either direction.
    active: Instant,
    /// Told to end; waiting for a safe point.
    stopping: Option<Stopping>,
    stop: StopSignal,
    isolation: Arc<AtomicU64>,
}

/// Why moving is over, and how patient to be with the backend.
pub(super) struct End {
    pub(super) ending: Ending,
    /// How long the backend may take to end; then it is reset.
    pub(super) patience: Duration,
}

/// A wish to end that waits for a safe point, until its deadline.
#[derive(Clone, Copy)]
struct Stopping {
    ending: Ending,
    deadline: Instant,
}

impl Stopping {
    fn begin(ending: Ending, patience: Duration) -> Self {
        Self { ending, deadline: Instant::now() + patience }
    }
}

/// The state of what the client sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// It may send more.
    Open,
    /// It has closed its sending side; the backend is being told.
    Closing,
    /// It has closed its sending side and the backend knows.
    Closed,
    /// The backend takes no more. What it still has to say may be waiting.
    Refused,
}

impl Moving {
    pub(super) fn new(client: Stream, backend: Stream, session: RelaySession) -> Self {
        Self {
            client,
            backend,
            up: Direction::starting_with(session.leftover),
            down: Direction::starting_with(Vec::new()),
            sending: Sending::Open,
            answered: true, // a login
            active: Instant::now(),
            stopping: None,
            stop: session.stop,
            isolation: session.isolation,
        }
    }

    /// Obeys, moves what can be moved now, or finds that nobody has spoken for too long. Ready when the session is over.
    pub(super) fn poll(
        &mut self,
        settings: &RelaySettings,
        timer: &mut Pin<Box<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        // Before any byte. An isolated proxy resets at once: the user may be at home elsewhere already, so that not even
        // bytes under way may reach the backend.
        if stop::is_isolated(&self.isolation) {
            return Poll::Ready(End { ending: Ending::Isolated, patience: Duration::ZERO });
        }
        if let Poll::Ready(ending) = self.stop.poll(cx)
            && let Some(end) = self.obey(ending, settings)
        {
            return Poll::Ready(end);
        }
        if let Poll::Ready(ending) = self.poll_bytes(&settings.pool, cx) {
            return Poll::Ready(End { ending, patience: settings.close_timeout });
        }
        self.poll_limit(settings, timer, cx)
    }

    /// Ends, if that must be now or can be: nothing that this relay passed on is under way then. Else starts to wait for
    /// a safe point, meanwhile going on as ever: only the client knows the end of what it is sending.
    fn obey(&mut self, ending: Ending, settings: &RelaySettings) -> Option<End> {
        let untouched = self.up.moved + self.down.moved == 0;
        if untouched || !ending.may_wait() {
            let patience = if ending == Ending::Isolated { Duration::ZERO } else { settings.close_timeout };
            return Some(End { ending, patience });
        }
        self.stopping.get_or_insert_with(|| Stopping::begin(ending, settings.kick_deadline));
        None
    }

    /// Ready when a peer has ended the session.
    fn poll_bytes(&mut self, pool: &Arc<BufferPool>, cx: &mut Context<'_>) -> Poll<Ending> {
        let (up, down) = (self.up.moved, self.down.moved);
        // One buffer serves both directions, unless the first must keep it.
        let mut spare = Spare::none_yet(pool);
        // The backend first: what it says now is no answer to what the client says now.
        let mut ended = self.poll_down(&mut spare, cx);
        if ended.is_pending() {
            ended = self.poll_up(&mut spare, cx);
        }
        if (self.up.moved, self.down.moved) != (up, down) {
            self.answered = self.up.moved == up;
            self.active = Instant::now();
        }
        ended
    }

    fn poll_up(&mut self, spare: &mut Spare<'_>, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.sending == Sending::Open {
            match ready!(self.up.poll(&mut self.client, &mut self.backend, spare, cx)) {
                Over::End => self.stop_sending(Sending::Closing),
                Over::ReadFailed => return Poll::Ready(Ending::ClientLost),
                Over::WriteFailed => self.stop_sending(Sending::Refused),
            }
        }
        if self.sending == Sending::Closing {
            // An error here shows again, as the end of what the backend says.
            let _ = ready!(Pin::new(&mut self.backend).poll_shutdown(cx));
            self.sending = Sending::Closed;
        }
        Poll::Pending
    }

    /// From here on the backend's silence counts, and by a shorter limit.
    fn stop_sending(&mut self, sending: Sending) {
        self.sending = sending;
        self.up.give_up();
        self.active = Instant::now();
    }

    fn poll_down(&mut self, spare: &mut Spare<'_>, cx: &mut Context<'_>) -> Poll<Ending> {
        let over = ready!(self.down.poll(&mut self.backend, &mut self.client, spare, cx));
        Poll::Ready(match (self.sending, over) {
            (Sending::Closing | Sending::Closed, _) => Ending::ClientClosed,
            (_, Over::WriteFailed) => Ending::ClientLost,
            (Sending::Refused, _) | (_, Over::ReadFailed) => Ending::BackendLost,
            (Sending::Open, Over::End) => Ending::BackendClosed,
        })
    }

    /// Asks the timer, which was set long ago, whether it is time to end. Only when it fires is it set anew, for what is
    /// then left.
    fn poll_limit(&mut self, settings: &RelaySettings, timer: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> Poll<End> {
        let (due, end) = self.limit(settings);
        // The timer is coarse, and silent for a task that has used up its turn.
        if self.stopping.is_some() && Instant::now() >= due {
            return Poll::Ready(end);
        }
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(end);
            }
            timer.as_mut().reset(due);
        }
    }

    /// When and how the session ends if nothing more is said.
    fn limit(&self, settings: &RelaySettings) -> (Instant, End) {
        let (limit, silent) = match self.sending {
            Sending::Open => {
                (settings.idle_timeout, End { ending: Ending::ClientIdle, patience: settings.close_timeout })
            }
            // The backend has had its time already.
            Sending::Closing | Sending::Closed => {
                (settings.close_timeout, End { ending: Ending::ClientClosed, patience: Duration::ZERO })
            }
            Sending::Refused => (settings.close_timeout, End { ending: Ending::BackendLost, patience: Duration::ZERO }),
        };
        let due = self.active + limit;
        let Some(Stopping { ending, deadline }) = self.stopping else { return (due, silent) };
        let safe = if self.is_at_rest() { deadline.min(self.active + QUIET) } else { deadline };
        if safe < due { (safe, End { ending, patience: settings.close_timeout }) } else { (due, silent) }
    }

    /// The backend has said a whole line since the client did, and nothing is kept back: an answer, unless more of it is
    /// to come; or, to a client that idles, some news.
    fn is_at_rest(&self) -> bool {
        self.answered && self.up.is_between_lines() && self.down.is_between_lines() && self.down.is_flushed()
    }

    /// On to the second stage. The last `words` are left out where they would land in the middle of a line.
    pub(super) fn part(self, ending: Ending, words: &'static [u8], now: Instant, backend_until: Instant) -> Parting {
        let words = if self.down.is_between_lines() { words } else { b"" };
        Parting::new(
            Farewell::new(self.client, words, now + CLIENT_PATIENCE),
            Farewell::new(self.backend, b"", backend_until),
            Outcome { ending, in_bytes: self.up.moved, out_bytes: self.down.moved },
        )
    }
}
