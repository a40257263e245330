//! Whether a configuration makes sense as a whole: relations between settings, and files that must be there.
//! What was already found at fault is left alone, so that one mistake is reported once.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::fault::REFUSED;
use super::reader::{Reader, join};
use super::value::duration_text;
use super::{
    ClientAuth, Config, FleetConfig, HttpFormat, HttpPassdb, ListenerConfig, ListenerTls, PassdbConfig, RedisServers,
    StoreConfig,
};
use crate::model::Protocol;

/// Notes every inconsistency with the reader that the configuration came from.
pub(super) fn all(config: &Config, reader: &mut Reader<'_>) {
    fleet(&config.fleet, reader);
    limits(config, reader);
    listeners(config, reader);
    store(config, reader);
    tls(config, reader);
    passdb(config, reader);
    super::auth_policy::check(&config.auth_policy, reader);
    health(config, reader);
    super::sieve::check(&config.sieve, reader);
    backends(config, reader);
    hook(config, reader);
    log_level(config, reader);
}

/// What is allowed, but seldom meant. One sentence each.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if matches!(config.store, StoreConfig::Redis(_)) && config.fleet.state_file.is_none() {
        warnings.push(
            "fleet.state_file is not set: after a crash, the keys that this proxy held stay bound for \
             fleet.orphan_grace instead of being freed by its restart"
                .to_owned(),
        );
    }
    if let StoreConfig::Redis(redis) = &config.store
        && matches!(redis.servers, RedisServers::Cluster(_))
        && redis.shards == 1
    {
        warnings.push("store.shards is 1: all state lies on one node of the Cluster, the others are idle".to_owned());
    }
    for listener in &config.listeners {
        if listener.plaintext_login && listener.address.is_open_to_others() {
            warnings.push(format!(
                "listener {} takes passwords without TLS from other machines: anybody on the way can read them",
                listener.address
            ));
        }
    }
    for (name, backend) in &config.backends {
        let doveadm_tls = backend.doveadm.as_ref().is_some_and(|doveadm| doveadm.url.is_tls());
        if (backend.tls != super::BackendTls::None || doveadm_tls) && !backend.tls_verify {
            warnings.push(format!("backend {name}: tls_verify is off, so anybody on the way can read along"));
        }
    }
    let unproven = config.passdb.iter().all(|passdb| matches!(passdb, PassdbConfig::Backend));
    for (name, _) in config.backends.iter().filter(|(_, backend)| unproven && backend.submission_noauth) {
        warnings.push(format!(
            "backend {name}: submission_noauth needs a passdb that checks passwords, and there is none: nobody can submit there"
        ));
    }
    for (name, _) in config.backends.iter().filter(|(_, backend)| unproven && backend.master.is_some()) {
        warnings.push(format!(
            "backend {name}: master_user logs in only those whose password a passdb has checked, and there is none: it serves probes alone"
        ));
    }
    let administered = config.served().any(|protocol| protocol == Protocol::Doveadm);
    for (name, _) in config.backends.iter().filter(|(_, backend)| administered && backend.doveadm.is_none()) {
        warnings.push(format!("backend {name} has no doveadm: commands for its users cannot be carried out"));
    }
    if !config.backends.is_empty() && config.backends.values().all(|b| b.drain || b.weight.get() == 0) {
        warnings.push("every backend is drained or has weight 0: no new user can log in".to_owned());
    }
    warnings
}

/// Files that the store's TLS needs.
fn store(config: &Config, reader: &mut Reader<'_>) {
    let StoreConfig::Redis(redis) = &config.store else { return };
    let Some(tls) = &redis.tls else { return };
    let (certificate, key) = tls.identity.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
    for (name, path) in [("tls_ca", tls.ca.as_ref()), ("tls_certificate", certificate), ("tls_key", key)] {
        if let Some(path) = path {
            readable(&format!("store.{name}"), path, reader);
        }
    }
}

