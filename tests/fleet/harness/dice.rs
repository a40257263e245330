//! Seeded random choices.

use std::sync::{Mutex, PoisonError};

/// SplitMix64 that several tasks may throw.
pub struct Dice(Mutex<u64>);

impl Dice {
    /// A number that `HOMING_SEED` can repeat; it is printed, so that a failure shows it.
    pub fn seed() -> u64 {
        let given = std::env::var("HOMING_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| std::process::id().into());
        println!("HOMING_SEED={seed}");
        seed
    }

    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// 0 to `bound` - 1.
    pub fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    pub fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }
}
