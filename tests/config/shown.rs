//! Settings written back: the default file, the example file, `show`.

use homing::config::{Config, LimitsConfig};
use homing::model::BackendId;

use super::{BACKEND, LISTENER, files, parse, parse_in};

#[test]
fn the_default_file_parses_to_the_defaults() {
    let backend = |name: &str| (BackendId::new(name), format!("{name}.example.org"), 143);
    let defaults = Config::from_backends(&["mail1", "mail2"].map(backend), Vec::new());
    assert_eq!(parse(&Config::default_file()), defaults);
}

#[test]
fn every_setting_that_the_default_file_leaves_out_can_be_commented_in() {
    let text = Config::default_file();
    let commented: Vec<_> = text.lines().filter(|line| line.starts_with('#') && !line.starts_with("# ")).collect();
    assert!(commented.iter().any(|line| line.starts_with("#state_file = ")), "{commented:?}");
    let whole = text.lines().map(|line| if commented.contains(&line) { &line[1..] } else { line });
    let faults = Config::parse(&whole.collect::<Vec<_>>().join("\n"), "/nowhere/homing.toml").unwrap_err();
    // Some exclude each other, and the files that they name are not there; all else is right.
    for fault in faults.list() {
        let excluded = ["cannot be read", "has no use", "second"].iter().any(|word| fault.meaning.contains(word));
        assert!(excluded, "{fault}");
    }
}

#[test]
fn the_default_file_says_of_each_setting_whether_a_reload_applies_it() {
    let text = Config::default_file();
    let about = |setting: &str| {
        let (before, _) = text.split_once(&format!("\n{setting}")).unwrap_or_else(|| panic!("{setting} is missing"));
        before.rsplit("\n\n").next().unwrap().replace("\n#", "")
    };
    assert!(about("level = ").ends_with("A reload applies it."));
    assert!(about("format = ").ends_with("Needs a restart."));
    assert!(about("weight = ").contains("Default: 100."));
    assert!(about("lease = ").contains("Default: \"15s\". 1s to 10min."));
    assert!(about("#certificate = ").contains("Required."));
}

#[test]
fn the_example_file_is_right() {
    let text = include_str!("../../deploy/homing.toml");
    let dir = files();
    // The files that it names are those of its machine; here they are found beside it.
    for name in ["cert.pem", "key.pem", "users.passwd"] {
        assert!(text.contains(&format!("/etc/homing/{name}")), "{name}");
    }
    let text = text.replace("/etc/homing/redis.password", "word").replace("/etc/homing/", "");
    let config = parse_in(dir.path(), &text).unwrap_or_else(|faults| panic!("{}", faults.report(false)));
    assert_eq!(config.backends.len(), 3);
    assert_eq!(config.warnings(), [""; 0]);
}

#[test]
fn what_is_shown_parses_to_the_same_settings() {
    let text = format!(
        "name = \"p1\"\n[store]\nkind = \"redis\"\nurl = \"redis://ada@[::1]:7/2\"\nnamespace = \"x\"\n[fleet]\n\
         lease = \"90s\"\nslow_start = \"1500ms\"\nstate_file = \"state\"\nbalance_factor = 2\n{LISTENER}\
         proxy_protocol = true\ntrusted_networks = [\"10.0.0.0/8\"]\nalpn = [\"imap\", \"i\\\"2\"]\n[tls]\n\
         min_version = \"1.3\"\n[[tls.certificate]]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n[limits]\n\
         line = 2048\nliteral = 100\n[[passdb]]\nkind = \"file\"\npath = \"users.passwd\"\n[[passdb]]\n\
         kind = \"backend\"\n{BACKEND}weight = 7\n[backend.\"m2.x\"]\nhost = \"::1\"\ntls = \"implicit\"\n[log]\n\
         format = \"json\"\nlevel = \"warn\"\n"
    );
    let dir = files();
    let config = parse_in(dir.path(), &text).unwrap();
    let shown = config.show();
    assert_eq!(parse_in(dir.path(), &shown).unwrap_or_else(|faults| panic!("{shown}\n{faults}")), config);
}

#[test]
fn every_passdb_of_the_network_is_shown_as_it_would_be_written_but_for_its_secret() {
    let dir = files();
    let text = format!(
        "{LISTENER}{BACKEND}[[passdb]]\nkind = \"dovecot\"\nauth_socket = \"tcp://h:7\"\nlookup_socket = \"/run/x\"\n\
         parallel = 9\n[[passdb]]\nkind = \"http\"\nurl = \"https://h/x?y\"\nformat = \"json\"\nattributes = [\"a=host\"]\n"
    );
    let config = parse_in(dir.path(), &text).unwrap();
    let shown = config.show();
    assert_eq!(parse_in(dir.path(), &shown).unwrap_or_else(|faults| panic!("{shown}\n{faults}")), config);
    let secret =
        parse_in(dir.path(), &text.replace("[\"a=host\"]\n", "[\"a=host\"]\nheader = \"A: hunter2\"\n")).unwrap();
    assert!(!format!("{}{secret:?}", secret.show()).contains("hunter2"));
    assert_eq!(config.changes(&secret).applied, ["passdb[2].header"]);
}

