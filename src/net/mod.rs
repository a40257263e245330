//! Sockets: listeners, PROXY headers, TLS, and running a protocol machine over a stream.

mod drive;
mod stream;

pub use drive::{DriveError, drive, flush};
pub use stream::Stream;
