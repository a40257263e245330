//! What operators do, in a word each.

use homing::model::{BackendId, Incarnation, Key};
use homing::store::*;

use crate::stage::World;

impl World {
    pub(crate) async fn order(&self, order: Order) -> Outcome {
        self.store.order(0, &order).await.expect("answer").outcome
    }

    pub(crate) async fn begin(&self, order: Move) -> Moved {
        match self.order(Order::Move(order)).await {
            Outcome::Move(moved) => moved,
            other => panic!("move: {other:?}"),
        }
    }

    pub(crate) async fn settle(&self, key: &str, by: &str, hook: Option<bool>) -> Settled {
        let order = Settle { key: Key::new(key), incarnation: Incarnation::new(by), hook };
        match self.order(Order::Settle(order)).await {
            Outcome::Settle(settled) => settled,
            other => panic!("settle: {other:?}"),
        }
    }

    pub(crate) async fn mark(&self, key: &str, change: MarkChange) -> Marked {
        match self.order(Order::Mark(Mark { key: Key::new(key), change })).await {
            Outcome::Mark(marked) => marked,
            other => panic!("mark: {other:?}"),
        }
    }

    pub(crate) async fn ask(&self, text: &str, ttl: u64) -> (u64, Vec<Incarnation>) {
        match self.order(Order::Ask(Ask { text: text.to_owned(), ttl })).await {
            Outcome::Asked { errand, live } => (errand, live),
            other => panic!("ask: {other:?}"),
        }
    }

    pub(crate) async fn answers(&self, errand: u64) -> Vec<(Incarnation, Option<String>)> {
        match self.order(Order::Answers { errand }).await {
            Outcome::Answers(answers) => answers,
            other => panic!("answers: {other:?}"),
        }
    }

    /// Where the key is at home, and since which generation.
    pub(crate) async fn home(&self, key: &str) -> (String, u64) {
        let binding = self.binding(key).await.expect("binding");
        (binding.backend.expect("home").to_string(), binding.generation.0)
    }

    pub(crate) async fn former_homes(&self, key: &str) -> Vec<(String, String)> {
        let past = self.binding(key).await.expect("binding").past;
        past.into_iter().map(|past| (past.backend.to_string(), past.why)).collect()
    }
}

/// A plain move with a minute's time.
pub(crate) fn moving(key: &str, to: Target) -> Move {
    Move { key: Key::new(key), seen: None, to, force: false, hook: false, timeout: 60_000, pace: None }
}

pub(crate) fn to(backend: &str) -> Target {
    Target::Backend(BackendId::new(backend))
}

pub(crate) fn holder(incarnation: &str, sessions: u32, orphan: Option<u64>) -> Holder {
    Holder { incarnation: Incarnation::new(incarnation), sessions, orphan }
}

pub(crate) const MOVING: Home = Home::Wait { ms: 250, reason: WaitReason::Moving };
pub(crate) const HOLD: Home = Home::Wait { ms: 250, reason: WaitReason::Hold };
