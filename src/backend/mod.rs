//! The mail servers: `table.rs` says which there are and how to talk to them; `connect.rs` dials one, protects the
//! connection, announces the client and logs the user in.

mod connect;
mod table;

pub use connect::{Arrival, ConnectError, Request, connect};
pub use table::{Server, Servers, ServersFault, StrangerTls, added_row};
