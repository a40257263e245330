//! What the whole fleet is asked.

use serde::{Deserialize, Serialize};

pub use crate::placement::errand::{Difference, Whom};

/// `POST /v1/kicks`
#[derive(Debug, Serialize, Deserialize)]
pub struct KickMany {
    /// Whose sessions.
    pub whom: Whom,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct KickedMany {
    /// Proxies that were asked.
    pub proxies: u32,
    /// Those that have answered, with all of those sessions closed.
    pub confirmed: u32,
    /// Sessions that were told to end.
    pub told: u64,
    /// Those that had not ended in time.
    pub left: u64,
    /// Milliseconds.
    pub ms: u64,
    /// What should be looked at: silent proxies, by name, and failures.
    pub complaints: Vec<String>,
}

/// `POST /v1/audit`: what the proxies and mail servers have, held against the table.
#[derive(Debug, Serialize, Deserialize)]
pub struct Audit {
    /// Proxies that were asked.
    pub proxies: u32,
    /// Those that have compared all that they hold.
    pub confirmed: u32,
    /// Keys with sessions that were looked at; one with sessions at two proxies counts twice.
    pub keys: u64,
    /// Their sessions.
    pub sessions: u64,
    /// Where a proxy and the table differ.
    pub differences: Vec<ProxyDifference>,
    /// Differences beyond those.
    pub more: u64,
    /// Mail servers that were asked who is there.
    pub backends: u32,
    /// Users that a mail server has though they are at home elsewhere or have no session, by the table.
    pub strays: Vec<Stray>,
    /// Keys that were seen with sessions at two backends: by this audit.
    pub split: Vec<String>,
    /// How often the store has found a key at two backends, and ended one, since it remembers.
    pub splits_ended: u64,
    /// What could not be compared, and why.
    pub complaints: Vec<String>,
}

/// A difference, and who has found it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProxyDifference {
    /// The proxy's name, or its incarnation.
    pub proxy: String,
    /// What it holds, and what the table says.
    #[serde(flatten)]
    pub difference: Difference,
}

/// A user whom a mail server has, by its own word, though the table has the key elsewhere, or counts no session of it:
/// who comes to the mail server on another road than through the fleet is here, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stray {
    /// The affinity key.
    pub key: String,
    /// The mail server.
    pub backend: String,
    /// Its connections of the user.
    pub connections: u32,
    /// The home; `None` if the key is not bound.
    pub home: Option<String>,
    /// The sessions that the table counts.
    pub counted: u32,
}
