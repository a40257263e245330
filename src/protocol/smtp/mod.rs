//! What Submission and LMTP share of SMTP (RFC 5321): how a mail server answers, and how it is told who the client is.

mod forward;
mod response;
mod xclient;

pub(super) use forward::forwarded;
pub use forward::forwarded_within;
pub(super) use response::{Partial, Response, code};
pub(super) use xclient::{Attribute, commands};
