//! The order of a document: which tables there are and what becomes of them. Here the keys of one table are held
//! against each other; `check` holds tables against tables.

use std::collections::BTreeMap;

use super::backends::BackendKeys;
use super::fault::REFUSED;
use super::front::TlsKeys;
use super::key::section;
use super::passdb::{Kind as PassdbKind, PassdbKeys};
use super::reader::Reader;
use super::store::{Kind as StoreKind, StoreKeys};
use super::value::checked_name;
use super::{BackendConfig, BackendTls, Config, PassdbConfig, StoreConfig, TlsConfig};
use crate::model::BackendId;

section! {
    /// homing's settings. Durations are a number and a unit in quotes: "500ms", "15s", "10min", "1h", "7d". Relative
    /// paths start at this file's directory.
    #[derive(Clone, Debug)]
    pub(super) struct TopKeys {
        /// Name of this proxy, for people. By default the name of the host.
        pub(super) name: String = host_name(), computed, example("\"proxy1\"");
    }
}

/// Reads every table.
pub(super) fn read(reader: &mut Reader<'_>) -> Config {
    Config {
        name: name(reader),
        store: store(reader),
        fleet: reader.section("fleet"),
        listeners: reader.list("listener").iter().map(|path| reader.section(path)).collect(),
        tls: tls(reader),
        limits: reader.section("limits"),
        moves: reader.section("moves"),
        passdb: passdb(reader),
        backends: backends(reader),
        log: reader.section("log"),
        admin: reader.section("admin"),
    }
}

/// The machine's name, or "homing" if it has none that could be used.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if checked_name(&name).is_ok() { name } else { "homing".to_owned() }
}

fn name(reader: &mut Reader<'_>) -> String {
    let TopKeys { name } = reader.section("");
    must_be_name(reader, "name", &name);
    name
}

/// Notes a fault if the value of `key` is not fit to be a name.
fn must_be_name(reader: &mut Reader<'_>, key: &str, name: &str) {
    if let Err(wrong) = checked_name(name)
        && reader.is_sound(key)
    {
        reader.fault(key, &wrong.meaning, REFUSED, &wrong.remedy);
    }
}

fn store(reader: &mut Reader<'_>) -> StoreConfig {
    let keys: StoreKeys = reader.section("store");
    must_be_name(reader, "store.namespace", &keys.namespace);
    match keys.kind {
        StoreKind::Memory if !reader.is_sound("store.kind") => {}
        StoreKind::Memory => no_store_server(reader),
        StoreKind::Redis if keys.url.is_none() && reader.is_sound("store.url") => {
            let remedy = "add url = \"redis://host:6379\" to [store]";
            reader.fault("store.url", "is missing, but store.kind is \"redis\"", REFUSED, remedy);
        }
        StoreKind::Redis => {}
    }
    let in_url = keys.url.as_ref().is_some_and(|url| url.password.is_some());
    if in_url && keys.password_file.is_some() {
        let meaning = "gives a second password besides that of store.url";
        reader.fault("store.password_file", meaning, REFUSED, "remove one of them");
    }
    let password = reader.secret_file("store.password_file", keys.password_file.as_deref());
    keys.build(password).unwrap_or(StoreConfig::Memory)
}

/// With `kind = "memory"`, keys of a server show that the operator meant the other kind.
fn no_store_server(reader: &mut Reader<'_>) {
    for key in ["store.url", "store.password_file"] {
        if reader.is_given(key) {
            let consequence = "the proxies would share nothing, and put users on several backends at once";
            reader.fault(
                key,
                "has no use with store.kind \"memory\"",
                consequence,
                "set kind = \"redis\", or remove it",
            );
        }
    }
}

fn tls(reader: &mut Reader<'_>) -> TlsConfig {
    let TlsKeys { min_version, client_auth, client_ca } = reader.section("tls");
    let certificates = reader.list("tls.certificate").iter().map(|path| reader.section(path)).collect();
    TlsConfig { certificates, min_version, client_auth, client_ca }
}

