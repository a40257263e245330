//! What the fleet notes about logins, beside the table: answers of passdbs, and what failed logins cost.
//!
//! Notes lapse by themselves, and nothing is ever wrong without them, only slower: whoever can read or write none goes on
//! as if nobody had noted anything. So they need no numbers, no leases and no recovery, and go beside the links. Names and
//! values come from `auth`, keyed and sealed with the fleet's secret: to the store they are random bytes.

use async_trait::async_trait;

use super::StoreError;
use crate::model::Incarnation;

/// Under what something is noted: a keyed digest, of which half is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(pub [u8; 16]);

impl Name {
    /// In which of `shards` shards what has this name is noted, and whatever else is to be had in the same round trip.
    pub fn shard(&self, shards: u16) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]]) % shards.max(1)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One of a set: a keyed digest, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Trace(pub [u8; 16]);

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Name(self.0).fmt(f)
    }
}

impl std::str::FromStr for Trace {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes()))
    }
}

/// One thing to note or to recall. A name is always used with one kind of these; what is kept is apart from what guards
/// logins, so that the one can be forgotten without the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// What was kept under the name.
    Recall(Name),
    /// Keep this for so many milliseconds, at least 1, in place of what was there.
    Keep {
        /// Under which name.
        name: Name,
        /// What.
        value: Vec<u8>,
        /// How long, in milliseconds.
        ttl: u64,
    },
    /// Forget what was kept.
    Drop(Name),
    /// The traces that were left.
    Traces(Name),
    /// Leave one more trace. One that is there already changes nothing.
    Leave {
        /// Under which name.
        name: Name,
        /// Which.
        trace: Trace,
        /// How long all of them stay after the last new one, in milliseconds, at least 1.
        ttl: u64,
        /// How many there may be: with that many another one goes, whichever. At least 1.
        most: u32,
    },
    /// Wipe these traces.
    Wipe {
        /// Under which name.
        name: Name,
        /// Which; at least one.
        traces: Vec<Trace>,
    },
    /// Count one more.
    Tally {
        /// Under which name.
        name: Name,
        /// How long after the first the count lapses, in milliseconds, at least 1.
        ttl: u64,
    },
    /// An incarnation has so many of something of which the fleet may have only some. What those have that have no lease in
    /// that shard does not count.
    Occupy {
        /// Under which name.
        name: Name,
        /// Who.
        holder: Incarnation,
        /// How many, in all.
        count: u32,
        /// How many the fleet may have; 0 for any number. To have no more than before is always possible.
        most: u32,
        /// How long it is known after somebody's last change, in milliseconds, at least 1.
        ttl: u64,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// To a recall.
    Kept(Option<Vec<u8>>),
    /// To a keep.
    Done,
    /// To a drop: whether there was anything.
    Dropped(bool),
    /// All traces, in no order.
    Traces(Vec<Trace>),
    /// To one that was left, how many there are; to those that were wiped, how many there were of them; to a tally, the count.
    Counted(u32),
    /// Whether there was room, and what the others have.
    Occupied {
        /// It is noted.
        fits: bool,
        /// Of the other incarnations that live.
        others: u32,
    },
}

/// Where notes are.
#[async_trait]
pub trait Notes: Send + Sync + 'static {
    /// Does all of it in one round trip, in this order. A name means something else in another shard. Gives up at once for a while
    /// after the store could not be reached, so that an outage does not slow every login.
    async fn exchange(&self, shard: u16, notes: &[Note]) -> Result<Vec<Noted>, StoreError>;

    /// Forgets all that anybody kept in one shard, but no traces, counts and holders; says how many notes that were.
    async fn forget_all(&self, shard: u16) -> Result<u64, StoreError>;
}
