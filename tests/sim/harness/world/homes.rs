//! Where keys are at home, and when that may change: I2.

use std::collections::BTreeSet;

use homing::model::{BackendId, Key};
use homing::store::clock::STEP;

use super::super::clock;
use super::{Facts, Home, World};

impl World {
    /// I2: the key has not left its home, unless something has happened since that may change it.
    pub(super) fn stays_at_home(&self, facts: &mut Facts, key: &Key, backend: BackendId, asked: u64) {
        let unsettled = facts.unsettled.get(key).copied().unwrap_or(0).max(facts.all_unsettled);
        let stands = |home: &&Home| {
            let changed = facts.changed.get(&home.backend).copied().unwrap_or(0);
            facts.taking[usize::from(self.shard_of(key))].contains(&home.backend) && home.asked > unsettled.max(changed)
        };
        if let Some(home) = facts.homes.get(key).filter(|home| home.backend != backend).filter(stands) {
            // The store's clock may be ahead by one step.
            let remembered = self.plan.rules.user_expire.saturating_sub(STEP + 500);
            if home.left.is_none_or(|left| clock::now() < left + remembered) {
                self.fail(format_args!(
                    "I2 {key}: at {backend}, but at home at {} until {:?}",
                    home.backend, home.left
                ));
            }
        }
        facts.homes.insert(key.clone(), Home { backend, asked, left: None });
    }

    /// The home of that key, or of all, may change within so many milliseconds.
    pub fn unsettle(&self, key: Option<&Key>, within: u64) {
        let until = clock::now() + within;
        let mut facts = self.facts();
        match key {
            Some(key) => drop(facts.unsettled.insert(key.clone(), until)),
            None => facts.all_unsettled = facts.all_unsettled.max(until),
        }
    }

    /// From now on these backends take users by the table of that shard. Homes at others may change, and at those that have just begun or ended to.
    pub fn taking_users(&self, shard: u16, backends: BTreeSet<BackendId>) {
        let facts = &mut *self.facts();
        let taking = &mut facts.taking[usize::from(shard)];
        for changed in taking.symmetric_difference(&backends) {
            facts.changed.insert(changed.clone(), clock::now());
        }
        *taking = backends;
    }

    pub(super) fn notes_end(facts: &mut Facts, key: &Key) {
        let open = facts.visits.values().any(|visit| visit.open && visit.key == *key);
        if let Some(home) = facts.homes.get_mut(key) {
            home.left = (!open).then(clock::now);
        }
    }
}