fn passdb(reader: &mut Reader<'_>) -> Vec<PassdbConfig> {
    let paths = reader.list("passdb");
    if paths.is_empty() {
        return vec![PassdbConfig::Backend];
    }
    paths.iter().map(|path| passdb_source(reader, path)).collect()
}

fn passdb_source(reader: &mut Reader<'_>, path: &str) -> PassdbConfig {
    let keys: PassdbKeys = reader.section(path);
    let file = format!("{path}.path");
    match keys.kind {
        _ if !reader.is_sound(&format!("{path}.kind")) => {}
        PassdbKind::File if keys.path.is_none() && reader.is_sound(&file) => {
            reader.fault(&file, "is missing", REFUSED, "add path = \"users.passwd\", or use kind \"backend\"");
        }
        PassdbKind::File => {}
        PassdbKind::Backend => {
            for key in [file, format!("{path}.default_scheme")] {
                if reader.is_given(&key) {
                    let consequence = "that file's passwords would not be checked";
                    let remedy = "set kind = \"file\", or remove it";
                    reader.fault(&key, "has no use with kind \"backend\"", consequence, remedy);
                }
            }
        }
    }
    keys.into()
}

fn backends(reader: &mut Reader<'_>) -> BTreeMap<BackendId, BackendConfig> {
    let mut backends = BTreeMap::new();
    for (name, path) in reader.names("backend") {
        if let Err(wrong) = checked_name(&name) {
            reader.fault(&path, &wrong.meaning, REFUSED, &wrong.remedy);
        }
        backends.insert(BackendId::new(&name), backend(reader, &path));
    }
    backends
}

/// One mail server.
pub(super) fn backend(reader: &mut Reader<'_>, path: &str) -> BackendConfig {
    let keys: BackendKeys = reader.section(path);
    host(reader, path, &keys.host);
    master(reader, path, &keys);
    for (name, given) in [("tls_ca", keys.tls_ca.is_some()), ("tls_name", keys.tls_name.is_some())] {
        if given && keys.tls == BackendTls::None && reader.is_sound(&format!("{path}.tls")) {
            let consequence = "passwords and mail would go to the backend in the clear";
            let remedy = "set tls = \"starttls\" or \"implicit\", or remove it";
            reader.fault(&format!("{path}.{name}"), "has no use with tls \"none\"", consequence, remedy);
        }
    }
    let file = keys.master_password_file.clone();
    let password = reader.secret_file(&format!("{path}.master_password_file"), file.as_deref());
    keys.build(password)
}

fn host(reader: &mut Reader<'_>, path: &str, host: &str) {
    let key = format!("{path}.host");
    if reader.is_sound(&key) && !is_host(host) {
        let remedy = "write the bare name or address; the port has a key of its own";
        reader.fault(&key, "is not a host name or address", "no user could be brought there", remedy);
    }
}

/// Whether it is an IP address or could be a host's name.
pub(super) fn is_host(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.parse::<std::net::IpAddr>().is_ok() || (!text.is_empty() && text.len() <= 253 && text.chars().all(fits))
}

fn master(reader: &mut Reader<'_>, path: &str, keys: &BackendKeys) {
    let [user, word, file] = ["master_user", "master_password", "master_password_file"].map(|k| format!("{path}.{k}"));
    let (has_word, has_file) = (reader.is_given(&word), reader.is_given(&file));
    if has_word && has_file {
        reader.fault(&file, "gives a second master password", REFUSED, "remove one of them");
    }
    if keys.master_user.is_some() && !has_word && !has_file {
        let consequence = "no login could be passed on to this backend";
        reader.fault(&user, "has no password", consequence, "add master_password_file");
    }
    if !reader.is_given(&user) && (has_word || has_file) {
        let given = if has_word { &word } else { &file };
        let consequence = "users would be logged in with their own passwords";
        reader.fault(given, "has no master_user", consequence, "add master_user, or remove it");
    }
}
