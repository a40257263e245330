//! IMAP (RFC 9051 and 3501) until login: [`Frontend`] faces the mail client, [`Backend`] the mail server.
//!
//! What both understand: ID (RFC 2971), SASL-IR (RFC 4959), non-synchronising literals (RFC 7888), response codes
//! (RFC 5530). `command.rs` parses what clients say, `response.rs` what servers say, `reply.rs` has every word that we say
//! to clients.

mod backend;
mod command;
mod frontend;
mod id;
mod reply;
mod response;
#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use frontend::Frontend;

use super::talk::Words;
use super::{Farewell, Output};
use crate::model::Ending;

/// The only words to a client that is turned away before it was greeted.
pub fn turn_away(why: Farewell, out: &mut Output) {
    <Frontend as Words>::farewell(why, true, out);
}

/// What a logged-in client is told when this proxy ends its session; empty if nothing can or need be said.
pub fn last_words(why: Ending) -> &'static [u8] {
    reply::last_words(why)
}
