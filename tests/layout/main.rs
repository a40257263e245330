//! The rules of the house: which room may import which, what lies at the top, and what no file may contain.
//!
//! A room is a module of `src/`. Rooms are ordered; each may use only what the table grants it. This reads the sources as
//! text, without comments, so a path counts wherever it is written: in a `use`, in an expression or in a signature.

// Whatever goes wrong here shall fail the test.
#![allow(clippy::unwrap_used)]

mod source;

use std::collections::BTreeSet;
use std::path::Path;

use source::Source;

/// Room, and the rooms it may import beside `model`. All but `model` and `protocol` may also use `telemetry` and
/// `config`, from which a room takes its own section. A room imports only rooms that stand above it.
const GRANTS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &[]),
    ("telemetry", &[]),
    ("protocol", &[]),
    ("store", &[]),
    ("ledger", &[]),
    ("net", &["protocol"]),
    ("doveadm", &["net", "protocol"]),
    ("hook", &["net"]),
    ("relay", &["net"]),
    ("auth", &["net", "protocol", "store"]),
    ("backend", &["net", "protocol", "store"]),
    ("health", &["net", "protocol", "store", "backend"]),
    ("fleet", &["backend", "doveadm", "hook", "ledger", "store"]),
    ("placement", &["backend", "doveadm", "fleet", "hook", "ledger", "store"]),
    ("session", &["protocol", "net", "doveadm", "auth", "backend", "ledger", "placement", "relay"]),
    ("admin", &["net", "auth", "backend", "fleet", "health", "ledger", "placement", "session"]),
    ("app", EVERY_ROOM),
    ("cli/demo", EVERY_ROOM),
    ("cli", &["app", "admin"]),
];

/// What `app` joins, and what `cli/demo` plays a whole fleet with in one process.
const EVERY_ROOM: &[&str] = &[
    "protocol",
    "store",
    "ledger",
    "net",
    "doveadm",
    "hook",
    "relay",
    "auth",
    "backend",
    "health",
    "fleet",
    "placement",
    "session",
    "admin",
    "app",
];

/// What lies beside `src/`. Anything else there is a question that a reader should not have to ask.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".cargo",
    ".git",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "bench",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "fuzz",
    "lua",
    "rustfmt.toml",
    "src",
    "target",
    "tests",
];

#[test]
fn every_room_is_in_the_table() {
    let rooms: BTreeSet<String> = Source::all().iter().filter_map(Source::room).collect();
    let known: BTreeSet<String> = GRANTS.iter().map(|(room, _)| (*room).to_owned()).collect();
    let strangers: Vec<_> = rooms.difference(&known).collect();
    assert!(strangers.is_empty(), "rooms without a line in the import table: {strangers:?}");
}

#[test]
fn rooms_import_only_what_the_table_grants() {
    let mut faults = Vec::new();
    for source in Source::all() {
        let Some(room) = source.room() else { continue };
        faults.extend(source.imports().into_iter().filter_map(|import| {
            let granted = may_import(&room, &import);
            (!granted).then(|| format!("{}: {room} may not use {}", source.name(), import.join("::")))
        }));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn may_import(room: &str, import: &[String]) -> bool {
    let target = import[0].as_str();
    let granted = GRANTS.iter().find(|(name, _)| *name == room).is_some_and(|(_, rooms)| rooms.contains(&target));
    match target {
        _ if room.starts_with(target) => true,
        "model" => true,
        "config" | "telemetry" if room == "config" => false,
        "config" | "telemetry" => room != "model" && room != "protocol",
        // The CLI is a client of the admin API: it knows what goes over the wire, not the rooms behind.
        "admin" if room == "cli" => import.get(1).is_some_and(|part| part == "wire" || part == "Client"),
        // Operators are shown what the store shows; nothing is done to it past the rooms between.
        "store" if room == "admin" => import.get(1).is_some_and(|part| part.ends_with("View") || part == "Census"),
        _ => granted,
    }
}

#[test]
fn rooms_are_reached_by_their_full_path() {
    // `super::super::store` would hide an import from the table.
    let rooms: Vec<&str> = GRANTS.iter().map(|(room, _)| *room).collect();
    let mut faults = Vec::new();
    for source in Source::all() {
        let climbs = source.climbs();
        faults.extend(climbs.into_iter().filter_map(|(steps, target)| {
            let leaves = steps >= source.depth() && source.room().as_deref() != Some(&target);
            (leaves && rooms.contains(&target.as_str()))
                .then(|| format!("{}: write crate::{target}, not a chain of super", source.name()))
        }));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn protocol_knows_neither_sockets_nor_clocks_nor_the_store() {
    let mut faults = Vec::new();
    for source in Source::all().iter().filter(|source| source.room().as_deref() == Some("protocol")) {
        let used =
            ["tokio", "redis", "Instant", "SystemTime", "std::net::Tcp"].map(|word| (word, source.has_path(word)));
        faults.extend(used.iter().filter(|(_, used)| *used).map(|(word, _)| format!("{}: {word}", source.name())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_binary_only_hands_over_to_the_command_line() {
    let main = Source::read(&Source::root().join("src/main.rs"));
    let paths: BTreeSet<String> = main.paths_from("homing").into_iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, BTreeSet::from(["cli::main".to_owned()]));
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent: Vec<_> = Source::all().iter().filter(|source| !source.text.starts_with("//! ")).collect();
    assert!(
        silent.is_empty(),
        "no module comment: {:?}",
        silent.iter().map(|source| source.name()).collect::<Vec<_>>()
    );
}

#[test]
fn nothing_is_unsafe_unfinished_or_skipped() {
    let words = ["unsafe", "todo!", "unimplemented!", "#[ignore", "allow(dead_code", "allow(unused"];
    let mut faults = Vec::new();
    for source in Source::all().iter().chain(Source::tests()) {
        faults.extend(words.iter().filter(|word| source.says(word)).map(|word| format!("{}: {word}", source.name())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_agreed_things_lie_at_the_top() {
    let entries = std::fs::read_dir(Source::root()).unwrap();
    let names: BTreeSet<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let strangers: Vec<_> = names.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str())).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    for needed in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "lua", "tests/run"]
    {
        assert!(Path::new(&Source::root()).join(needed).exists(), "{needed} is missing");
    }
}

#[test]
fn the_table_grants_only_rooms_that_stand_above() {
    for (place, (room, granted)) in GRANTS.iter().enumerate() {
        for other in granted.iter().filter(|other| *other != room) {
            let above = GRANTS.iter().position(|(name, _)| name == other).unwrap();
            assert!(above < place, "{room} stands above {other}");
        }
    }
}
