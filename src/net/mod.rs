//! Sockets: listeners, PROXY headers, TLS, and running a protocol machine over a stream.
//!
//! A connection comes in by [`Listener::accept`]. Where the listener says so, [`receive_proxy_header`] reads who the
//! client really is, and not one byte more. [`ServerTls`] makes it a secured [`Stream`], at once or after STARTTLS, and
//! [`drive()`] runs the dialogue over either. Towards a mail server, [`emit_proxy_header`] and [`ClientTls`] do the same
//! the other way round.
//!
//! What is neither client nor mail server, but is asked something now and then, is a [`Target`].
//!
//! Nothing here knows a deadline: every future may be dropped at any time. What can follow then is at most a farewell by
//! [`flush`]; the connection is closed by dropping it.

mod drive;
mod listener;
mod local;
mod proxy_header;
mod stream;
mod target;
mod tls;

pub use drive::{DriveError, drive, flush};
pub use listener::{Listener, canonical, tune};
pub use local::LocalSocket;
pub use proxy_header::{
    OutgoingProxyHeader, ProxyFault, ProxyHeader, ProxyTls, emit as emit_proxy_header,
    emit_local as emit_local_proxy_header, receive as receive_proxy_header,
};
pub use stream::Stream;
pub use target::{Posting, Proof, Target, TargetFault};
pub use tls::{ClientTls, ServerTls, TlsFacts, TlsFault};
