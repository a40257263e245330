//! Submission (RFC 6409) until login: [`Frontend`] faces the mail client, [`Backend`] the mail server.
//!
//! What both understand: ESMTP (RFC 5321), AUTH with initial responses (RFC 4954), STARTTLS (RFC 3207), enhanced status
//! codes (RFC 2034, 5248). Mails pass behind the login only, and nobody here looks at them. `command.rs` parses what clients
//! say, `response.rs` what servers say, `xclient.rs` tells servers who the client is, `reply.rs` has every word that we say
//! to clients.

mod backend;
mod command;
mod frontend;
mod reply;
mod response;
#[cfg(test)]
mod tests;
mod xclient;

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
