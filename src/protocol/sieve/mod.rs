//! ManageSieve (RFC 5804) until login: [`Frontend`] faces the mail client, [`Backend`] the mail server.
//!
//! What both understand: literals with and without `+`, STARTTLS with capabilities after it that nobody asked for,
//! XCLIENT (Dovecot). `token.rs` takes strings apart, `command.rs` parses what clients say, `response.rs` what servers say,
//! `capability.rs` has what both know of capabilities, `reply.rs` every word that we say to clients.

mod backend;
mod capability;
mod command;
mod frontend;
mod reply;
mod response;
#[cfg(test)]
mod tests;
mod token;

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
