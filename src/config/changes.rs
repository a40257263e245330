//! What differs between two configurations, and whether a reload is enough to apply it.

use std::collections::BTreeMap;

use super::Config;
use super::reader::{contains, join};
use super::show::{Line, Table, tables};

/// Tables and keys that a reload applies; all else needs a restart. Listeners stay open, the store and the fleet's
/// times belong to the incarnation, and the log's form to the process.
const LIVE: [&str; 15] = [
    "auth",
    "auth_policy",
    "backend",
    "doveadm",
    "health",
    "limits",
    "lmtp",
    "log.level",
    "moves.max_errors",
    "moves.max_parallel_moves",
    "moves.move_rate",
    "moves.rebalance_tolerance",
    "passdb",
    "sieve",
    "tls",
];

/// Dotted keys in which a new configuration differs. A table that came or went is named as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A reload applies these.
    pub applied: Vec<String>,
    /// These wait for a restart.
    pub needs_restart: Vec<String>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.needs_restart.is_empty()
    }
}

impl Config {
    /// What differs in `new`.
    pub fn changes(&self, new: &Self) -> Changes {
        let (applied, needs_restart) = differences(self, new).into_iter().partition(|path| is_live(path));
        Changes { applied, needs_restart }
    }
}

/// Whether a reload applies the key or table at `path`.
pub(super) fn is_live(path: &str) -> bool {
    LIVE.iter().any(|live| contains(live, path))
}

fn differences(old: &Config, new: &Config) -> Vec<String> {
    let by_path = |config| tables(config).into_iter().map(|table| (table.path.clone(), table)).collect();
    let (mut old, new): (BTreeMap<String, Table>, BTreeMap<String, Table>) = (by_path(old), by_path(new));
    let mut different = Vec::new();
    for (path, table) in new {
        match old.remove(&path) {
            Some(before) => different.extend(different_keys(&before, &table)),
            None => different.push(path),
        }
    }
    different.extend(old.into_keys());
    different.sort();
    different
}

/// Keys of the new table that the old one lacks, or that say something else there. A table's `kind` may decide which keys
/// it has.
fn different_keys(old: &Table, new: &Table) -> Vec<String> {
    let same = |new: &Line| old.lines.iter().any(|old| old.key.name == new.key.name && old.value == new.value);
    new.lines.iter().filter(|line| !same(line)).map(|line| join(&new.path, line.key.name)).collect()
}
