//! What operators ask about logins.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// `POST /v1/auth/test`: would this login be let in?
#[derive(Serialize, Deserialize)]
pub struct TrialAsk {
    /// Name as a client would give it; with a master user's behind the separator, if that is meant.
    pub user: String,
    /// The password. Wiped when dropped.
    pub password: String,
    /// By which protocol: "imap".
    pub service: String,
    /// The client's address; by default that of this machine.
    pub client: Option<std::net::IpAddr>,
}

impl fmt::Debug for TrialAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrialAsk").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Drop for TrialAsk {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

/// What would become of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trial {
    /// "granted", or why not: "bad_credentials", "forbidden" or "passdb_unavailable".
    pub outcome: String,
    /// Kind and place of the source that decided; absent if none knows the name.
    pub source: Option<String>,
    /// "source", "shared" (it was being asked the same for somebody else), "cache", or "stale cache" (the source does not
    /// answer).
    pub origin: Option<String>,
    /// Microseconds.
    pub micros: u64,
    /// Canonical name.
    pub user: Option<String>,
    /// Nobody has checked the password: the backend would.
    pub unproven: bool,
    /// The passdb's fields with Dovecot's names; passwords are masked.
    pub fields: Vec<(String, String)>,
}

/// `POST /v1/auth/flush`
#[derive(Debug, Serialize, Deserialize)]
pub struct FlushAsk {
    /// About whom the fleet is to forget what passdbs said; everybody, if nobody is named.
    pub user: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Flushed {
    /// Records that are gone.
    pub records: u64,
}

/// `POST /v1/auth/forgive`
#[derive(Debug, Serialize, Deserialize)]
pub struct ForgiveAsk {
    /// Whose failed logins are to cost nothing any more: an address, or a user's name.
    pub whom: String,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forgiven {
    /// Failures that are forgotten.
    pub failures: u32,
}

/// `GET /v1/auth`: how this proxy's passdbs and their cache fare, and who fails.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuthStats {
    /// Since the start.
    pub penalties: PenaltyCounts,
    /// Since the start.
    pub cache: CacheCounts,
    /// In their order, those of users first; since the start or the last reload.
    pub sources: Vec<SourceCounts>,
    /// The policy server, if there is one; since the start or the last reload.
    pub policy: Option<PolicyCounts>,
}

/// How the policy server fares.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PolicyCounts {
    /// Where it is.
    pub server: String,
    /// Questions to which it said yes.
    pub welcome: u64,
    /// Questions to which it ordered a delay.
    pub delayed: u64,
    /// Questions to which it said no.
    pub unwelcome: u64,
    /// Questions without an answer, or that were not asked because it failed too often shortly before.
    pub unavailable: u64,
    /// Reports that it took.
    pub reported: u64,
    /// Reports that it did not take.
    pub lost: u64,
    /// It is left alone at the moment.
    pub paused: bool,
}

/// What failed logins came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PenaltyCounts {
    /// Failures that were noted.
    pub failed: u64,
    /// Logins that had to wait for earlier failures.
    pub delayed: u64,
    /// Logins that were turned away, above `limits.logins_per_minute` or because too many waited at their address.
    pub too_fast: u64,
    /// Successes that took failures away.
    pub forgiven: u64,
    /// Logins that were judged by this proxy's own notes, because the store could not be asked.
    pub alone: u64,
}

/// What the cache has done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CacheCounts {
    /// Questions that it answered.
    pub fresh: u64,
    /// Questions that it answered because the source could not.
    pub stale: u64,
    /// Questions that went to a source.
    pub missed: u64,
    /// Questions that waited for the same question of somebody else.
    pub shared: u64,
    /// Looks that failed because the store could not be asked.
    pub unreachable: u64,
}

/// How one source fares.
#[derive(Debug, Serialize, Deserialize)]
pub struct SourceCounts {
    /// Kind and place.
    pub source: String,
    /// It is asked about master users.
    pub master: bool,
    /// Questions, refused ones included.
    pub asked: u64,
    /// Let in, or found.
    pub granted: u64,
    /// Known, and turned away.
    pub denied: u64,
    /// Not known there.
    pub unknown: u64,
    /// It answered that it could not, or with nonsense.
    pub unavailable: u64,
    /// No turn or no answer in time.
    pub timed_out: u64,
    /// Not asked, because it failed too often shortly before.
    pub refused: u64,
    /// It is left alone at the moment.
    pub paused: bool,
    /// Microseconds of all answers together.
    pub micros: u64,
}
