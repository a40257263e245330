//! Every key name that homing uses in Redis, and nowhere else. `lua/README.md` says what is behind each.

use crate::model::{Incarnation, Key};
use crate::store::notes::Name;

/// The keys of one shard. Its number, with the namespace, is the hash tag: a shard lives in one Cluster slot.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    tag: String,
    namespace: String,
}

impl Keys {
    pub(super) fn of_shard(namespace: &str, shard: u16) -> Self {
        Self { tag: format!("{{{namespace}:{shard}}}"), namespace: namespace.to_owned() }
    }

    /// All keys and channels of the fleet, of every shard, for ACL rules.
    pub(super) fn pattern(&self) -> String {
        format!("{{{}:*", self.namespace)
    }

    /// What every script is given as its one key: the names in `lua/include/keys.lua` and `rare_keys.lua` begin with it.
    pub(super) fn stem(&self) -> String {
        self.named("")
    }

    pub(super) fn shard(&self) -> String {
        self.named("shard")
    }

    /// In how many shards the fleet keeps its state.
    pub(super) fn shards(&self) -> String {
        self.named("shards")
    }

    /// Named when rights are tried; nothing is ever there.
    pub(super) fn scratch(&self) -> String {
        self.named("rights")
    }

    /// What was kept under that name.
    pub(super) fn note(&self, name: &Name) -> String {
        self.named(&format!("note:{name}"))
    }

    /// Traces, a count or holders of that name. Not a note, for those are forgotten all at once when passdbs' answers are.
    pub(super) fn guard(&self, name: &Name) -> String {
        self.named(&format!("guard:{name}"))
    }

    /// Of all that is kept in the shard, for SCAN. The namespace has no characters that mean anything there.
    pub(super) fn notes_pattern(&self) -> String {
        self.named("note:*")
    }

    /// A channel, not a key: something has happened that proxies would else hear with their next heartbeat.
    pub(super) fn nudge(&self) -> String {
        self.named("nudge")
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

    pub(super) fn ranks(&self) -> String {
        self.named("ranks")
    }

    pub(super) fn moving(&self) -> String {
        self.named("moving")
    }

    /// The channel on which one incarnation is nudged.
    pub(super) fn nudge_of(&self, incarnation: &Incarnation) -> String {
        format!("{}:{incarnation}", self.nudge())
    }

    pub(super) fn past(&self, key: &Key) -> String {
        format!("{}{key}", self.named("past:"))
    }

    /// The affinity key of a binding of that name.
    pub(super) fn key_of_binding(&self, name: &str) -> Option<Key> {
        name.strip_prefix(&self.named("b:")).map(Key::new)
    }

    /// What SCAN is given to find the shard's bindings, and nothing else.
    pub(super) fn bindings_pattern(&self) -> String {
        let mut pattern = String::new();
        for sign in self.named("b:").chars() {
            if matches!(sign, '*' | '?' | '[' | ']' | '^' | '\\') {
                pattern.push('\\');
            }
            pattern.push(sign);
        }
        pattern + "*"
    }

    pub(super) fn binding(&self, key: &Key) -> String {
        format!("{}{key}", self.named("b:"))
    }

    fn named(&self, name: &str) -> String {
        format!("{}:{name}", self.tag)
    }
}
