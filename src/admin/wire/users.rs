//! What operators ask about users and want done to them, and what they are told.

use serde::{Deserialize, Serialize};

/// One line of an answer that takes its time: JSON, one to a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<T> {
    /// It is still being worked on.
    Alive,
    /// A part of the answer, or all of it.
    Item(T),
    /// What went wrong and what to do. The last line.
    Failed(String),
    /// The last line.
    End,
}

/// Where a user is at home.
#[derive(Debug, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The affinity key that the name makes.
    pub key: String,
    /// The binding, if there is one.
    pub home: Option<Home>,
    /// What operators have set.
    pub marks: Marks,
}

/// What operators have set on a user, bound or not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Marks {
    /// The backend that the user is pinned to.
    pub pin: Option<String>,
    /// Logins wait for so many milliseconds more, or 0 without end.
    pub hold_ms: Option<u64>,
    /// The incarnation of the proxy that has locked the user, for a migration or a confirmed move.
    #[serde(default)]
    pub locked_by: Option<String>,
    /// Milliseconds until that lock ends if it is not renewed.
    #[serde(default)]
    pub locked_ms: Option<u64>,
    /// Where the user is being moved: "to b2", "to another backend", "out, by a kick".
    pub moving: Option<String>,
    /// Milliseconds until that is given up.
    pub moving_left_ms: Option<u64>,
    /// The move's hook: "none", "pending" or "running".
    pub hook: Option<String>,
}

/// A binding.
#[derive(Debug, Serialize, Deserialize)]
pub struct Home {
    /// The backend.
    pub backend: String,
    /// The binding's generation.
    pub generation: u64,
    /// Sessions in the whole fleet.
    pub sessions: u32,
    /// Who holds them.
    pub holders: Vec<Holder>,
    /// Seconds without a session, if there is none.
    pub idle_s: Option<u64>,
}

/// A proxy that holds sessions of a user.
#[derive(Debug, Serialize, Deserialize)]
pub struct Holder {
    /// Its configured name, if the store knows it.
    pub proxy: Option<String>,
    /// Its incarnation.
    pub incarnation: String,
    /// How many.
    pub sessions: u32,
    /// Its lease is over: milliseconds until its keys are freed.
    pub orphan_ms: Option<u64>,
}

/// `POST /v1/users/{name}/move`
#[derive(Debug, Serialize, Deserialize)]
pub struct MoveAsk {
    /// Where to; by default to any backend but the present one.
    pub to: Option<String>,
    /// At once, though sessions are open.
    #[serde(default)]
    pub force: bool,
    /// Run the hook of `[moves]`, if there is one.
    pub hook: bool,
    /// Answer when it is over.
    pub wait: bool,
    /// Move only if the old backend says over doveadm that it has no process of the user.
    #[serde(default)]
    pub confirm: bool,
}

/// `POST /v1/users/{name}/kick`
#[derive(Debug, Serialize, Deserialize)]
pub struct KickAsk {
    /// Answer when all sessions are closed.
    pub wait: bool,
    /// Ask the home over doveadm until it has no process of the user.
    #[serde(default)]
    pub confirm: bool,
}

/// `POST /v1/users/{name}/hold`
#[derive(Debug, Serialize, Deserialize)]
pub struct HoldAsk {
    /// Milliseconds; by default without end.
    pub for_ms: Option<u64>,
    /// End the user's sessions, too.
    pub kick: bool,
}

/// `POST /v1/users/{name}/pin`
#[derive(Debug, Serialize, Deserialize)]
pub struct PinAsk {
    /// Where.
    pub backend: String,
    /// Move the user there now.
    pub go: bool,
}

/// `POST /v1/users/{name}/migrate`
#[derive(Debug, Serialize, Deserialize)]
pub struct MigrateAsk {
    /// Where to.
    pub to: String,
    /// Command or URL that copies the mailbox, run by the proxy.
    pub hook: Option<String>,
    /// How long it may take, in seconds.
    pub hook_timeout_s: u64,
    /// Ask the old backend until it has no process of the user.
    pub confirm: bool,
    /// Pin the user there.
    pub pin: bool,
}

