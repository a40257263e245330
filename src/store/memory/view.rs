//! What operators see. Reads only.

use super::super::request::Table;
use super::super::{BackendView, BindingView, Census, ProxyView};
use super::Moment;
use super::shard::Shard;
use crate::model::{Incarnation, Key};

impl Shard {
    pub(super) fn binding_view(&self, key: &Key, moment: &Moment<'_>) -> Option<BindingView> {
        let now = self.now(moment);
        let binding = self.bindings.get(key).filter(|binding| !binding.is_forgotten(now, moment.rules.remember))?;
        Some(BindingView {
            backend: binding.backend.clone(),
            generation: binding.generation,
            sessions: binding.sessions,
            holders: binding.holders.iter().map(|(inc, held)| (inc.clone(), *held)).collect(),
            idle_ms: binding.idle.map(|idle| now.saturating_sub(idle)),
            unproven: binding.unproven,
        })
    }

    pub(super) fn census(&self, moment: &Moment<'_>) -> Census {
        let now = self.now(moment);
        let registered: std::collections::BTreeMap<_, _> = self.leases.iter().chain(&self.orphans).collect();
        Census {
            epoch: self.shared.as_ref().map_or(0, |shared| shared.epoch),
            recovering_ms: Some(self.recovering_ms(now, moment)).filter(|ms| *ms > 0),
            table_version: self.table.version,
            proxies: registered.into_iter().filter_map(|(inc, until)| self.proxy_view(inc, *until, now)).collect(),
            backends: self.backend_views(&self.table),
        }
    }

    fn now(&self, moment: &Moment<'_>) -> u64 {
        self.shared.as_ref().map_or(moment.server_ms, |shared| shared.now(moment))
    }

    fn proxy_view(&self, inc: &Incarnation, until: u64, now: u64) -> Option<ProxyView> {
        let proxy = self.proxies.get(inc)?;
        Some(ProxyView {
            incarnation: inc.clone(),
            name: proxy.name.clone(),
            version: proxy.version.clone(),
            age_ms: now.saturating_sub(proxy.started),
            left_ms: until.saturating_sub(now),
            orphan: self.orphans.contains_key(inc),
            sessions: proxy.at.iter().map(|(backend, sessions)| (backend.clone(), sessions)).collect(),
        })
    }

    fn backend_views(&self, table: &Table) -> Vec<BackendView> {
        let view = |(backend, row): (&crate::model::BackendId, &super::super::Row)| BackendView {
            backend: backend.clone(),
            pool: row.pool.clone(),
            weight: row.weight,
            state: row.state,
            sessions: self.load.get(backend),
            users: self.users.get(backend),
        };
        table.rows.iter().map(view).collect()
    }
}
