//! doveadm: somebody administers mailboxes, by Dovecot's TCP protocol (1.0 to 1.3) or its HTTP API (`/doveadm/v1`).
//!
//! `command.rs` is one command as both ways say it, `kind.rs` what sort of command it is, `api.rs` a body of the HTTP API;
//! `reply.rs` has every word we say, `frontend.rs` faces the client of the TCP protocol, `backend.rs` and `result.rs`
//! understand the answer of a mail server, by the one way and the other. The questions of the proxy itself (who is there) are in the room `doveadm`.

mod api;
mod backend;
mod command;
mod frontend;
mod kind;
pub mod reply;
mod result;
#[cfg(test)]
mod tests;
mod text;

pub use api::{ApiCall, ApiFault, parse_calls, split_answer};
pub use backend::{Answer, Demultiplexer, Event, Verdict};
pub use command::{Aim, Command, Flags, NotForUs, PROXY_TTL, escape, unescape};
pub use frontend::{Frontend, FrontendSettings, FrontendWish};
pub use kind::{Kind, kind, normal};
pub use result::{ApiAnswer, Rows};
pub use text::Text;

/// The minor version of the TCP protocol that we speak, to clients and to mail servers.
pub const MINOR: u32 = 3;
/// From this minor version on, what follows the login is cut into frames.
pub const MINOR_FRAMES: u32 = 1;
/// From this minor version on, a command may have extra fields, and what is logged must be asked for.
pub const MINOR_EXTRA_FIELDS: u32 = 3;