fn fleet(fleet: &FleetConfig, reader: &mut Reader<'_>) {
    let heartbeats = fleet.heartbeat() * 2;
    let longer = |reader: &mut Reader<'_>, [key, other]: [&str; 2], [value, least]: [Duration; 2], why: &str| {
        if value < least && reader.is_sound(key) && reader.is_sound(other) {
            let least = duration_text(least);
            let meaning = format!("is {}, but must be at least {least}, because of {other}", duration_text(value));
            reader.fault(key, &meaning, why, &format!("write \"{least}\" or more, or shorten {other}"));
        }
    };
    let why = "the keys of a proxy that is cut off for a moment would be given away under it";
    longer(reader, ["fleet.orphan_grace", "fleet.lease"], [fleet.orphan_grace, fleet.lease], why);
    let why = "proxies could not tell a restarted store what they hold before it answers others";
    longer(reader, ["fleet.recovery", "fleet.lease"], [fleet.recovery, heartbeats], why);
    let why = "users would be forgotten while they still have a home";
    longer(reader, ["fleet.remember", "fleet.user_expire"], [fleet.remember, fleet.user_expire], why);
}

fn limits(config: &Config, reader: &mut Reader<'_>) {
    let limits = &config.limits;
    let [literal, line] = ["limits.literal", "limits.line"];
    if limits.literal > limits.line && reader.is_sound(literal) && reader.is_sound(line) {
        let meaning = format!("is {}, but limits.line is only {}", limits.literal, limits.line);
        reader.fault(literal, &meaning, REFUSED, "write at most limits.line, or raise that");
    }
}

fn listeners(config: &Config, reader: &mut Reader<'_>) {
    if config.listeners.is_empty() && reader.is_sound("listener") {
        let remedy = "add [[listener]] with address = \"0.0.0.0:143\"";
        reader.fault("", "there is no [[listener]]", "nobody could connect", remedy);
    }
    for (at, listener) in config.listeners.iter().enumerate() {
        let path = format!("listener[{}]", at + 1);
        listener_logins(config, listener, &path, reader);
        listener_proxy(listener, &path, reader);
        listener_socket(listener, &path, reader);
        listener_doveadm(config, listener, &path, reader);
        let others = config.listeners[..at].iter().enumerate();
        if let Some((other, _)) = others.into_iter().find(|(_, other)| other.address.overlaps(&listener.address)) {
            let (key, other) = (format!("{path}.address"), format!("listener[{}].address", other + 1));
            if reader.is_sound(&key) && reader.is_sound(&other) {
                let what = if listener.address.tcp().is_some() { "port" } else { "socket" };
                let meaning = format!("takes the same {what} as {other}");
                reader.fault(&key, &meaning, "the second could not be opened", "give it another address or port");
            }
        }
    }
}

fn listener_logins(config: &Config, listener: &ListenerConfig, path: &str, reader: &mut Reader<'_>) {
    let key = format!("{path}.tls");
    if !reader.is_sound(&key) || !reader.is_sound(&format!("{path}.plaintext_login")) {
        return;
    }
    let no_certificates = config.tls.certificates.is_empty() && reader.is_sound("tls.certificate");
    match listener.tls {
        // Who brings mail does not log in, and doveadm has a password of its own.
        ListenerTls::None if !listener.plaintext_login && listener.protocol.has_logins() => {
            let remedy = "set tls = \"starttls\" or \"implicit\", or plaintext_login = true where the network is safe";
            reader.fault(&key, "is \"none\" without plaintext_login", "nobody could log in here", remedy);
        }
        ListenerTls::StartTls | ListenerTls::Implicit if no_certificates => {
            let remedy = "add [[tls.certificate]] with certificate and key, or set tls = \"none\"";
            reader.fault(&key, "needs a certificate, and there is none", "no client could start TLS", remedy);
        }
        _ => {}
    }
}

/// doveadm has a password of its own, without which everybody could do everything.
fn listener_doveadm(config: &Config, listener: &ListenerConfig, path: &str, reader: &mut Reader<'_>) {
    let key = format!("{path}.protocol");
    if listener.protocol != Protocol::Doveadm || !reader.is_sound(&key) {
        return;
    }
    let given = config.doveadm.password.is_some() || config.doveadm.api_key.is_some();
    if !given && reader.is_sound_throughout("doveadm") {
        let remedy = "add password_file to the table [doveadm]";
        reader.fault(&key, "is \"doveadm\", but [doveadm] has no password", "nobody could be let in", remedy);
    }
    let plaintext = format!("{path}.plaintext_login");
    if reader.is_given(&plaintext) {
        let consequence = "its password is taken as tls says: without TLS only with tls = \"none\"";
        reader.fault(&plaintext, "has no use with protocol \"doveadm\"", consequence, "remove it");
    }
}