/// What came of a move or kick.
#[derive(Debug, Serialize, Deserialize)]
pub struct Moved {
    /// The affinity key that the name makes.
    pub key: String,
    /// The home before.
    pub from: Option<String>,
    /// The home now, if there is one and it is known.
    pub home: Option<String>,
    /// "done", "begun" (nobody waited), "cancelled" or "unknown".
    pub end: String,
    /// Why it was cancelled, or is not known; or why the backend was not heard to have let go.
    pub why: Option<String>,
    /// Whether the old backend itself said that it has no process of the user any more; nothing if it was not asked.
    #[serde(default)]
    pub backend_let_go: Option<bool>,
    /// Proxies that had sessions.
    pub proxies: usize,
    /// Those of them that have closed them all.
    pub confirmed: usize,
    /// Sessions that were closed.
    pub closed: u32,
    /// Who still has sessions, as far as is known.
    pub left: Vec<Holder>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// What came of a hold, release, pin or unpin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Marked {
    /// The affinity key that the name makes.
    pub key: String,
    /// The home, if there is one.
    pub home: Option<String>,
    /// Who has sessions.
    pub holders: Vec<Holder>,
    /// The kick or move that belonged to it.
    pub moved: Option<Moved>,
}

/// What came of a migration.
#[derive(Debug, Serialize, Deserialize)]
pub struct Migrated {
    /// The affinity key that the name makes.
    pub key: String,
    /// The home before.
    pub from: Option<String>,
    /// The home now.
    pub home: Option<String>,
    /// The step that failed: "check", "hold", "kick", "copy", "switch" or "release".
    pub failed: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// Sessions that were closed.
    pub closed: u32,
    /// Who still had sessions.
    pub left: Vec<Holder>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Why a user is where they are.
#[derive(Debug, Serialize, Deserialize)]
pub struct Explained {
    /// The name that was asked for.
    pub name: String,
    /// The affinity key that it makes.
    pub key: String,
    /// The shard that the key is in.
    pub shard: u16,
    /// The binding, if there is one.
    pub home: Option<Home>,
    /// Milliseconds since the binding's generation began.
    pub age_ms: u64,
    /// What operators have set.
    pub marks: Marks,
    /// What a login would meet with now: "goes", "waits" or "fails".
    pub next: String,
    /// Where to, if it goes.
    pub next_backend: Option<String>,
    /// Why.
    pub why: String,
    /// The backends that a login could be placed at, the best first.
    pub candidates: Vec<Candidate>,
}

/// A backend that could take a user.
#[derive(Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub backend: String,
    /// Sessions there.
    pub sessions: u32,
    /// Users with sessions there.
    pub users: u32,
    /// Its weight in percent of one of weight 100, as far as its slow start has come.
    pub share_percent: f64,
    /// What decides: sessions, with the one that would come, for each hundred of weight. The lowest is chosen.
    pub load_per_share: f64,
}

/// The homes of a user.
#[derive(Debug, Serialize, Deserialize)]
pub struct History {
    /// The affinity key that the name makes.
    pub key: String,
    /// The present home.
    pub home: Option<Home>,
    /// Milliseconds since it has been that.
    pub age_ms: u64,
    /// Former ones, the latest first.
    pub past: Vec<FormerHome>,
}

/// A former home.
#[derive(Debug, Serialize, Deserialize)]
pub struct FormerHome {
    /// Which.
    pub backend: String,
    /// Milliseconds since it began to be that.
    pub began_ms_ago: u64,
    /// Milliseconds since it ended.
    pub ended_ms_ago: u64,
    /// Why: "move", "force", "dead", "pin", "placed", "declared", "kick".
    pub why: String,
}

/// One line of `GET /v1/users`.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserRow {
    /// The affinity key.
    pub key: String,
    /// The home, if there is one.
    pub backend: Option<String>,
    /// Sessions in the whole fleet.
    pub sessions: u32,
    /// Seconds without a session, if there is none.
    pub idle_s: Option<u64>,
    /// What operators have set.
    #[serde(flatten)]
    pub marks: Marks,
}

/// `GET /v1/users`
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ListAsk {
    /// Only users at home there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Only users at home in that pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Only held ones.
    #[serde(default)]
    pub held: bool,
    /// Only pinned ones.
    #[serde(default)]
    pub pinned: bool,
    /// Only such as are being moved.
    #[serde(default)]
    pub moving: bool,
    /// At most so many; 0 for all.
    #[serde(default)]
    pub limit: usize,
}

/// `POST /v1/proxies/{name}/forget`
#[derive(Debug, Serialize, Deserialize)]
pub struct ForgetAsk {
    /// Also what seems to live.
    pub force: bool,
}

/// What became of the proxies of a name.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forgotten {
    /// Incarnations whose users were freed.
    pub freed: Vec<String>,
    /// Incarnations that have a lease: nothing was done to them.
    pub alive: Vec<String>,
}
