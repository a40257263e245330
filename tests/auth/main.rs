//! Sources of the passdb over real servers: OpenLDAP, PostgreSQL, MariaDB and SQLite, which are killed and hung.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod directory;
mod servers;
mod site;
mod sql;
