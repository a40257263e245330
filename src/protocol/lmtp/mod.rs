//! SKELETON: to be replaced whole.

use super::{Backend, BackendLogin, BackendWish, Farewell, Input, Machine, Output, Stage, Violation};

/// A look at a mail server: greeting, LHLO, goodbye.
pub struct Look;

impl Look {
    /// Who only looks needs neither user nor password.
    pub fn new(_login: BackendLogin) -> Self {
        Self
    }
}

impl Machine for Look {
    type Wish = BackendWish;
    fn advance(&mut self, _: &mut Input, _: &mut Output) -> Result<Option<BackendWish>, Violation> {
        Err(Violation::Nonsense("skeleton"))
    }
}

impl Backend for Look {
    fn stage(&self) -> Stage {
        Stage::Greeting
    }
    fn secured(&mut self, _: &mut Output) {}
}

/// The only words to a client that is turned away before it was greeted.
pub fn turn_away(_why: Farewell, _out: &mut Output) {}
