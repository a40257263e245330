//! Nouns that every room speaks. Each is parsed once into a type that cannot be wrong; a separate type per kind of id.

mod affinity;
mod auth;
mod clock;
mod ending;
mod exit;
mod ids;
mod protocol;
mod refusal;
mod scram;
mod secret;

pub use affinity::{KeyTemplate, TemplateFault};
pub use auth::{Credentials, Mechanism, Proof, User};
pub use clock::{Clock, Task, Tasks, boottime_ms};
pub use ending::{Ending, Phase, Who};
pub use exit::Exit;
pub use ids::{BackendId, Generation, Incarnation, Key, Pool, SessionId, Weight};
pub use protocol::Protocol;
pub use refusal::Refusal;
pub use scram::{ScramHash, ScramKeys};
pub use secret::Secret;
