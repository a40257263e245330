//! The contract of a store: every behaviour is played once over memory and once over a real Redis, then seeded random
//! histories are played over both and every answer compared.
//!
//! `HOMING_SEED=n` replays one history; `HOMING_SEEDS=n` plays that many. `HOMING_STORE=cluster` plays everything over a
//! Redis Cluster of one node, `HOMING_REDIS=valkey-server` over that program.

#![allow(clippy::panic)] // a test fails by it, also in what tests share

mod stage;

/// Plays each behaviour over both stores.
macro_rules! contract {
    ($($behaviour:ident),+ $(,)?) => {
        mod over_memory {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(crate::stage::Stage::Memory).await;
            })+
        }
        mod over_redis {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(crate::stage::Stage::Redis).await;
            })+
        }
    };
}

mod bulk;
mod claims;
mod declares;
mod embedded;
mod errands;
mod errors;
mod expiry;
mod histories;
mod hooks;
mod marks;
mod moves;
mod notes;
mod numbering;
mod orders;
mod placing;
mod recovery;
mod server;
mod sums;
mod tables;
mod unfit;
mod votes;
