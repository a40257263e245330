//! Names of the fields in the lines about clients ("session", "no login", "login refused"), each once. Operators and their
//! scripts search for them, so they change only with a note in the changelog. In a macro they stand in braces:
//! `info!({ names::USER } = %user, "login")`.

/// Session id; the backend's log shows the same.
pub const SESSION: &str = "session";
/// "imap".
pub const PROTOCOL: &str = "protocol";
/// User name: canonical once logged in, as given before.
pub const USER: &str = "user";
/// Affinity key.
pub const KEY: &str = "key";
/// How the client logged in: "command" or the SASL mechanism.
pub const MECHANISM: &str = "mechanism";
/// Address and port of the true client.
pub const CLIENT: &str = "client";
/// Address and port that the client connected to.
pub const LOCAL: &str = "local";
/// Version of the client's TLS, or "none".
pub const TLS: &str = "tls";
/// Name of the backend.
pub const BACKEND: &str = "backend";
/// Address and port of the backend.
pub const BACKEND_ADDRESS: &str = "backend_address";
/// Bytes from the client to the backend, after login.
pub const IN_BYTES: &str = "in_bytes";
/// Bytes from the backend to the client, after login.
pub const OUT_BYTES: &str = "out_bytes";
/// Milliseconds from accept to the end.
pub const DURATION_MS: &str = "duration_ms";
/// What a client of doveadm wanted done: the name of the command, without its arguments.
pub const COMMAND: &str = "command";
/// How a command of doveadm ended: 0, or a code of sysexits.h.
pub const EXIT: &str = "exit";
/// Why it ended: a word of [`Ending`](crate::model::Ending).
pub const ENDING: &str = "ending";
/// Whose doing that was: "client", "backend" or "proxy".
pub const WHO: &str = "who";
/// How far it had come: a word of [`Phase`](crate::model::Phase).
pub const PHASE: &str = "phase";
/// Why the last login was refused: a word of [`Refusal`](crate::model::Refusal), or "none".
pub const REFUSAL: &str = "refusal";
/// The code of a reply to whoever brings mail: "250".
pub const REPLY: &str = "reply";
/// Bytes of a message.
pub const BYTES: &str = "bytes";
/// Messages that a connection brought.
pub const MESSAGES: &str = "messages";
/// Recipients that got them.
pub const RECIPIENTS: &str = "recipients";
/// More about the end, for people.
pub const DETAIL: &str = "detail";
