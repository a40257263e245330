//! What must be true of the sums at every instant.

use std::collections::{BTreeMap, BTreeSet};

use homing::model::{BackendId, Key};
use homing::store::*;

use crate::server::Namespace;

type Bindings = BTreeMap<Key, BindingView>;

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, stored: T, summed: T) -> Result<(), String> {
    if stored == summed { Ok(()) } else { Err(format!("{what} is {stored:?}, but should be {summed:?}")) }
}

/// n, load, users and the sessions of each proxy are the sums of what the bindings say is held.
pub(crate) fn check(census: &Census, bindings: &Bindings) -> Result<(), String> {
    for (key, binding) in bindings {
        let held: u32 = binding.holders.iter().map(|(_, sessions)| sessions).sum();
        equal(&format!("n of {key}"), binding.sessions, held)?;
        equal(&format!("idle of {key}"), binding.idle_ms.is_some(), held == 0 && binding.backend.is_some())?;
    }
    let live: BTreeSet<_> = census.proxies.iter().filter(|p| !p.orphan).map(|p| &p.incarnation).collect();
    for view in &census.backends {
        let here = || bindings.values().filter(|binding| binding.backend.as_ref() == Some(&view.backend));
        let holders = here().flat_map(|binding| &binding.holders).filter(|(who, _)| live.contains(who));
        let name = &view.backend;
        equal(&format!("load of {name}"), view.sessions, holders.map(|(_, sessions)| sessions).sum())?;
        let users = here().filter(|binding| binding.sessions > 0).count();
        equal(&format!("users of {name}"), view.users, u32::try_from(users).unwrap_or(u32::MAX))?;
    }
    for proxy in &census.proxies {
        let mut summed = BTreeMap::new();
        for binding in bindings.values() {
            let own = binding.holders.iter().filter(|(who, _)| *who == proxy.incarnation);
            own.for_each(|(_, sessions)| {
                *summed.entry(binding.backend.clone().unwrap_or_else(|| BackendId::new(""))).or_insert(0) += sessions
            });
        }
        equal(&format!("sessions of {}", proxy.incarnation), proxy.sessions.clone(), summed.into_iter().collect())?;
    }
    let moving = bindings.values().filter(|binding| binding.moving.is_some()).count();
    equal("moving", census.moving, u32::try_from(moving).unwrap_or(u32::MAX))?;
    let registered: BTreeSet<_> = census.proxies.iter().map(|p| &p.incarnation).collect();
    let strangers: Vec<_> =
        bindings.values().flat_map(|b| &b.holders).filter(|(who, _)| !registered.contains(who)).collect();
    equal("what nobody registered holds", strangers, vec![])
}

/// In Redis itself: the index names exactly what is held, no sum is negative or 0, nothing is left of who was
/// freed, and Redis finds sums fast.
pub(crate) async fn check_index(namespace: &mut Namespace, bindings: &Bindings) -> Result<(), String> {
    let mut registered: BTreeSet<String> = BTreeSet::new();
    let keys = namespace.keys().await;
    let named = |name: &str| keys.iter().find(|key| key.ends_with(name)).cloned().unwrap_or_default();
    for zset in [named("}:leases"), named("}:orphans")] {
        registered.extend(namespace.ask::<Vec<String>>(::redis::cmd("ZRANGE").arg(zset).arg(0).arg(-1)).await);
    }
    for key in &keys {
        let Some((_, name)) = key.split_once("}:") else { return Err(format!("{key} has no hash tag")) };
        match name.split_once(':') {
            Some(("px", who)) => {
                let held: BTreeSet<String> = namespace.ask(::redis::cmd("SMEMBERS").arg(key)).await;
                let holds = |binding: &BindingView| binding.holders.iter().any(|(holder, _)| holder.as_str() == who);
                let should = bindings.iter().filter(|(_, binding)| holds(binding)).map(|(key, _)| key.to_string());
                equal(key, held, should.collect())?;
            }
            Some(("p" | "kick", who)) => equal(&format!("{key}: registered"), registered.contains(who), true)?,
            _ => {}
        }
        if let Some(("b", key)) = name.split_once(':') {
            check_expiry(namespace, bindings.get(&Key::new(key)), &named(&format!("}}:b:{key}"))).await?;
        }
        if name == "load" || name == "users" {
            let mut sums: BTreeMap<String, String> = namespace.ask(::redis::cmd("HGETALL").arg(key)).await;
            sums.remove(""); // what makes it wide
            let positive = |sum: &String| sum.parse::<u64>().is_ok_and(|sum| sum > 0);
            equal(&format!("{key}: positive"), sums.values().all(positive), true)?;
        }
        // A field for each backend: they must be found without looking through the others.
        if matches!(name, "load" | "users" | "backends" | "ranks") || name.starts_with("p:") {
            let encoding: String = namespace.ask(::redis::cmd("OBJECT").arg("ENCODING").arg(key)).await;
            equal(&format!("{key}: encoding"), encoding.as_str(), "hashtable")?;
        }
    }
    Ok(())
}

/// What is held, moved or marked without end stays; the rest is collected.
async fn check_expiry(namespace: &mut Namespace, binding: Option<&BindingView>, name: &str) -> Result<(), String> {
    let Some(binding) = binding else { return Ok(()) };
    let left: i64 = namespace.ask(::redis::cmd("PTTL").arg(name)).await;
    let for_ever = binding.pin.is_some() || binding.hold_ms == Some(0);
    let stays = for_ever || binding.sessions > 0 || binding.moving.is_some();
    equal(&format!("{name} stays"), left == -1, stays)
}
