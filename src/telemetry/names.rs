//! Names of the log's fields, each once. Operators and their scripts search for them, so they change only with a note
//! in the changelog. In a macro they stand in braces: `info!({ names::USER } = %user, "login")`.

/// Name of the proxy that writes.
pub const PROXY: &str = "proxy";
/// Incarnation of the proxy.
pub const INCARNATION: &str = "incarnation";
/// Session id; the backend's log shows the same.
pub const SESSION: &str = "session";
/// Canonical user name.
pub const USER: &str = "user";
/// Affinity key.
pub const KEY: &str = "key";
/// "imap".
pub const PROTOCOL: &str = "protocol";
/// Address and port of the true client.
pub const CLIENT: &str = "client";
/// Address and port that the client connected to.
pub const LOCAL: &str = "local";
/// Address and port of who connected, where a PROXY header named another client.
pub const PEER: &str = "peer";
/// Name of the backend.
pub const BACKEND: &str = "backend";
/// Address and port of the backend.
pub const ADDRESS: &str = "address";
/// Name of the pool.
pub const POOL: &str = "pool";
/// Generation of the binding.
pub const GENERATION: &str = "generation";
/// Bytes from client to backend.
pub const IN_BYTES: &str = "in_bytes";
/// Bytes from backend to client.
pub const OUT_BYTES: &str = "out_bytes";
/// Milliseconds that a session or step took.
pub const DURATION_MS: &str = "duration_ms";
/// Why a connection ended: a word of `model::Ending`.
pub const ENDING: &str = "ending";
/// Whose doing the end was: a word of `model::Who`.
pub const WHO: &str = "who";
/// How far a connection had come: a word of `model::Phase`.
pub const PHASE: &str = "phase";
/// Why a client was turned away: `model::Refusal`.
pub const REFUSAL: &str = "refusal";
/// SASL mechanism, or "LOGIN".
pub const MECHANISM: &str = "mechanism";
/// Version of TLS towards the client.
pub const TLS: &str = "tls";
/// Cipher suite towards the client.
pub const CIPHER: &str = "cipher";
/// Name that the client asked for by SNI.
pub const SNI: &str = "sni";
/// Passdb source that decided.
pub const PASSDB: &str = "passdb";
/// Store call.
pub const CALL: &str = "call";
/// Epoch of the store.
pub const EPOCH: &str = "epoch";
/// How many.
pub const COUNT: &str = "count";
/// File that a line is about.
pub const FILE: &str = "file";
/// Error with its causes.
pub const ERROR: &str = "error";

/// All of them.
pub const ALL: [&str; 30] = [
    PROXY,
    INCARNATION,
    SESSION,
    USER,
    KEY,
    PROTOCOL,
    CLIENT,
    LOCAL,
    PEER,
    BACKEND,
    ADDRESS,
    POOL,
    GENERATION,
    IN_BYTES,
    OUT_BYTES,
    DURATION_MS,
    ENDING,
    WHO,
    PHASE,
    REFUSAL,
    MECHANISM,
    TLS,
    CIPHER,
    SNI,
    PASSDB,
    CALL,
    EPOCH,
    COUNT,
    FILE,
    ERROR,
];