fn listener_proxy(listener: &ListenerConfig, path: &str, reader: &mut Reader<'_>) {
    let [proxy, networks, alpn] = ["proxy_protocol", "trusted_networks", "alpn"].map(|key| format!("{path}.{key}"));
    let sound = reader.is_sound(&proxy) && reader.is_sound(&networks);
    if sound && listener.proxy_protocol && listener.trusted_networks.is_empty() {
        let remedy = "add trusted_networks with the addresses of the load balancers";
        reader.fault(&proxy, "needs trusted_networks", "every connection would be closed", remedy);
    }
    if sound && !listener.proxy_protocol && !listener.trusted_networks.is_empty() {
        let consequence = "the load balancer's address would be taken for the client's";
        let remedy = "set proxy_protocol = true, or remove it";
        reader.fault(&networks, "has no use without proxy_protocol", consequence, remedy);
    }
    if listener.alpn.iter().any(|name| name.len() > 255) {
        reader.fault(&alpn, "has a name of more than 255 bytes", "TLS cannot carry it", "shorten or remove it");
    }
}

/// On a Unix socket there is LMTP, without TLS and without a load balancer in front.
fn listener_socket(listener: &ListenerConfig, path: &str, reader: &mut Reader<'_>) {
    let [address, mode, protocol, tls, proxy] =
        ["address", "mode", "protocol", "tls", "proxy_protocol"].map(|key| format!("{path}.{key}"));
    if !reader.is_sound(&address) {
        return;
    }
    if listener.address.tcp().is_some() {
        if reader.is_given(&mode) && reader.is_sound(&mode) {
            let consequence = "it would protect nothing";
            reader.fault(&mode, "has no use without a Unix socket", consequence, "remove it");
        }
        return;
    }
    if listener.protocol != Protocol::Lmtp && reader.is_sound(&protocol) {
        let remedy = "set protocol = \"lmtp\", or listen on an address and port";
        reader.fault(&address, "is a Unix socket, which is for LMTP only", "users could not be told apart", remedy);
    }
    if listener.tls != ListenerTls::None && reader.is_sound(&tls) {
        reader.fault(&tls, "has no use on a Unix socket", "no client could start TLS", "set tls = \"none\"");
    }
    if listener.proxy_protocol && reader.is_sound(&proxy) {
        let consequence = "no client could connect";
        reader.fault(&proxy, "has no use on a Unix socket", consequence, "remove it");
    }
}

fn tls(config: &Config, reader: &mut Reader<'_>) {
    let tls = &config.tls;
    for (at, certificate) in tls.certificates.iter().enumerate() {
        for (name, path) in [("certificate", &certificate.certificate), ("key", &certificate.key)] {
            readable(&format!("tls.certificate[{}].{name}", at + 1), path, reader);
        }
    }
    match &tls.client_ca {
        Some(path) => readable("tls.client_ca", path, reader),
        None if tls.client_auth != ClientAuth::Off && reader.is_sound("tls.client_ca") => {
            let remedy = "add client_ca with the authorities of the clients, or set client_auth = \"off\"";
            let meaning = "asks for client certificates, but tls.client_ca is missing";
            reader.fault("tls.client_auth", meaning, "no client certificate could be verified", remedy);
        }
        None => {}
    }
}

fn passdb(config: &Config, reader: &mut Reader<'_>) {
    for (at, source) in config.passdb.iter().enumerate() {
        let path = format!("passdb[{}]", at + 1);
        match source {
            PassdbConfig::File(keys) if reader.is_given(&format!("{path}.path")) => {
                readable(&format!("{path}.path"), &keys.path, reader);
            }
            PassdbConfig::File(_) | PassdbConfig::Dovecot(..) => {}
            PassdbConfig::Http(keys, _) => http_passdb(&path, keys, reader),
            PassdbConfig::Ldap(ldap) => super::passdb::check_ldap(ldap, &path, reader),
            PassdbConfig::Sql(sql) => super::passdb::check_sql(sql, &path, reader),
            PassdbConfig::Oauth2(oauth2) => super::passdb::check_oauth2(oauth2, &path, reader),
            PassdbConfig::Backend
                if config.passdb[at + 1..].iter().any(PassdbConfig::has_users) && reader.is_sound_throughout(&path) =>
            {
                let consequence = "the sources behind it would never be asked";
                reader.fault(&path, "leaves it to the backend, but is not the last", consequence, "move it to the end");
            }
            PassdbConfig::Backend => {}
        }
    }
}

