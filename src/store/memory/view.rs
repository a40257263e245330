//! What operators see. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use super::super::request::Row;
use super::super::{BackendView, BindingPage, BindingView, Census, Past, ProxyView};
use super::Moment;
use super::shard::Shard;
use crate::model::{BackendId, Incarnation, Key};

/// The most bindings on one page.
const VIEWS: usize = 1000;

impl Shard {
    pub(super) fn binding_view(&self, key: &Key, moment: &Moment<'_>) -> Option<BindingView> {
        let now = self.now(moment);
        let remember = moment.rules.remember;
        let marks = self.marks.get(key).filter(|marks| marks.pin.is_some() || marks.holds(now));
        let binding = self.bindings.get(key).filter(|binding| !binding.is_forgotten(now, remember));
        if marks.is_none() && binding.is_none() {
            return None;
        }
        let known = |past: &&Past| past.until.0 + remember > now;
        let mut view = BindingView {
            pin: marks.and_then(|marks| marks.pin.clone()),
            hold_ms: marks.and_then(|marks| marks.hold).filter(|until| *until > now).map(|until| left(until, now)),
            lock: marks.and_then(|marks| marks.lock(now)),
            past: self.pasts.get(key).into_iter().flatten().filter(known).cloned().collect(),
            ..BindingView::default()
        };
        if let Some(binding) = binding {
            view.backend = Some(binding.backend.clone());
            view.generation = binding.generation;
            view.sessions = binding.sessions;
            view.holders = binding.holder_counts();
            view.idle_ms = binding.idle.map(|idle| now.saturating_sub(idle));
            view.unproven = binding.unproven;
            view.moving = binding.moving.as_ref().map(|moving| moving.view(now));
        }
        Some(view)
    }

    /// The cursor is the last key of the page before, behind a sign that no first cursor ("0") has.
    pub(super) fn binding_page(&self, cursor: &str, moment: &Moment<'_>) -> BindingPage {
        let last = cursor.strip_prefix('>');
        let all: BTreeSet<&Key> = self.bindings.keys().chain(self.marks.keys()).collect();
        let mut rest = all.into_iter().filter(|key| last.is_none_or(|last| key.as_str() > last)).peekable();
        let page: Vec<&Key> = rest.by_ref().take(VIEWS).collect();
        let next = rest.peek().and(page.last()).map(|last| format!(">{last}"));
        let view = |key: &Key| Some((key.clone(), self.binding_view(key, moment)?));
        BindingPage { bindings: page.into_iter().filter_map(view).collect(), next }
    }

    pub(super) fn census(&self, moment: &Moment<'_>) -> Census {
        let now = self.now(moment);
        let (voters, against) = self.votes();
        let registered: std::collections::BTreeMap<_, _> = self.leases.iter().chain(&self.orphans).collect();
        Census {
            epoch: self.shared.as_ref().map_or(0, |shared| shared.epoch),
            now: if self.shared.is_some() { now } else { 0 },
            recovering_ms: Some(self.recovering_ms(now, moment)).filter(|ms| *ms > 0),
            table_version: self.table.version,
            proxies: registered.into_iter().filter_map(|(inc, until)| self.proxy_view(inc, *until, now)).collect(),
            backends: self.backend_views(&against),
            voters,
            moving: u32::try_from(self.moving.len()).unwrap_or(u32::MAX),
            splits: self.splits,
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
            failing: proxy.failing.iter().cloned().collect(),
            left: proxy.left.clone(),
            errand: proxy.errand,
        })
    }

    fn backend_views(&self, against: &BTreeMap<BackendId, u32>) -> Vec<BackendView> {
        let view = |(backend, row): (&BackendId, &Row)| BackendView {
            backend: backend.clone(),
            row: row.clone(),
            sessions: self.load.get(backend),
            users: self.users.get(backend),
            placed: self.placed.get(backend),
            votes: against.get(backend).copied().unwrap_or(0),
        };
        self.table.rows.iter().map(view).collect()
    }
}

/// Milliseconds until then, or 0 if that has no end.
fn left(until: u64, now: u64) -> u64 {
    if until == u64::MAX { 0 } else { until - now }
}
