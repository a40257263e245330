//! What a proxy would find out only when it starts or when a user logs in: certificates, authorities, passwd-files.

use crate::auth::sources::check_passwd_file;
use crate::backend::Servers;
use crate::config::{Config, PassdbConfig, StoreConfig};
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
    if let Err(fault) = Servers::new(&config.backends, config.served()) {
        faults.push(fault.to_string());
    }
    faults.extend(config.passdb.iter().flat_map(check_passdb));
    faults
}

fn check_passdb(passdb: &PassdbConfig) -> Vec<String> {
    let PassdbConfig::File { path, default_scheme, .. } = passdb else { return Vec::new() };
    match std::fs::read(path) {
        Ok(text) => {
            let complaints = check_passwd_file(text, default_scheme);
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
             key = \"{nonsense}\"\n[[passdb]]\nkind = \"file\"\npath = \"{users}\"\n[backend.one]\nhost = \"127.0.0.1\"\n\
             tls = \"starttls\"\ntls_ca = \"{nonsense}\"\n[store]\nkind = \"redis\"\nurl = \"rediss://h\"\n\
             tls_ca = \"{nonsense}\"\n"
        );
        let config = Config::parse(&text, "test.toml").unwrap_or_else(|faults| panic!("{}", faults.report(false)));
        let faults = check(&config);
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert_eq!(faults[1], format!("[store] {nonsense} holds no certificate"));
        assert!(faults[2].contains("[backend.one]"), "{faults:?}");
        assert!(faults[3].starts_with(&format!("{users}:2: ")), "{faults:?}");
    }
}
