//! Fleets on loopback: real Redis, real Dovecot servers, real proxies as processes, real mail clients.
//!
//! A test of an invariant (ARCHITECTURE.md) starts with its number. `HOMING_CHAOS_SECONDS` sets how long the chaos test
//! kills proxies (60 by default) and how long the storm lasts (20), `HOMING_SEED` repeats a run's random choices,
//! `HOMING_KEEP` keeps every test's files, `HOMING_REDIS` names another program than `redis-server`, such as
//! `valkey-server`, and `HOMING_NAMESPACES=no` does without network namespaces where they are permitted.

// Whatever fails in a test shall end it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod administration;
mod amnesia;
mod audit;
mod backend_side;
mod backends;
mod chaos;
mod client_address;
mod clients;
mod cut_off;
mod deferred;
mod doors;
mod doveadm;
mod failover;
mod harness;
mod health;
mod homes;
mod large_mail;
mod link;
mod lmtp;
mod login;
mod masters;
mod odd_backends;
mod one_key;
mod operators;
mod oracle;
mod outage;
mod parts;
mod pause;
mod penalties;
mod pop3;
mod reload;
mod remembered;
mod secrets;
mod sieve;
mod store_tls;
mod storm;
mod submission;
mod tls;
mod tokens;
