//! The room `session` and what it joins, from outside: one real proxy in this process, real clients over TCP and TLS,
//! and mail servers whose every word the test says. Each test also holds the log to its one line per connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod administration;
mod administration_http;
mod backends;
mod delivery;
mod endings;
mod front;
mod health;
mod logins;
mod operators;
mod parts;
mod passdb;
mod pop3;
mod process;
mod referrals;
mod reload;
mod sieve;
mod submission;
