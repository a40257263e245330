//! Which backends the fleet finds dead: the majority of the live proxies' names, but never more than `max_down` of a pool.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Rules;
use super::super::request::{BackendState, Row};
use super::shard::Shard;
use crate::model::{BackendId, Incarnation, Pool};

impl Shard {
    /// Takes a proxy's vote, and makes the table say what the votes say. `None`: this shard has only a copy of the table.
    pub(super) fn vote(&mut self, inc: &Incarnation, failing: Option<&Vec<BackendId>>, now: u64, rules: &Rules) {
        let Some(failing) = failing else { return };
        if let Some(proxy) = self.proxies.get_mut(inc) {
            proxy.failing = failing.iter().cloned().collect();
        }
        let mut verdicts = self.verdicts(rules.max_down);
        let wrong = |(name, row): (&BackendId, &Row)| verdicts.contains(name) != row.failing;
        if self.table.version == 0 || !self.table.rows.iter().any(wrong) {
            return;
        }
        let version = now.max(self.table.version.saturating_add(1));
        for (name, row) in &mut self.table.rows {
            let before = row.clone();
            row.failing = verdicts.remove(name);
            row.continue_from(Some(&before), version);
        }
        self.table.version = version;
        self.table_has_changed();
    }

    /// How many names of live proxies vote, and how many of them against each backend.
    pub(super) fn votes(&self) -> (u32, BTreeMap<BackendId, u32>) {
        let mut names: BTreeMap<&str, BTreeSet<&BackendId>> = BTreeMap::new();
        for proxy in self.leases.keys().filter_map(|inc| self.proxies.get(inc)) {
            names.entry(&proxy.name).or_default().extend(&proxy.failing);
        }
        let mut against = BTreeMap::new();
        for backend in names.values().flatten() {
            *against.entry((*backend).clone()).or_insert(0) += 1;
        }
        (u32::try_from(names.len()).unwrap_or(u32::MAX), against)
    }

    /// The backends that are to count as dead.
    fn verdicts(&self, max_down: f64) -> BTreeSet<BackendId> {
        let (voters, against) = self.votes();
        let dead = |name: &BackendId| against.get(name).is_some_and(|votes| votes * 2 > voters);
        let mut pools: BTreeMap<&Pool, Vec<(&BackendId, &Row)>> = BTreeMap::new();
        let voted_on =
            |row: &Row| row.unread.is_none() && !matches!(row.state, BackendState::Down | BackendState::Removed);
        for (name, row) in self.table.rows.iter().filter(|(_, row)| voted_on(row)) {
            pools.entry(&row.pool).or_default().push((name, row));
        }
        let mut verdicts = BTreeSet::new();
        for rows in pools.values() {
            let found = rows.iter().filter(|(name, _)| dead(name)).count();
            // Beyond it the network is the suspect, not the servers: nobody is called dead who was not before.
            let panic = found > (rows.len() as f64 * max_down) as usize;
            let condemned = rows.iter().filter(|(name, row)| dead(name) && (row.failing || !panic));
            verdicts.extend(condemned.map(|(name, _)| (*name).clone()));
        }
        verdicts
    }
}
