//! homing: interchangeable, stateless proxies that bring every mail user home to one backend.
//!
//! A login passes through the rooms like this: accept (`net`), pre-auth (`session` driving `protocol`), passdb (`auth`),
//! join or claim (`placement`, `ledger`, `store`), connect and log in (`backend`), answer, `relay`, declare (`placement`).
//! ARCHITECTURE.md has the map; `tests/layout` holds the rooms to their import table.

pub mod admin;
pub mod app;
pub mod auth;
pub mod backend;
pub mod cli;
pub mod config;
pub mod doveadm;
pub mod fleet;
pub mod health;
pub mod hook;
pub mod ledger;
pub mod model;
pub mod net;
pub mod placement;
pub mod protocol;
pub mod relay;
pub mod session;
pub mod store;
pub mod telemetry;