#[test]
fn every_way_to_the_store_is_shown_as_it_would_be_written() {
    let dir = files();
    for lines in [
        "sentinels = [\"s1\", \"[::1]:7\"]\nmaster = \"m\"\nsentinel_username = \"g\"\nusername = \"u\"\ndatabase = 3\n",
        "cluster = [\"n1\", \"n2:7\"]\ntls = true\ntls_ca = \"ca.pem\"\ntls_certificate = \"cert.pem\"\n\
         tls_key = \"key.pem\"\nshards = 8\n",
        "url = \"rediss://u@h:7/2\"\ntls_ca = \"ca.pem\"\n",
        "url = \"unix:///run/r.sock\"\n",
    ] {
        let config = parse_in(dir.path(), &format!("{LISTENER}{BACKEND}[store]\nkind = \"redis\"\n{lines}")).unwrap();
        let shown = config.show();
        assert_eq!(parse_in(dir.path(), &shown).unwrap_or_else(|faults| panic!("{shown}\n{faults}")), config);
    }
}

#[test]
fn i9_neither_show_nor_debug_has_a_password() {
    let text = format!(
        "{LISTENER}{BACKEND}master_user = \"m\"\nmaster_password = \"hunter2\"\n[backend.m2]\nhost = \"m2\"\n\
         master_user = \"m\"\nmaster_password_file = \"word\"\n[store]\nkind = \"redis\"\nurl = \"redis://u:hunter2@h\"\n\
         [health]\nprobe_user = \"p\"\nprobe_password = \"hunter2\"\n"
    );
    let config = parse(&text);
    let listed = parse(&format!(
        "{LISTENER}{BACKEND}[store]\nkind = \"redis\"\nsentinels = [\"s\"]\nmaster = \"m\"\n\
         sentinel_password = \"hunter2\"\npassword = \"hunter2\"\n"
    ));
    assert_eq!(listed.show().matches("password = \"[secret]\"").count(), 2, "{}", listed.show());
    assert!(!format!("{}{listed:?}", listed.show()).contains("hunter2"));
    for shown in [config.show(), format!("{config:?}"), format!("{:?}", config.changes(&config))] {
        assert!(!shown.contains("hunter2") && !shown.contains("from-a-file"), "{shown}");
    }
    let shown = config.show();
    assert!(shown.contains("url = \"redis://u:[secret]@h:6379/0\""), "{shown}");
    assert_eq!(shown.matches("master_password = \"[secret]\"").count(), 2, "{shown}");
    assert!(shown.contains("probe_password = \"[secret]\""), "{shown}");
    assert!(toml::from_str::<toml::Table>(&shown).is_ok());
}

#[test]
fn backends_on_the_command_line_are_served_on_loopback_without_tls() {
    let config = Config::from_backends(&[(BackendId::new("a"), "10.0.0.1".to_owned(), 1430)], Vec::new());
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1143");
    assert!(config.listeners[0].plaintext_login);
    assert_eq!(config.backends[&BackendId::new("a")].port, 1430);
    assert_eq!(config.limits, LimitsConfig::default());
    assert_eq!(config.warnings(), [""; 0]);
    let open = Config::from_backends(&[], vec!["0.0.0.0:1143".parse().unwrap(), "[::1]:1143".parse().unwrap()]);
    assert_eq!(open.listeners.len(), 2);
    let warnings = open.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("0.0.0.0:1143"), "{warnings:?}");
}

#[test]
fn what_is_allowed_but_seldom_meant_gets_a_warning() {
    let warnings = |text: &str| parse(&format!("{LISTENER}{BACKEND}{text}")).warnings().join("\n");
    assert!(warnings("[store]\nkind = \"redis\"\nurl = \"redis://h\"").contains("fleet.state_file"));
    assert!(warnings("[store]\nkind = \"redis\"\ncluster = [\"n\"]").contains("store.shards"));
    assert!(warnings("tls = \"implicit\"\ntls_verify = false").contains("tls_verify"));
    assert!(warnings("weight = 0").contains("no new user"));
    assert!(warnings("drain = true").contains("no new user"));
    let noauth = "submission_noauth = true\n[[passdb]]\nkind = ";
    assert!(warnings(&format!("{noauth}\"backend\"")).contains("nobody can submit there"));
    assert_eq!(warnings(&format!("{noauth}\"file\"\npath = \"users.passwd\"")), "");
    let master = "master_user = \"m\"\nmaster_password = \"p\"\n";
    assert!(warnings(master).contains("it serves probes alone"));
    assert_eq!(warnings(&format!("{master}[[passdb]]\nkind = \"file\"\npath = \"users.passwd\"")), "");
    assert_eq!(warnings(""), "");
}
