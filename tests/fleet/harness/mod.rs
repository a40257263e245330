//! What the tests play with.

pub mod crowd;
pub mod dice;
pub mod proxy;
pub mod regulars;
pub mod road;
pub mod script;
pub mod stage;
pub mod wait;
pub mod witness;

pub use crowd::Crowd;
pub use dice::Dice;
pub use proxy::{Proxy, Session};
pub use regulars::Regulars;
pub use road::{Road, Weather};
pub use script::Script;
pub use stage::{Stage, rows};
pub use wait::{eventually, throughout};
pub use witness::Witness;
