//! Sources of the passdb over real servers: OpenLDAP, PostgreSQL, MariaDB, SQLite, an issuer of tokens and a
//! policy server, which are killed and hung.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod directory;
mod issuer;
mod policy;
mod remembered;
mod servers;
mod site;
mod sql;
mod tokens;
