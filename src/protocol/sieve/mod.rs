//! SKELETON: to be replaced whole.

use super::{BackendLogin, BackendRefusal, BackendWish, ClientWish, Errand, Farewell, FrontendSettings};
use super::{Handover, Input, Machine, Output, Stage, Violation};
use crate::model::{Ending, Refusal};

/// The side that faces the mail client.
pub struct Frontend;

impl Frontend {
    /// For a client that has just come.
    pub fn new(_settings: FrontendSettings) -> Self {
        Self
    }
}

impl Machine for Frontend {
    type Wish = ClientWish;
    fn advance(&mut self, _: &mut Input, _: &mut Output) -> Result<Option<ClientWish>, Violation> {
        Err(Violation::Nonsense("skeleton"))
    }
}

impl super::Frontend for Frontend {
    fn greet(&mut self, _: &mut Output) {}
    fn secured(&mut self) {}
    fn refuse(&mut self, _: Refusal, _: &mut Output) -> Result<(), Violation> {
        Ok(())
    }
    fn relay_refusal(&mut self, _: &BackendRefusal, _: &mut Output) -> Result<(), Violation> {
        Ok(())
    }
    fn welcome(&mut self, _: &Handover, _: &mut Output) {}
    fn farewell(&mut self, _: Farewell, _: &mut Output) {}
    fn client_id(&self) -> &[(String, Option<String>)] {
        &[]
    }
    fn proxy_ttl(&self) -> Option<u32> {
        None
    }
}

/// The side that faces the mail server.
pub struct Backend;

impl Backend {
    /// For any errand.
    pub fn on(_errand: Errand, _login: BackendLogin) -> Self {
        Self
    }
}

impl Machine for Backend {
    type Wish = BackendWish;
    fn advance(&mut self, _: &mut Input, _: &mut Output) -> Result<Option<BackendWish>, Violation> {
        Err(Violation::Nonsense("skeleton"))
    }
}

impl super::Backend for Backend {
    fn stage(&self) -> Stage {
        Stage::Greeting
    }
    fn secured(&mut self, _: &mut Output) {}
}

/// The only words to a client that is turned away before it was greeted.
pub fn turn_away(_why: Farewell, _out: &mut Output) {}

/// What a logged-in client is told when this proxy ends its session.
pub fn last_words(_why: Ending) -> &'static [u8] {
    b""
}
