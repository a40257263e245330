//! The README as its reader uses it: every configuration in it is right, and every setting that it names exists.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use homing::config::Config;

use super::{BACKEND, LISTENER};

const README: &str = include_str!("../../README.md");
const CERTIFICATE: &str =
    "[[tls.certificate]]\ncertificate = \"mail.example.org.pem\"\nkey = \"mail.example.org.key\"\n";

/// The TOML in it, block by block.
fn snippets() -> Vec<&'static str> {
    let blocks = README.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

/// A snippet, with what any file needs besides.
fn whole(snippet: &str) -> String {
    let needed = [("[[listener]]", LISTENER), ("[backend.", BACKEND), ("[[tls.certificate]]", CERTIFICATE)];
    let missing = needed.iter().filter(|(header, _)| !snippet.contains(header)).map(|(_, lines)| *lines);
    std::iter::once(snippet).chain(missing).collect::<Vec<_>>().join("\n")
}

/// The files that the snippets name.
fn write_files(dir: &Path) {
    for name in ["redis.password", "doveadm.password", "mail1.password", "ldap.password", "sql.password"] {
        std::fs::write(dir.join(name), "word\n").unwrap();
    }
    std::fs::write(dir.join("users.passwd"), "ann:{PLAIN}word\n").unwrap();
    std::fs::write(dir.join("auth.header"), "X-Auth-Key: secret\n").unwrap();
    let made = rcgen::generate_simple_self_signed(["mail.example.org".to_owned()]).unwrap();
    std::fs::write(dir.join("mail.example.org.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("mail.example.org.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("secret"), "a line of at least thirty-two bytes\n").unwrap();
    std::fs::set_permissions(dir.join("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn config_check_finds_no_fault_in_any_snippet() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    let file = dir.path().join("homing.toml");
    let snippets = snippets();
    assert!(snippets.len() >= 7, "{} snippets", snippets.len());
    // A Dovecot's, as far as `config check` looks at it.
    let sockets = ["auth-client", "auth-userdb"].map(|name| UnixListener::bind(dir.path().join(name)).unwrap());
    for snippet in snippets {
        std::fs::write(&file, whole(&snippet.replace("/run/dovecot/", "").replace("/var/lib/homing/", ""))).unwrap();
        let check =
            Command::new(env!("CARGO_BIN_EXE_homing")).args(["config", "check", "-c"]).arg(&file).output().unwrap();
        assert!(check.status.success(), "{snippet}\n{}", String::from_utf8_lossy(&check.stderr));
    }
    drop(sockets);
}

/// `section.key` of every setting.
fn settings() -> BTreeSet<String> {
    let (mut section, mut settings) = (String::new(), BTreeSet::new());
    for line in Config::default_file().lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).split(".mail").next().unwrap().to_owned();
        } else if let Some((key, _)) = line.split_once(" = ") {
            settings.insert(format!("{section}.{key}"));
        }
    }
    settings
}

#[test]
fn every_setting_that_the_text_names_exists() {
    let settings = settings();
    let sections: BTreeSet<&str> = settings.iter().filter_map(|setting| setting.split('.').next()).collect();
    let text = README.split("```").step_by(2).collect::<String>();
    let spans = text.split('`').skip(1).step_by(2);
    let of_a_section = |span: &&str| span.split_once('.').is_some_and(|(section, _)| sections.contains(section));
    let named: Vec<&str> = spans.filter(of_a_section).collect();
    assert!(named.len() >= 5, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !settings.contains(**name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
