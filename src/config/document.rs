//! The order of a document: which tables there are and what becomes of them. Here the keys of one table are held
//! against each other; `check` holds tables against tables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::backends::{BackendKeys, BackendSecrets};
use super::doveadm::DoveadmDoorKeys;
use super::fault::REFUSED;
use super::front::TlsKeys;
use super::health::HealthKeys;
use super::key::section;
use super::reader::Reader;
use super::value::checked_name;
use super::{
    BackendConfig, BackendTls, Config, DoveadmDoorConfig, DoveadmUrl, HealthConfig, PassdbConfig, TlsConfig, store,
};
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
        store: store::read(reader),
        fleet: reader.section("fleet"),
        listeners: reader.list("listener").iter().map(|path| reader.section(path)).collect(),
        tls: tls(reader),
        limits: reader.section("limits"),
        auth: reader.section("auth"),
        auth_policy: reader.section("auth_policy"),
        lmtp: reader.section("lmtp"),
        doveadm: doveadm_door(reader),
        moves: reader.section("moves"),
        passdb: passdb(reader),
        health: health(reader),
        sieve: reader.section("sieve"),
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
pub(super) fn must_be_name(reader: &mut Reader<'_>, key: &str, name: &str) {
    if let Err(wrong) = checked_name(name)
        && reader.is_sound(key)
    {
        reader.fault(key, &wrong.meaning, REFUSED, &wrong.remedy);
    }
}

fn tls(reader: &mut Reader<'_>) -> TlsConfig {
    let TlsKeys { min_version, client_auth, client_ca, client_name } = reader.section("tls");
    let certificates = reader.list("tls.certificate").iter().map(|path| reader.section(path)).collect();
    TlsConfig { certificates, min_version, client_auth, client_ca, client_name }
}

fn passdb(reader: &mut Reader<'_>) -> Vec<PassdbConfig> {
    let paths = reader.list("passdb");
    if paths.is_empty() {
        return vec![PassdbConfig::Backend];
    }
    let mut sources: Vec<PassdbConfig> = paths.iter().map(|path| source(reader, path)).collect();
    if !sources.iter().any(PassdbConfig::has_users) {
        sources.push(PassdbConfig::Backend);
    }
    sources
}

/// One source, with what its password file holds.
fn source(reader: &mut Reader<'_>, path: &str) -> PassdbConfig {
    let mut source: PassdbConfig = reader.section(path);
    match &mut source {
        PassdbConfig::Ldap(ldap) => {
            let key = format!("{path}.bind_password_file");
            ldap.bind_password = reader.secret_file(&key, ldap.keys.bind_password_file.as_deref());
        }
        PassdbConfig::Sql(sql) => {
            sql.password = reader.secret_file(&format!("{path}.password_file"), sql.keys.password_file.as_deref());
        }
        PassdbConfig::Oauth2(oauth2) => {
            let key = format!("{path}.hmac_key_file");
            oauth2.hmac_key = reader.secret_file(&key, oauth2.keys.hmac_key_file.as_deref());
            let key = format!("{path}.client_secret_file");
            oauth2.client_secret = reader.secret_file(&key, oauth2.keys.client_secret_file.as_deref());
        }
        PassdbConfig::Http(keys, _) => {
            let [word, file] = ["header", "header_file"].map(|name| format!("{path}.{name}"));
            if reader.is_given(&word) && reader.is_given(&file) {
                reader.fault(&file, "gives a second header", REFUSED, "remove one of them");
            }
            let read = reader.secret_file(&file, keys.header_file.take().as_deref());
            keys.header = read.or(keys.header.take());
        }
        PassdbConfig::File(_) | PassdbConfig::Dovecot(..) | PassdbConfig::Backend => {}
    }
    source
}

