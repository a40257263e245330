//! Every key name that homing uses in Redis, and nowhere else. `lua/README.md` says what is behind each.

use crate::model::{Incarnation, Key};

/// How many keys a script is given.
pub(super) const COUNT: usize = 14;

/// The keys of one shard. Its number, with the namespace, is the hash tag: a shard lives in one Cluster slot.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    tag: String,
}

impl Keys {
    pub(super) fn of_shard(namespace: &str, shard: u16) -> Self {
        Self { tag: format!("{{{namespace}:{shard}}}") }
    }

    /// What every script is given as KEYS: `lua/include/keys.lua` names them in this order. The last five are stems.
    pub(super) fn for_scripts(&self) -> [String; COUNT] {
        [
            self.shard(),
            self.named("asserting"),
            self.leases(),
            self.orphans(),
            self.backends(),
            self.load(),
            self.users(),
            self.named("ranks"),
            self.named("stale"),
            self.named("p:"),
            self.named("px:"),
            self.named("kick:"),
            self.named("b:"),
            self.named("rank:"),
        ]
    }

    pub(super) fn shard(&self) -> String {
        self.named("shard")
    }

    pub(super) fn asserting(&self) -> String {
        self.named("asserting")
    }

    pub(super) fn leases(&self) -> String {
        self.named("leases")
    }

    pub(super) fn orphans(&self) -> String {
        self.named("orphans")
    }

    pub(super) fn backends(&self) -> String {
        self.named("backends")
    }

    pub(super) fn load(&self) -> String {
        self.named("load")
    }

    pub(super) fn users(&self) -> String {
        self.named("users")
    }

    pub(super) fn proxy(&self, incarnation: &Incarnation) -> String {
        format!("{}{incarnation}", self.named("p:"))
    }

    pub(super) fn binding(&self, key: &Key) -> String {
        format!("{}{key}", self.named("b:"))
    }

    fn named(&self, name: &str) -> String {
        format!("{}:{name}", self.tag)
    }
}
