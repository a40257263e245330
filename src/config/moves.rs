//! `[moves]`: how fast many users are moved.

use super::key::section;

section! {
    /// Evicting, flushing and rebalancing backends. Should be the same in every proxy of a fleet.
    #[derive(Clone, Debug, PartialEq)]
    pub struct MovesConfig {
        /// The most users that are being moved at once, fleet-wide.
        pub max_parallel_moves: u32 = 100, min("1"), max("100000");
        /// The most moves begun in a second, fleet-wide; 0 for any number.
        pub move_rate: u32 = 50, max("100000");
        /// A rebalance ends when a backend has no more than its fair share and this part of it: 0.1 is a tenth.
        pub rebalance_tolerance: f64 = 0.1, min("0.01"), max("10");
        /// When more than this part of the logins at a backend fail, moves to it stop until an operator resumes them.
        pub max_errors: f64 = 0.2, min("0"), max("1");
    }
}