fn health(reader: &mut Reader<'_>) -> HealthConfig {
    let keys: HealthKeys = reader.section("health");
    let [word, file] = ["health.probe_password", "health.probe_password_file"];
    let (has_word, has_file) = (reader.is_given(word), reader.is_given(file));
    if has_word && has_file {
        reader.fault(file, "gives a second password of probe_user", REFUSED, "remove one of them");
    }
    if !reader.is_given("health.probe_user") && (has_word || has_file) {
        let given = if has_word { word } else { file };
        let consequence = "probes would not log in";
        reader.fault(given, "has no probe_user", consequence, "add probe_user, or remove it");
    }
    let password = reader.secret_file(file, keys.probe_password_file.as_deref());
    keys.build(password)
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
    doveadm(reader, path, &keys);
    let roads = [Some(keys.tls), keys.pop3_tls, keys.sieve_tls, keys.submission_tls, keys.lmtp_tls];
    let doveadm_tls = [&keys.doveadm, &keys.doveadm_http].into_iter().flatten().any(DoveadmUrl::is_tls);
    let any_tls = doveadm_tls || roads.into_iter().flatten().any(|tls| tls != BackendTls::None);
    for (name, given) in [("tls_ca", keys.tls_ca.is_some()), ("tls_name", keys.tls_name.is_some())] {
        if given && !any_tls && reader.is_sound(&format!("{path}.tls")) {
            let consequence = "passwords and mail would go to the backend in the clear";
            let remedy = "set tls = \"starttls\" or \"implicit\", or remove it";
            reader.fault(&format!("{path}.{name}"), "has no use with tls \"none\"", consequence, remedy);
        }
    }
    let mut secret =
        |name: &str, file: &Option<PathBuf>| reader.secret_file(&format!("{path}.{name}"), file.as_deref());
    let secrets = BackendSecrets {
        master_password: secret("master_password_file", &keys.master_password_file),
        doveadm_password: secret("doveadm_password_file", &keys.doveadm_password_file),
        doveadm_api_key: secret("doveadm_api_key_file", &keys.doveadm_api_key_file),
    };
    keys.build(secrets)
}

/// What clients of our own doveadm must know: each credential is given once at most.
fn doveadm_door(reader: &mut Reader<'_>) -> DoveadmDoorConfig {
    let keys: DoveadmDoorKeys = reader.section("doveadm");
    for (word, file) in [("doveadm.password", "doveadm.password_file"), ("doveadm.api_key", "doveadm.api_key_file")] {
        if reader.is_given(word) && reader.is_given(file) {
            reader.fault(file, &format!("is a second one besides {word}"), REFUSED, "remove one of them");
        }
    }
    let password = reader.secret_file("doveadm.password_file", keys.password_file.as_deref());
    let api_key = reader.secret_file("doveadm.api_key_file", keys.api_key_file.as_deref());
    keys.build(password, api_key)
}

/// A URL needs one credential, a credential a URL, and a key one that speaks HTTP.
fn doveadm(reader: &mut Reader<'_>, path: &str, keys: &BackendKeys) {
    let url = format!("{path}.doveadm");
    doveadm_http(reader, path, keys);
    let names = ["doveadm_password", "doveadm_password_file", "doveadm_api_key", "doveadm_api_key_file"];
    let given: Vec<String> =
        names.map(|name| format!("{path}.{name}")).into_iter().filter(|key| reader.is_given(key)).collect();
    if let [_, second, ..] = &given[..] {
        reader.fault(second, "is a second credential for doveadm", REFUSED, "remove one of them");
    }
    match (reader.is_given(&url), given.first()) {
        (true, None) => {
            let consequence = "this backend could not be asked who is there";
            reader.fault(&url, "has no password", consequence, "add doveadm_password_file, or remove it");
        }
        (false, Some(first)) => {
            let consequence = "this backend would never be asked who is there";
            reader.fault(
                first,
                "has no use without doveadm",
                consequence,
                "add doveadm = \"tcp://host:port\", or remove it",
            );
        }
        (true, Some(first)) if first.contains("api_key") && keys.doveadm.as_ref().is_some_and(|url| !url.is_http()) => {
            let remedy = "use doveadm_password, or the \"http://\" address";
            reader.fault(first, "has no use with the TCP protocol, which takes a password", REFUSED, remedy);
        }
        _ => {}
    }
}

/// The second address is for HTTP, beside a first that is not.
fn doveadm_http(reader: &mut Reader<'_>, path: &str, keys: &BackendKeys) {
    let key = format!("{path}.doveadm_http");
    let Some(url) = keys.doveadm_http.as_ref().filter(|_| reader.is_sound(&key)) else { return };
    if !url.is_http() {
        let remedy = "write \"http://host:port\" or \"https://host:port\"";
        reader.fault(&key, "is not the address of an HTTP API", REFUSED, remedy);
    } else if keys.doveadm.as_ref().is_none_or(DoveadmUrl::is_http) && reader.is_sound(&format!("{path}.doveadm")) {
        let remedy = "add doveadm = \"tcp://host:port\", or write this one there";
        reader.fault(&key, "has no use without a doveadm of the TCP protocol", "it would never be asked", remedy);
    }
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
