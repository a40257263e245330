//! A move from the order to its end, as whoever ordered it sees it. The store decides; this only looks, and goes on with it
//! as any proxy would.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::moves::{MoveEnd, MoveReport, Moves, Refused, ms, nonsense};
use crate::fleet::{NoOrder, cancelled_text};
use crate::model::{BackendId, Generation, Incarnation, Key};
use crate::store::{Cancelled, Holder, Move, Moved, Order, Outcome, Settled, Target};

/// Between two looks at a move, at first. A kick of a user whose mail client is quick to close takes no longer.
const LOOK: Duration = Duration::from_millis(10);
/// In the end.
const LOOK_SELDOM: Duration = Duration::from_millis(250);
/// How long the store may take to say that a move is over, beyond the longest that one can last.
const GRACE: Duration = Duration::from_secs(5);

/// A move under way, as its beginning was answered.
pub(super) struct Begun {
    pub(super) key: Key,
    pub(super) to: Target,
    pub(super) from: Option<BackendId>,
    pub(super) generation: Generation,
    pub(super) sessions: u32,
    pub(super) holders: Vec<(Incarnation, u32)>,
    pub(super) at: Instant,
}

/// What an order to move came to at once.
pub(super) enum Start {
    /// It takes a while.
    Begun(Begun),
    /// Nothing had to end first.
    Done(BackendId),
}

/// How long a move is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Until nobody has sessions at the old home.
    Empty,
    /// Until the new home is open.
    Over,
}

impl Moves {
    /// Orders a move.
    pub(super) async fn begin(&self, order: Move, from: Option<BackendId>) -> Result<Start, Refused> {
        let (key, to, at) = (order.key.clone(), order.to.clone(), Instant::now());
        let answer = self.settler.order(self.shard(&key), &Order::Move(order)).await.map_err(|error| match error {
            NoOrder::Store(_) => Refused::Unheard(key.clone(), error),
            NoOrder::Recovering(_) => error.into(),
        })?;
        match answer {
            Outcome::Move(Moved::Begun { generation, sessions, holders }) => {
                Ok(Start::Begun(Begun { key, to, from, generation, sessions, holders, at }))
            }
            Outcome::Move(Moved::Done { backend, .. }) => Ok(Start::Done(backend)),
            Outcome::Move(Moved::Changed) => Err(Refused::Changed(key)),
            Outcome::Move(Moved::Busy) => Err(Refused::Busy(key)),
            Outcome::Move(Moved::Unbound) => Err(Refused::Unbound(key)),
            Outcome::Move(Moved::NoBackend) => Err(Refused::NoBackend(self.why_not(&key, from.as_ref(), &to))),
            other => Err(nonsense(&other)),
        }
    }

    /// Why the store would not take that target.
    pub(super) fn why_not(&self, key: &Key, from: Option<&BackendId>, to: &Target) -> String {
        let Target::Backend(to) = to else {
            return "no other backend of the user's pool takes users now".to_owned();
        };
        self.fits(key, from, to).err().unwrap_or_else(|| format!("{to} cannot take the user now"))
    }

    /// Whether a backend can be the home of a user who is at home in `from`, as the table says here.
    pub(super) fn fits(&self, key: &Key, from: Option<&BackendId>, to: &BackendId) -> Result<(), String> {
        let table = self.home_shard(key).roster.table();
        let row = table.rows.get(to).ok_or_else(|| format!("there is no backend {to}"))?;
        if !row.usable() {
            return Err(format!("{to} is {}", row.condition()));
        }
        match from.and_then(|from| table.rows.get(from)) {
            Some(home) if row.pool != home.pool => {
                Err(format!("{to} is of the pool {}, but {key} is at home in the pool {}", row.pool, home.pool))
            }
            _ => Ok(()),
        }
    }

