//! What the kinds of passdb have in common that are asked over the network.

use std::time::Duration;

use crate::config::key::section;

section! {
    /// How long and how often a passdb is asked that may be slow or away.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RemoteKeys {
        /// How long an answer may take. A question that has to wait for its turn waits at most as long again. Logins
        /// without an answer get a temporary failure.
        pub timeout: Duration = Duration::from_secs(5), min("10ms"), max("1min");
        /// Questions asked at the same time, by this proxy; more wait for their turn.
        pub parallel: usize = 64, min("1"), max("10000");
        /// After so many failures in a row the source is left alone for `pause`: logins fail at once instead of waiting
        /// for a time-out each.
        pub failures: u32 = 5, min("1"), max("1000");
        /// How long; then one question goes through, and its answer decides about the others.
        pub pause: Duration = Duration::from_secs(2), min("10ms"), max("10min");
        /// The fleet remembers its answers, sealed in the store: see `cache_ttl` in [auth]. Not those of a query with :client or
        /// :server, which is always asked. The kinds "dovecot" and "http" are told the client's address, and may answer by it: there
        /// it is false by default, and true only fits if they do not. Of tokens only what "introspection" says is remembered, until they end.
        pub cache: bool = true;
    }
}
