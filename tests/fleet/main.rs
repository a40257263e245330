//! Fleets in one process: proxies without sockets (link, ledger, lease, roster, placement) over one store in memory, each
//! with a runtime of its own, so that it can be killed or made to stand still, and a way to the store that can be made bad.
//! Scripted sessions hold the slots that connections would, and a witness sees which backends have sessions of a key.
//!
//! A test of an invariant (ARCHITECTURE.md) starts with its number. `HOMING_SEED=n` repeats a run's random choices as far
//! as threads allow.

// Whatever fails in a test shall end it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod amnesia;
mod chaos;
mod errands;
mod expiry;
mod harness;
mod jobs;
mod migrations;
mod moves;
mod operators;
mod placing;
mod shards;
mod tables;
