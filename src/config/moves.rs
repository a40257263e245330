//! `[moves]`: how a user's home is changed while the user may be at work.

use std::time::Duration;

use super::key::section;

section! {
    /// How users are moved from one backend to another, and kicked. The same in every proxy of a fleet.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct MovesConfig {
        /// How long the sessions at the old backend may take to end, and the hook to begin, before a move is given up and
        /// the user stays.
        pub timeout: Duration = Duration::from_secs(60), min("1s"), max("1h");
        /// Between the end of the last session at the old backend and the first at the new one, and after a kick: the
        /// backend may still be writing what the session left. A hook that succeeds ends it early.
        pub kick_delay: Duration = Duration::from_secs(2), max("5min");
    }
}
