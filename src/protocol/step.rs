//! What conversations with mail servers have in common: what an answer leads to, and how a login is said piece by piece.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::{BackendWish, Output, Violation};

/// What a server's answer led to; `S` is what is awaited then.
pub(super) enum Step<S> {
    Next(S),
    Wish(S, BackendWish),
}

impl<S> Step<S> {
    /// A probe says `words` and goes: `over` awaits nothing. The server answers and closes; nobody waits for that.
    pub(super) fn goodbye(over: S, words: &str, out: &mut Output) -> Self {
        out.put(words);
        Self::Wish(over, BackendWish::Seen)
    }

    /// The server agreed to TLS. `rest`: more has come behind that.
    pub(super) fn tls(awaited: S, rest: bool) -> Result<Self, Violation> {
        if rest {
            // Somebody on the way put these in front of what the server will say under TLS.
            return Err(Violation::InjectionBehindStartTls);
        }
        Ok(Self::Wish(awaited, BackendWish::StartTls))
    }

    /// Makes this what is awaited.
    pub(super) fn enter(self, state: &mut S) -> Option<BackendWish> {
        let (next, wish) = match self {
            Self::Next(next) => (next, None),
            Self::Wish(next, wish) => (next, Some(wish)),
        };
        *state = next;
        wish
    }
}

/// What a login under way has still to say.
#[derive(Default)]
pub(super) struct Unsaid {
    pieces: VecDeque<Zeroizing<Vec<u8>>>,
    cancelled: bool,
}

impl Unsaid {
    /// These, one at each prompt.
    pub(super) fn pieces(pieces: impl Into<VecDeque<Zeroizing<Vec<u8>>>>) -> Self {
        Self { pieces: pieces.into(), cancelled: false }
    }

    /// Nothing of it is to be said any more.
    pub(super) fn forget(&mut self) {
        self.pieces.clear();
    }

    /// Answers a prompt. A server that wants more than the login has is told so, by `cancel`, and its refusal follows.
    pub(super) fn go_on(&mut self, cancel: &str, out: &mut Output) -> Result<(), Violation> {
        match self.pieces.pop_front() {
            Some(piece) => out.put(piece.as_slice()),
            None if !self.cancelled => {
                self.cancelled = true;
                out.put(cancel);
            }
            None => return Err(Violation::Nonsense("it asks on after the login was cancelled")),
        }
        Ok(())
    }
}
