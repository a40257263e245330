//! Incarnations as people know them: by the names of their proxies.

use crate::model::Incarnation;
use crate::store::{Census, Holder};

/// A proxy that has sessions of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Its configured name, if the store knows it.
    pub name: Option<String>,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// How many sessions.
    pub sessions: u32,
    /// Its lease is over: milliseconds until its keys are freed.
    pub orphan_ms: Option<u64>,
}

/// Who is who in one shard.
pub(super) struct People(Census);

impl People {
    pub(super) fn of(census: Census) -> Self {
        Self(census)
    }

    pub(super) fn holders(&self, holders: &[Holder]) -> Vec<Who> {
        holders.iter().map(|holder| self.who(&holder.incarnation, holder.sessions, holder.orphan)).collect()
    }

    /// What people call it, if the store knows it.
    pub(super) fn name(&self, incarnation: &Incarnation) -> Option<String> {
        let known = self.0.proxies.iter().find(|proxy| proxy.incarnation == *incarnation);
        known.map(|proxy| proxy.name.clone())
    }

    fn who(&self, incarnation: &Incarnation, sessions: u32, orphan: Option<u64>) -> Who {
        let known = self.0.proxies.iter().find(|proxy| proxy.incarnation == *incarnation);
        let due = known.filter(|proxy| proxy.orphan).map(|proxy| proxy.left_ms);
        Who {
            name: known.map(|proxy| proxy.name.clone()),
            incarnation: incarnation.clone(),
            sessions,
            orphan_ms: orphan.or(due),
        }
    }
}
