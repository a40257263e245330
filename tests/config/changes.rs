//! What differs, and whether a reload applies it.

use homing::config::Changes;

use super::{BACKEND, LISTENER, parse};

/// Changes from the least file to one with these lines behind it.
fn with(lines: &str) -> Changes {
    parse(&format!("{LISTENER}{BACKEND}")).changes(&parse(&format!("{LISTENER}{BACKEND}{lines}")))
}

fn live(keys: &[&str]) -> Changes {
    Changes { applied: keys.iter().map(|key| (*key).to_owned()).collect(), needs_restart: Vec::new() }
}

fn fixed(keys: &[&str]) -> Changes {
    Changes { applied: Vec::new(), needs_restart: keys.iter().map(|key| (*key).to_owned()).collect() }
}

#[test]
fn the_same_settings_have_no_changes() {
    assert!(with("").is_empty());
    assert!(with("weight = 100\n[fleet]\nlease = \"15s\"").is_empty(), "a default that is written out is no change");
}

#[test]
fn backends_health_limits_the_pace_of_moves_passdb_sieve_tls_and_the_log_level_are_applied_by_a_reload() {
    assert_eq!(with("weight = 5\ndrain = true"), live(&["backend.mail1.drain", "backend.mail1.weight"]));
    assert_eq!(with("[backend.\"m2.x\"]\nhost = \"m2\""), live(&["backend.\"m2.x\""]));
    assert_eq!(with("[limits]\nconnections = 5\nfailures = 9"), live(&["limits.connections", "limits.failures"]));
    assert_eq!(with("[lmtp]\nmax_recipients = 5"), live(&["lmtp.max_recipients"]));
    assert_eq!(with("[health]\nrise = 5\nfall = 9"), live(&["health.fall", "health.rise"]));
    assert_eq!(with("[moves]\nmove_rate = 5"), live(&["moves.move_rate"]));
    assert_eq!(with("[sieve]\nnotify = [\"mailto\"]"), live(&["sieve.notify"]));
    assert_eq!(with("[tls]\nmin_version = \"1.3\""), live(&["tls.min_version"]));
    assert_eq!(with("[auth]\nmaster_separator = \"\""), live(&["auth.master_separator"]));
    assert_eq!(with("[auth]\npenalty_max = \"1s\""), live(&["auth.penalty_max"]));
    assert_eq!(
        with("[[tls.certificate]]\ncertificate = \"/etc/hosts\"\nkey = \"/etc/hosts\""),
        live(&["tls.certificate[1]"])
    );
    assert_eq!(with("[log]\nlevel = \"debug\""), live(&["log.level"]));
    assert_eq!(
        with("[[passdb]]\nkind = \"file\"\npath = \"/etc/hosts\""),
        live(&["passdb[1].cache", "passdb[1].default_scheme", "passdb[1].kind", "passdb[1].master", "passdb[1].path"])
    );
}

#[test]
fn name_store_fleet_listeners_moves_log_form_and_admin_need_a_restart() {
    assert_eq!(with("[fleet]\nlease = \"14s\""), fixed(&["fleet.lease"]));
    assert_eq!(with("[moves]\ntimeout = \"9s\""), fixed(&["moves.timeout"]));
    assert_eq!(with("[store]\nkind = \"redis\"\nurl = \"redis://h\""), fixed(&["store.kind", "store.url"]));
    assert_eq!(with("[log]\nformat = \"json\""), fixed(&["log.format"]));
    assert_eq!(with("[moves]\nhook_timeout = \"1s\""), fixed(&["moves.hook_timeout"]));
    assert_eq!(with("[admin]\nsocket = \"/a\""), fixed(&["admin.socket"]));
    assert_eq!(with(LISTENER), fixed(&["listener[2]"]));
    let named = |name: &str| parse(&format!("name = \"{name}\"\n{LISTENER}{BACKEND}"));
    assert_eq!(named("a").changes(&named("b")), fixed(&["name"]));
    let listening = parse(&format!("{}{BACKEND}", LISTENER.replace("127.0.0.1:0", "127.0.0.1:7")));
    assert_eq!(listening.changes(&parse(&format!("{LISTENER}{BACKEND}"))), fixed(&["listener[1].address"]));
}

#[test]
fn both_kinds_of_change_are_told_apart() {
    let changes = with("weight = 5\n[fleet]\nstrict = true");
    assert_eq!(changes.applied, ["backend.mail1.weight"]);
    assert_eq!(changes.needs_restart, ["fleet.strict"]);
}

#[test]
fn a_backend_that_went_is_named_once() {
    let two = parse(&format!("{LISTENER}{BACKEND}[backend.mail2]\nhost = \"h\"\n"));
    assert_eq!(two.changes(&parse(&format!("{LISTENER}{BACKEND}"))), live(&["backend.mail2"]));
}

#[test]
fn another_password_is_a_change_although_it_is_not_shown() {
    let master = |word: &str| parse(&format!("{LISTENER}{BACKEND}master_user = \"m\"\nmaster_password = \"{word}\"\n"));
    assert_eq!(master("a").changes(&master("b")), live(&["backend.mail1.master_password"]));
    let store =
        |word: &str| parse(&format!("{LISTENER}{BACKEND}[store]\nkind = \"redis\"\nurl = \"redis://:{word}@h\"\n"));
    assert_eq!(store("a").changes(&store("b")), fixed(&["store.url"]));
    assert!(store("a").changes(&store("a")).is_empty());
    let listed = |word: &str| {
        parse(&format!("{LISTENER}{BACKEND}[store]\nkind = \"redis\"\ncluster = [\"n\"]\npassword = \"{word}\"\n"))
    };
    assert_eq!(listed("a").changes(&listed("b")), fixed(&["store.password"]));
}

#[test]
fn another_secret_in_a_hooks_url_is_a_change_although_it_is_not_shown() {
    let hook = |key: &str| parse(&format!("{LISTENER}{BACKEND}[moves]\nbefore_move_url = \"http://h/p?{key}\"\n"));
    assert_eq!(hook("a").changes(&hook("b")), fixed(&["moves.before_move_url"]));
    assert!(hook("seek-ret").show().contains("before_move_url = \"http://h:80/p?[secret]\""));
}