    /// Looks after a move until it is over, or longer than it can take.
    pub(super) async fn watch(&self, begun: &Begun, until: Until) -> MoveReport {
        // A hook that has begun in time may go on beyond it.
        let patience = self.timeout + Duration::from_millis(self.rules.hook_lease) + GRACE;
        let mut left: Vec<Holder> = begun.holders.iter().map(|(whose, sessions)| still(whose, *sessions)).collect();
        let (mut pause, mut silence) = (LOOK, None);
        while begun.at.elapsed() < patience {
            match self.settler.step(self.shard(&begun.key), &self.home_shard(&begun.key).roster, &begun.key).await {
                Ok(Settled::Waiting { holders, .. }) if holders.is_empty() && until == Until::Empty => {
                    return self.report(begun, MoveEnd::Done, begun.from.clone(), holders).await;
                }
                Ok(Settled::Waiting { holders, .. }) => left = holders,
                Ok(Settled::Done { backend, .. }) => {
                    return self.report(begun, MoveEnd::Done, Some(backend), Vec::new()).await;
                }
                Ok(Settled::Cancelled { why, holders }) => {
                    let end = MoveEnd::Cancelled(self.why_cancelled(begun, why));
                    return self.report(begun, end, begun.from.clone(), holders).await;
                }
                Ok(Settled::Still { backend, generation }) => {
                    let end = self.end_elsewhere(begun, backend.as_ref(), generation);
                    let left = if end == MoveEnd::Done { Vec::new() } else { left };
                    return self.report(begun, end, backend, left).await;
                }
                Ok(Settled::Run { .. }) => {} // a step never ends so
                Err(error) => silence = Some(error),
            }
            sleep(pause).await;
            pause = (pause * 5 / 4).min(LOOK_SELDOM);
        }
        let why = silence.map_or_else(|| "it takes longer than it may".to_owned(), |error| error.to_string());
        self.report(begun, MoveEnd::Unknown(why), None, left).await
    }

    /// Somebody else has ended the move: the generation says whether a new home was opened.
    fn end_elsewhere(&self, begun: &Begun, home: Option<&BackendId>, generation: Generation) -> MoveEnd {
        let arrived = match &begun.to {
            Target::Backend(to) => home == Some(to),
            Target::Stay => true,
            Target::Elsewhere => home.is_some() && home != begun.from.as_ref(),
            Target::Anywhere => home.is_some(),
        };
        match home {
            Some(_) if generation > begun.generation && arrived => MoveEnd::Done,
            Some(home) if generation > begun.generation => {
                MoveEnd::Cancelled(format!("the user has been found at {home} meanwhile"))
            }
            Some(_) if begun.at.elapsed() >= self.timeout => {
                MoveEnd::Cancelled(self.why_cancelled(begun, Cancelled::Deadline))
            }
            Some(_) => MoveEnd::Cancelled(match self.settler.failure(&begun.key, begun.at) {
                Some(_) => self.why_cancelled(begun, Cancelled::Hook),
                None => "another proxy gave it up, most likely for its hook; the log there says why".to_owned(),
            }),
            // No login had ever been accepted: there is nothing that could be moved.
            None if begun.to == Target::Stay => MoveEnd::Done,
            None => MoveEnd::Cancelled("no login of the user had been accepted: it is not bound any more".to_owned()),
        }
    }

    fn why_cancelled(&self, begun: &Begun, why: Cancelled) -> String {
        let text = cancelled_text(why).to_owned();
        match self.settler.failure(&begun.key, begun.at) {
            Some(failure) if why == Cancelled::Hook => format!("{text}: {failure}"),
            _ => text,
        }
    }

    pub(super) async fn report(
        &self,
        begun: &Begun,
        end: MoveEnd,
        home: Option<BackendId>,
        left: Vec<Holder>,
    ) -> MoveReport {
        let took = begun.at.elapsed();
        let left = if left.is_empty() { Vec::new() } else { self.people(&begun.key).await.holders(&left) };
        let took_ms = ms(took);
        info!(key = %begun.key, goes = %begun.to, %end, took_ms, "a move, as its operator is told");
        MoveReport {
            key: begun.key.clone(),
            from: begun.from.clone(),
            home,
            end,
            proxies: begun.holders.len(),
            sessions: begun.sessions,
            left,
            quiet: None,
            took,
        }
    }
}

/// Somebody who still has sessions, and of whom no more is known.
pub(super) fn still(incarnation: &Incarnation, sessions: u32) -> Holder {
    Holder { incarnation: incarnation.clone(), sessions, orphan: None }
}
