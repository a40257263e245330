//! The mail servers: `table.rs` says which there are and how to talk to them; `connect.rs` protects a connection that
//! `dial.rs` made, announces the client and logs the user in; `visit.rs` only looks whether that could be done;
//! `fault.rs` says why it could not; `offers.rs` remembers what they offer.

mod connect;
mod dial;
mod fault;
mod offers;
mod table;
mod visit;

pub use connect::{Arrival, Request, connect, connect_as};
pub use fault::{ConnectError, Outcome, Seen, Witness};
pub use offers::Offers;
pub use table::{Road, Server, Servers, ServersFault, StrangerTls, Tls, added_row};
pub use visit::{Visit, VisitLogin, visit};