fn http_passdb(path: &str, keys: &HttpPassdb, reader: &mut Reader<'_>) {
    let key = |name: &str| format!("{path}.{name}");
    if let Some(ca) = &keys.tls_ca {
        readable(&key("tls_ca"), ca, reader);
        if !keys.url.is_tls() && reader.is_sound(&key("url")) {
            let remedy = "write \"https://\", or remove it";
            reader.fault(&key("tls_ca"), "has no use with \"http://\"", "passwords would go in the clear", remedy);
        }
    }
    let nginx = keys.format == HttpFormat::Nginx;
    let useless = [("obey_server", !nginx && !keys.obey_server), ("attributes", nginx && !keys.attributes.is_empty())];
    for name in useless.into_iter().filter_map(|(name, useless)| useless.then_some(name)) {
        if reader.is_sound(&key(name)) {
            reader.fault(&key(name), "has no use with this format", "it would be ignored", "remove it");
        }
    }
}

fn health(config: &Config, reader: &mut Reader<'_>) {
    let health = &config.health;
    let [interval, fast, user] = ["health.interval", "health.fast_interval", "health.probe_user"];
    if health.fast_interval > health.interval && reader.is_sound(interval) && reader.is_sound(fast) {
        let [given, most] = [health.fast_interval, health.interval].map(duration_text);
        let consequence = "a backend in doubt would be looked at less often than any other";
        reader.fault(fast, &format!("is {given}, but health.interval is {most}"), consequence, "shorten it");
    }
    let by_master = health.login.as_ref().is_some_and(|login| login.password.is_none());
    let without_master = || config.backends.iter().find(|(_, backend)| backend.probe && backend.master.is_none());
    if by_master
        && reader.is_sound(user)
        && !reader.is_given("health.probe_password")
        && !reader.is_given("health.probe_password_file")
        && let Some((name, _)) = without_master()
    {
        let meaning = format!("has no password, and backend {name} has no master_user to log it in");
        reader.fault(user, &meaning, "that backend could not be probed", "add probe_password_file");
    }
}

fn backends(config: &Config, reader: &mut Reader<'_>) {
    if config.backends.is_empty() && reader.is_sound("backend") {
        let remedy = "add [backend.mail1] with host = \"mail1.example.org\"";
        reader.fault("", "there is no [backend.NAME]", "no user would have a home", remedy);
    }
    for (name, backend) in &config.backends {
        if let Some(path) = &backend.tls_ca {
            readable(&format!("{}.tls_ca", join("backend", name.as_str())), path, reader);
        }
    }
}

fn hook(config: &Config, reader: &mut Reader<'_>) {
    let [command, url] = ["moves.before_move", "moves.before_move_url"];
    let Some(program) = config.moves.before_move.first() else { return };
    if config.moves.before_move_url.is_some() && reader.is_sound(url) {
        reader.fault(
            url,
            "is a second hook besides moves.before_move",
            "one of them would not run",
            "remove one of them",
        );
    }
    if Path::new(program).is_relative() && reader.is_sound(command) {
        let remedy = "write the whole path of the program";
        reader.fault(command, "does not begin with an absolute path", "another program might run", remedy);
    }
    let executable =
        std::fs::metadata(program).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0);
    if !executable && reader.is_sound(command) {
        let meaning = format!("names {program}, which is no program that can be run");
        reader.fault(command, &meaning, "no user could be moved", "correct the path, or make the file executable");
    }
}

fn log_level(config: &Config, reader: &mut Reader<'_>) {
    if tracing_subscriber::EnvFilter::builder().parse(&config.log.level).is_err() && reader.is_sound("log.level") {
        let remedy =
            "write \"error\", \"warn\", \"info\", \"debug\", \"trace\" or a filter like \"info,homing::net=debug\"";
        reader.fault("log.level", "is not a log level", REFUSED, remedy);
    }
}

/// Notes a fault unless the file can be opened. What it holds is the business of whoever reads it.
pub(super) fn readable(key: &str, path: &Path, reader: &mut Reader<'_>) {
    if path.as_os_str().is_empty() || !reader.is_sound(key) {
        return; // missing in the configuration, which was said before
    }
    let error = match std::fs::metadata(path).and_then(|about| std::fs::File::open(path).map(|_| about)) {
        Ok(about) if about.is_dir() => "it is a directory".to_owned(),
        Ok(_) => return,
        Err(error) => error.to_string(),
    };
    let meaning = format!("names {}, which cannot be read: {error}", path.display());
    reader.fault(key, &meaning, REFUSED, "correct the path, or let homing's user read the file");
}
