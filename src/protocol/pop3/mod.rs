//! POP3 (RFC 1939) until login: [`Frontend`] faces the mail client, [`Backend`] the mail server.
//!
//! What both understand: CAPA and response codes (RFC 2449, 3206), STLS (RFC 2595), SASL (RFC 5034), XCLIENT (Dovecot).
//! `command.rs` parses what clients say, `response.rs` what servers say, `reply.rs` has every word that we say to
//! clients. There are no last words for a client that is logged in: a POP3 server speaks only when it is asked.

mod backend;
mod command;
mod frontend;
mod reply;
mod response;
#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use frontend::Frontend;

use super::talk::Words;
use super::{Farewell, Output};

/// The only words to a client that is turned away before it was greeted.
pub fn turn_away(why: Farewell, out: &mut Output) {
    <Frontend as Words>::farewell(why, true, out);
}
