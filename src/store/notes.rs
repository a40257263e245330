//! What the fleet notes about logins, beside the table: answers of passdbs, and what failed logins cost.
//!
//! Notes lapse by themselves, and nothing is ever wrong without them, only slower: whoever can read or write none goes on
//! as if nobody had noted anything. So they need no numbers, no leases and no recovery, and go beside the links. Names and
//! values come from `auth`, keyed and sealed with the fleet's secret: to the store they are random bytes.

use async_trait::async_trait;

use super::StoreError;

/// The longest note in bytes. One that is longer is of somebody else, and as good as none: nobody reads it.
pub const MAX_NOTE: usize = 64 * 1024;

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

/// One thing to note or to recall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// What was kept under the name; nothing, if that is empty or longer than [`MAX_NOTE`].
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
}

/// Where notes are.
#[async_trait]
pub trait Notes: Send + Sync + 'static {
    /// Does all of it in one round trip, in this order. A name means something else in another shard. Gives up at once for a while
    /// after the store could not be reached, so that an outage does not slow every login.
    async fn exchange(&self, shard: u16, notes: &[Note]) -> Result<Vec<Noted>, StoreError>;

    /// Forgets all that anybody kept in one shard; says how many notes that were.
    async fn forget_all(&self, shard: u16) -> Result<u64, StoreError>;
}
