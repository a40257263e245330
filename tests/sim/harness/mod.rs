//! What the simulation is made of.

pub mod clock;
pub mod dice;
pub mod executor;
pub mod mutant;
pub mod operator;
pub mod plan;
pub mod proxy;
pub mod road;
pub mod run;
pub mod server;
pub mod session;
pub mod site;
pub mod storm;
pub mod verdict;
pub mod world;

pub use dice::Dice;
pub use plan::{Mutation, Plan};
pub use run::{Run, simulate};
