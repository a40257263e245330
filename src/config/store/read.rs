//! `[store]` out of a file, and whether its keys go together.

use super::{Kind, Passwords, StoreConfig, StoreKeys};
use crate::config::document::must_be_name;
use crate::config::fault::REFUSED;
use crate::config::reader::Reader;

/// Reads the table.
pub(in crate::config) fn read(reader: &mut Reader<'_>) -> StoreConfig {
    let keys: StoreKeys = reader.section("store");
    must_be_name(reader, "store.namespace", &keys.namespace);
    match keys.kind {
        Kind::Memory if !reader.is_sound("store.kind") => {}
        Kind::Memory => no_servers(&keys, reader),
        Kind::Redis => {
            servers(&keys, reader);
            logins(&keys, reader);
            tls(&keys, reader);
        }
    }
    let of_servers = reader.secret_file("store.password_file", keys.password_file.as_deref());
    let of_sentinels = reader.secret_file("store.sentinel_password_file", keys.sentinel_password_file.as_deref());
    keys.build(Passwords { of_servers, of_sentinels }).unwrap_or(StoreConfig::Memory)
}

/// Keys that mean something only beside others, and whether they say something.
fn said(keys: &StoreKeys) -> [(&'static str, bool); 15] {
    [
        ("url", keys.url.is_some()),
        ("sentinels", !keys.sentinels.is_empty()),
        ("master", keys.master.is_some()),
        ("sentinel_username", keys.sentinel_username.is_some()),
        ("sentinel_password", keys.sentinel_password.is_some()),
        ("sentinel_password_file", keys.sentinel_password_file.is_some()),
        ("cluster", !keys.cluster.is_empty()),
        ("username", keys.username.is_some()),
        ("password", keys.password.is_some()),
        ("password_file", keys.password_file.is_some()),
        ("database", keys.database != 0),
        ("tls", keys.tls),
        ("tls_ca", keys.tls_ca.is_some()),
        ("tls_certificate", keys.tls_certificate.is_some()),
        ("tls_key", keys.tls_key.is_some()),
    ]
}

/// With `kind = "memory"`, keys of a server show that the operator meant the other kind.
fn no_servers(keys: &StoreKeys, reader: &mut Reader<'_>) {
    let shards = [("shards", keys.shards > 1)];
    for (key, _) in said(keys).into_iter().chain(shards).filter(|(_, said)| *said) {
        let consequence = "the proxies would share nothing, and put users on several backends at once";
        let remedy = "set kind = \"redis\", or remove it";
        reader.fault(&format!("store.{key}"), "has no use with store.kind \"memory\"", consequence, remedy);
    }
}

/// One of the three ways to the servers, and what belongs to it alone.
fn servers(keys: &StoreKeys, reader: &mut Reader<'_>) {
    let ways: Vec<_> = ["url", "sentinels", "cluster"].into_iter().filter(|way| says(keys, way)).collect();
    let sound = ["url", "sentinels", "cluster"].iter().all(|way| reader.is_sound(&format!("store.{way}")));
    match ways[..] {
        [] if sound => {
            let remedy = "add url = \"redis://host:6379\" to [store], or sentinels and master, or cluster";
            reader.fault("store.url", "is missing, but store.kind is \"redis\"", REFUSED, remedy);
        }
        [first, second, ..] => {
            let meaning = format!("names servers a second time besides store.{first}");
            reader.fault(&format!("store.{second}"), &meaning, REFUSED, "remove one of them");
        }
        _ => {}
    }
    if says(keys, "sentinels") && keys.master.is_none() && reader.is_sound("store.master") {
        let remedy = "add master = \"mymaster\", the name in the Sentinels' \"sentinel monitor\"";
        reader.fault("store.master", "is missing, but there are store.sentinels", REFUSED, remedy);
    }
    let without_sentinels = !says(keys, "sentinels") && reader.is_sound("store.sentinels");
    for key in ["master", "sentinel_username", "sentinel_password", "sentinel_password_file"] {
        if without_sentinels && says(keys, key) {
            let remedy = "add sentinels, or remove it";
            reader.fault(&format!("store.{key}"), "has no use without store.sentinels", REFUSED, remedy);
        }
    }
    if keys.database != 0 && says(keys, "cluster") {
        let meaning = "has no use with store.cluster: a Cluster has no database but 0";
        reader.fault("store.database", meaning, REFUSED, "remove it; fleets can share a Cluster by their namespace");
    }
}

fn says(keys: &StoreKeys, key: &str) -> bool {
    said(keys).contains(&(key, true))
}

/// A user and a password, each at one place.
fn logins(keys: &StoreKeys, reader: &mut Reader<'_>) {
    if let Some(url) = &keys.url {
        for (key, doubled, place) in [
            ("username", url.username.is_some(), "redis://user@host"),
            ("password", url.password.is_some(), "redis://:password@host"),
            ("database", true, "redis://host/1"),
        ] {
            if says(keys, key) && doubled {
                let (meaning, remedy) =
                    (format!("gives a second {key} besides store.url"), format!("write \"{place}\""));
                reader.fault(&format!("store.{key}"), &meaning, REFUSED, &remedy);
            }
        }
    }
    let in_url = keys.url.as_ref().is_some_and(|url| url.password.is_some());
    for (file, other) in [
        ("password_file", in_url || keys.password.is_some()),
        ("sentinel_password_file", keys.sentinel_password.is_some()),
    ] {
        if says(keys, file) && other {
            reader.fault(&format!("store.{file}"), "gives a second password", REFUSED, "remove one of them");
        }
    }
}

fn tls(keys: &StoreKeys, reader: &mut Reader<'_>) {
    let by_url = keys.url.as_ref().is_some_and(|url| url.tls);
    if keys.tls && keys.url.is_some() && !by_url {
        let meaning = "has no use with store.url, which says itself whether it is TLS";
        let consequence = "the connection would be in the clear";
        reader.fault("store.tls", meaning, consequence, "begin the URL with \"rediss://\"");
    }
    let sound = ["url", "tls"].iter().all(|key| reader.is_sound(&format!("store.{key}")));
    for key in ["tls_ca", "tls_certificate", "tls_key"] {
        if says(keys, key) && !keys.tls && !by_url && sound {
            let consequence = "passwords would go to Redis in the clear";
            let remedy = "write \"rediss://\" in the URL, or tls = true beside sentinels or cluster; or remove it";
            reader.fault(&format!("store.{key}"), "has no use without TLS", consequence, remedy);
        }
    }
    for (key, other) in [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")] {
        if says(keys, key) && !says(keys, other) && reader.is_sound(&format!("store.{other}")) {
            let (meaning, remedy) = (format!("needs store.{other}"), format!("add {other}, or remove it"));
            reader.fault(&format!("store.{key}"), &meaning, "homing could not prove who it is", &remedy);
        }
    }
}
