//! LMTP (RFC 2033): mail comes in. [`Frontend`] faces whoever brings it, for as long as the connection lasts; [`Backend`] a
//! mail server, until it takes envelopes.
//!
//! What both understand: PIPELINING (RFC 2920), CHUNKING (RFC 3030, without BINARYMIME), SIZE (RFC 1870), 8BITMIME (RFC 6152),
//! STARTTLS (RFC 3207), and where all backends do, SMTPUTF8 (RFC 6531) and DSN (RFC 3461). `command.rs` parses what clients
//! say, `address.rs` their addresses, `body.rs` finds the end of a message, `response.rs` parses what servers say,
//! `reply.rs` has every word that we say to clients, `transaction.rs` keeps a status for each recipient.

mod address;
mod backend;
mod body;
mod command;
mod frontend;
pub mod reply;
mod response;
mod transaction;
mod xclient;

pub use address::Mailbox;
pub use backend::{Backend, offered};
pub use body::{Dotted, Lines, Undotted};
pub use command::{Mail, Rcpt};
pub use frontend::{Content, Frontend, Limits, Wish};
pub use reply::Reply;
pub use response::Replies;
pub use transaction::Transaction;

pub use super::smtp::forwarded_within;
use super::{Farewell, Output};

/// The only words to a client that is turned away before it was greeted.
pub fn turn_away(why: Farewell, out: &mut Output) {
    reply::farewell("", why, out);
}
