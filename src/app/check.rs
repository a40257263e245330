//! What a proxy would find out only when it starts, when a user logs in or when an operator moves one: certificates,
//! authorities, passwd-files, sockets.

use std::collections::BTreeMap;

use super::memory::check_secret;
use crate::auth::Schemes;
use crate::auth::sources::{check_dovecot, check_passwd_file, check_remote};
use crate::backend::Servers;
use crate::config::{BackendConfig, Config, FilePassdb, PassdbConfig, StoreConfig};
use crate::doveadm::Doveadm;
use crate::hook::Hook;
use crate::model::BackendId;
use crate::net::ServerTls;
use crate::store::redis::check_files;

/// Opens the files that `config` names. Empty if a proxy could start, and if every line of every passwd-file is of use.
pub fn check(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    if !config.tls.certificates.is_empty()
        && let Err(fault) = ServerTls::new(&config.tls)
    {
        faults.push(fault.to_string());
    }
    if let StoreConfig::Redis(redis) = &config.store
        && let Err(fault) = check_files(redis)
    {
        faults.push(format!("[store] {fault}"));
    }
    faults.extend(config.backends.iter().filter_map(check_backend));
    faults.extend(config.backends.iter().filter_map(check_doveadm));
    if let Err(fault) = Hook::new(&config.moves) {
        faults.push(format!("[moves] before_move_url: {fault}"));
    }
    faults.extend(check_secret(config));
    faults.extend(config.passdb.iter().flat_map(|passdb| check_passdb(passdb, config.auth.weak_schemes)));
    faults
}

fn check_backend((name, backend): (&BackendId, &BackendConfig)) -> Option<String> {
    let alone = BTreeMap::from([(name.clone(), backend.clone())]);
    Servers::new(&alone, []).err().map(|fault| fault.to_string())
}

fn check_doveadm((name, backend): (&BackendId, &BackendConfig)) -> Option<String> {
    let fault = Doveadm::new(backend.doveadm.as_ref()?).err()?;
    Some(format!("[backend.{name}] doveadm: {fault}"))
}

fn check_passdb(passdb: &PassdbConfig, weak: bool) -> Vec<String> {
    match passdb {
        PassdbConfig::File(keys) => check_file(keys, weak),
        PassdbConfig::Dovecot(keys, _) => told("dovecot: ", check_dovecot(keys)),
        PassdbConfig::Http(..) => told("http: ", check_remote(passdb)),
        PassdbConfig::Ldap(_) | PassdbConfig::Sql(_) | PassdbConfig::Oauth2(_) => told("", check_remote(passdb)),
        PassdbConfig::Backend => Vec::new(),
    }
}

fn told(kind: &str, faults: impl IntoIterator<Item = String>) -> Vec<String> {
    faults.into_iter().map(|fault| format!("[[passdb]] {kind}{fault}")).collect()
}

fn check_file(FilePassdb { path, default_scheme, .. }: &FilePassdb, weak: bool) -> Vec<String> {
    match std::fs::read(path) {
        Ok(text) => {
            let complaints = check_passwd_file(text, &Schemes::new(default_scheme, weak));
            complaints.into_iter().map(|complaint| format!("{}:{complaint}", path.display())).collect()
        }
        Err(error) => vec![format!("{} cannot be read: {error}", path.display())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_is_named_is_opened_and_its_faults_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (users, nonsense) = (file("users", "ann:{PLAIN}x\nbob:{NOPE}y\n"), file("pem", "nonsense"));
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[tls]\n[[tls.certificate]]\ncertificate = \"{nonsense}\"\n\
             key = \"{nonsense}\"\n[[passdb]]\nkind = \"file\"\npath = \"{users}\"\n[[passdb]]\nkind = \"ldap\"\n\
             uri = [\"ldaps://h\"]\nbase = \"dc=x\"\ntls_ca = \"{nonsense}\"\n[backend.one]\nhost = \"127.0.0.1\"\n\
             tls = \"starttls\"\ntls_ca = \"{nonsense}\"\n[store]\nkind = \"redis\"\nurl = \"rediss://h\"\n\
             tls_ca = \"{nonsense}\"\n[backend.two]\nhost = \"127.0.0.1\"\ndoveadm = \"tls://127.0.0.1:24245\"\n\
             doveadm_password = \"x\"\ntls_ca = \"{nonsense}\"\n[moves]\nbefore_move_url = \"https://h/x\"\n[auth]\nsecret_file = \"{nonsense}\"\n"
        );
        let config = Config::parse(&text, "test.toml").unwrap_or_else(|faults| panic!("{}", faults.report(false)));
        let faults = check(&config);
        assert_eq!(faults.len(), 7, "{faults:?}");
        assert_eq!(faults[1], format!("[store] {nonsense} holds no certificate"));
        assert!(faults[2].contains("[backend.one]"), "{faults:?}");
        assert!(faults[3].starts_with(&format!("[backend.two] doveadm: {nonsense}")), "{faults:?}");
        assert!(faults[4].starts_with(&format!("[auth] secret_file: the fleet's secret {nonsense} ")), "{faults:?}");
        assert!(faults[5].starts_with(&format!("{users}:2: ")), "{faults:?}");
        assert!(faults[6].starts_with(&format!("[[passdb]] {nonsense}: holds no certificate")), "{faults:?}");
    }

    #[test]
    fn what_a_passdb_of_the_network_names_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let nonsense = dir.path().join("pem");
        std::fs::write(&nonsense, "nonsense").unwrap();
        let (nonsense, dir) = (nonsense.display(), dir.path().display());
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.one]\nhost = \"h\"\n\
             [[passdb]]\nkind = \"dovecot\"\nauth_socket = \"{dir}/none\"\nlookup_socket = \"{nonsense}\"\n\
             [[passdb]]\nkind = \"dovecot\"\nauth_socket = \"tcp://h:1\"\n\
             [[passdb]]\nkind = \"http\"\nurl = \"https://h/\"\ntls_ca = \"{nonsense}\"\n\
             [[passdb]]\nkind = \"http\"\nurl = \"http://h/\"\nheader = \"hunter2\"\n"
        );
        let config = Config::parse(&text, "test.toml").unwrap_or_else(|faults| panic!("{}", faults.report(false)));
        let faults = check(&config);
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(faults[0].starts_with(&format!("[[passdb]] dovecot: {dir}/none cannot be used: ")), "{faults:?}");
        assert_eq!(faults[1], format!("[[passdb]] dovecot: {nonsense} is no socket"));
        assert!(faults[2].starts_with("[[passdb]] http: ") && faults[2].contains("holds no certificate"), "{faults:?}");
        assert_eq!(faults[3], "[[passdb]] http: the header is not of the form \"Name: value\"");
    }
}
