//! The mail servers: `table.rs` says which there are and how to talk to them; `connect.rs` protects a connection that
//! `dial.rs` made, announces the client and logs the user in; `visit.rs` only looks whether that could be done;
//! `fault.rs` says why it could not.

mod connect;
mod dial;
mod fault;
mod table;
mod visit;

pub use connect::{Arrival, Request, connect};
pub use fault::{ConnectError, Outcome, Seen, Witness};
pub use table::{Server, Servers, ServersFault, Service, StrangerTls, added_row};
pub use visit::{Visit, VisitLogin, visit};
