//! What operators see: plain reads beside the links, so that looking never slows a login.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redis::{RedisResult, Value};

use super::keys::Keys;
use super::{Redis, homes, parse, rows};
use crate::model::{BackendId, Incarnation, Key};
use crate::store::clock::advance;
use crate::store::{BackendView, BindingPage, BindingView, Census, Left, ProxyView, StoreError};

/// About how many keys of the server one page of bindings looks at.
const PAGE: usize = 500;

pub(super) type Fields = HashMap<String, String>;

/// The shard hash.
struct Shared {
    fields: Fields,
    now: u64,
}

impl Redis {
    pub(super) async fn view_binding(&self, keys: &Keys, key: &Key) -> Result<Option<BindingView>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().ignore_errors();
        pipeline.cmd("TIME").hgetall(keys.shard()).hgetall(keys.binding(key)).lrange(keys.past(key), 0, -1);
        let mut answers = self.read(keys, &pipeline).await?;
        let shared = self.shared(&mut answers)?;
        let (fields, past): (Fields, Vec<String>) = (self.take(&mut answers)?, self.take(&mut answers)?);
        Ok(homes::view(&fields, &past, shared.now, self.rules.remember))
    }

    /// A page is what one SCAN finds, which may be nothing.
    pub(super) async fn view_bindings(&self, keys: &Keys, cursor: &str) -> Result<BindingPage, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        pipeline.cmd("SCAN").arg(cursor).arg("MATCH").arg(keys.bindings_pattern()).arg("COUNT").arg(PAGE);
        let (next, names): (String, Vec<String>) = self.take(&mut self.read(keys, &pipeline).await?)?;
        let page: Vec<Key> = names.iter().filter_map(|name| keys.key_of_binding(name)).collect();
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        pipeline.cmd("TIME").hgetall(keys.shard());
        for key in &page {
            pipeline.hgetall(keys.binding(key)).lrange(keys.past(key), 0, -1);
        }
        let mut answers = self.read(keys, &pipeline).await?;
        let shared = self.shared(&mut answers)?;
        let mut bindings = Vec::new();
        for key in page {
            let (fields, past): (Fields, Vec<String>) = (self.take(&mut answers)?, self.take(&mut answers)?);
            bindings.extend(homes::view(&fields, &past, shared.now, self.rules.remember).map(|view| (key, view)));
        }
        Ok(BindingPage { bindings, next: (next != "0").then_some(next) })
    }

    pub(super) async fn view_census(&self, keys: &Keys) -> Result<Census, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic().ignore_errors();
        pipeline.cmd("TIME").hgetall(keys.shard()).hgetall(keys.backends()).hgetall(keys.load());
        pipeline.hgetall(keys.users()).scard(keys.asserting());
        pipeline.zrange_withscores(keys.leases(), 0, -1).zrange_withscores(keys.orphans(), 0, -1);
        pipeline.zcard(keys.moving()).hgetall(keys.ranks());
        let mut answers = self.read(keys, &pipeline).await?;
        let shared = self.shared(&mut answers)?;
        let table: Fields = self.take(&mut answers)?;
        let (load, users): (Fields, Fields) = (self.take(&mut answers)?, self.take(&mut answers)?);
        let asserting: u64 = self.take(&mut answers)?;
        let leases: Vec<(String, u64)> = self.take(&mut answers)?;
        let orphans: Vec<(String, u64)> = self.take(&mut answers)?;
        let moving: u32 = self.take(&mut answers)?;
        let ranks: Fields = self.take(&mut answers)?;
        let proxies = self.proxies(keys, leases, orphans, shared.now).await?;
        let (voters, against) = votes(&proxies);
        Ok(Census {
            epoch: number(&shared.fields, "epoch"),
            now: if shared.fields.contains_key("run") { shared.now } else { 0 },
            recovering_ms: self.recovering_ms(&shared, asserting),
            table_version: number(&table, "version"),
            proxies,
            backends: backends(&table, &load, &users, &ranks, &against),
            voters,
            moving,
            splits: number(&shared.fields, "splits"),
        })
    }

    /// Sends a pipeline on a pooled connection.
    async fn read(
        &self,
        keys: &Keys,
        pipeline: &redis::Pipeline,
    ) -> Result<std::vec::IntoIter<RedisResult<Value>>, StoreError> {
        let (at, mut connection) = self.operator_of(keys).await?;
        Ok(self.doors.ask(&at, &mut connection, pipeline).await?.into_iter())
    }

    fn take<T: redis::FromRedisValue>(
        &self,
        answers: &mut impl Iterator<Item = RedisResult<Value>>,
    ) -> Result<T, StoreError> {
        let answer = answers.next().ok_or_else(|| self.unread(&"an answer is missing"))?;
        answer.and_then(parse).map_err(|error| self.unread(&error))
    }

    fn unread(&self, why: &impl std::fmt::Display) -> StoreError {
        StoreError::NoAnswer { at: self.masters.to_string(), why: why.to_string() }
    }

    fn shared(&self, answers: &mut impl Iterator<Item = RedisResult<Value>>) -> Result<Shared, StoreError> {
        let (seconds, micros): (u64, u64) = self.take(answers)?;
        let server = self.server.as_ref().map_or(seconds * 1000 + micros / 1000, |server| server.ms());
        let fields: Fields = self.take(answers)?;
        let known = fields.contains_key("run");
        let now = if known { advance(number(&fields, "clock"), number(&fields, "seen"), server) } else { server };
        Ok(Shared { fields, now })
    }

    /// As `lua/include/window.lua` has it.
    fn recovering_ms(&self, shared: &Shared, asserting: u64) -> Option<u64> {
        let (now, until) = (shared.now, number(&shared.fields, "until"));
        let waits = asserting > 0 && now + self.rules.recovery < until + self.rules.recovery_max;
        if now < until { Some(until - now) } else { waits.then_some(1) }
    }

    async fn proxies(
        &self,
        keys: &Keys,
        leases: Vec<(String, u64)>,
        orphans: Vec<(String, u64)>,
        now: u64,
    ) -> Result<Vec<ProxyView>, StoreError> {
        let live = leases.into_iter().map(|(name, end)| (Incarnation::new(name), (end, false)));
        let dead = orphans.into_iter().map(|(name, due)| (Incarnation::new(name), (due, true)));
        let registered: BTreeMap<_, _> = live.chain(dead).collect();
        if registered.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for incarnation in registered.keys() {
            pipeline.hgetall(keys.proxy(incarnation));
        }
        let mut answers = self.read(keys, &pipeline).await?;
        let mut proxies = Vec::new();
        for (incarnation, (until, orphan)) in registered {
            let fields: Fields = self.take(&mut answers)?;
            if !fields.is_empty() {
                proxies.push(proxy(incarnation, &fields, until, orphan, now)); // else it was freed in between
            }
        }
        Ok(proxies)
    }
}

pub(super) fn number(fields: &Fields, name: &str) -> u64 {
    fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Counts are small; what does not fit was not written by us.
pub(super) fn count(fields: &Fields, name: &str) -> u32 {
    number(fields, name).try_into().unwrap_or(u32::MAX)
}

/// The fields that begin with `stem`, in the order of what follows it.
pub(super) fn counts_behind(fields: &Fields, stem: &str) -> BTreeMap<String, u32> {
    let strip = |name: &String| name.strip_prefix(stem).map(|rest| (rest.to_owned(), count(fields, name)));
    fields.keys().filter_map(strip).collect()
}

/// How many names of live proxies vote, and how many of them against each backend.
fn votes(proxies: &[ProxyView]) -> (u32, BTreeMap<BackendId, u32>) {
    let mut names: BTreeMap<&str, BTreeSet<&BackendId>> = BTreeMap::new();
    for proxy in proxies.iter().filter(|proxy| !proxy.orphan) {
        names.entry(&proxy.name).or_default().extend(&proxy.failing);
    }
    let mut against = BTreeMap::new();
    for backend in names.values().flatten() {
        *against.entry((*backend).clone()).or_insert(0) += 1;
    }
    (u32::try_from(names.len()).unwrap_or(u32::MAX), against)
}

/// What a proxy wrote as JSON, or nothing.
fn list<T: serde::de::DeserializeOwned>(fields: &Fields, name: &str) -> Vec<T> {
    fields.get(name).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What a proxy has to do yet. How many are pinned stands apart: a version that does not know of it can read the rest, without
/// which no work at a backend would end, and writes only that.
fn left(fields: &Fields) -> Vec<Left> {
    let pinned: BTreeMap<BackendId, u32> = list(fields, "pinned").into_iter().collect();
    let left = list(fields, "left").into_iter();
    left.map(|(backend, keys)| Left { pinned: pinned.get(&backend).copied().unwrap_or(0), backend, keys }).collect()
}

fn proxy(incarnation: Incarnation, fields: &Fields, until: u64, orphan: bool, now: u64) -> ProxyView {
    let sessions = counts_behind(fields, "l:").into_iter();
    ProxyView {
        incarnation,
        name: fields.get("name").cloned().unwrap_or_default(),
        version: fields.get("version").cloned().unwrap_or_default(),
        age_ms: now.saturating_sub(number(fields, "started")),
        left_ms: until.saturating_sub(now),
        orphan,
        sessions: sessions.map(|(backend, sessions)| (BackendId::new(backend), sessions)).collect(),
        failing: list(fields, "failing"),
        left: left(fields),
        errand: number(fields, "errand"),
    }
}

fn backends(
    table: &Fields,
    load: &Fields,
    users: &Fields,
    ranks: &Fields,
    against: &BTreeMap<BackendId, u32>,
) -> Vec<BackendView> {
    // Ranks of another version are made anew by the next claim.
    let ranked = ranks.get("version") == table.get("version");
    let lines: BTreeMap<_, _> =
        table.iter().filter_map(|(name, line)| Some((name.strip_prefix("r:")?, line))).collect();
    let view = |(name, line): (&str, &String)| {
        let backend = BackendId::new(name);
        BackendView {
            placed: if ranked { count(ranks, &format!("placed:{name}")) } else { 0 },
            votes: against.get(&backend).copied().unwrap_or(0),
            backend,
            row: rows::row(line),
            sessions: count(load, name),
            users: count(users, name),
        }
    };
    lines.into_iter().map(view).collect()
}
