//! Callers and scripts must agree on the order of KEYS and ARGV, and on what is included.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::includes;
use super::keys::Keys;
use super::scripts::{self, ALL, Source, script_and_arguments};
use crate::config::{RedisConfig, RedisLogin, RedisServers, StoreAddress};
use crate::model::{BackendId, Generation, Incarnation, Key, Pool, Secret};
use crate::store::*;

/// The names in the header's lines `-- LABEL[1] this  [2] that  then for each line: key  count`.
fn named_in_header(text: &str, label: &str) -> Vec<String> {
    let stem = format!("-- {label}[");
    let lines = text.lines().take_while(|line| line.starts_with("--")).filter(|line| line.starts_with(&stem));
    let words = lines.flat_map(|line| line.trim_start_matches("-- ").split_whitespace());
    let is_name = |word: &&str| !word.contains('[') && !["then", "for", "each", "line:", "row:"].contains(word);
    words.filter(is_name).map(str::to_owned).collect()
}

fn row() -> Row {
    Row::default()
}

fn one_of_each() -> Vec<Request> {
    let key = Key::new("k");
    let backend = BackendId::new("b");
    let inc = Incarnation::new("i");
    vec![
        Request::Hello(Hello { acked: 0, errand: 0, name: "n".to_owned(), version: "v".to_owned() }),
        Request::Heartbeat(Heartbeat { asserted: true, table_version: 0, ..Heartbeat::default() }),
        Request::Claim(Claim {
            key: key.clone(),
            have: 0,
            pool: Pool::default(),
            pin: None,
            limit: 0,
            unproven: false,
            hint: None,
        }),
        Request::Declare(vec![Declared {
            key,
            backend: backend.clone(),
            generation: Generation(1),
            count: 1,
            unproven: false,
        }]),
        Request::Held { cursor: "0".to_owned() },
        Request::Reap { orphan: inc.clone() },
        Request::Forget { dead: inc },
        Request::Table { based_on: 0, rows: [(backend, row())].into() },
    ]
}

fn one_of_each_order() -> Vec<Order> {
    let (key, backend, incarnation) = (Key::new("k"), BackendId::new("b"), Incarnation::new("i"));
    let rows: std::collections::BTreeMap<_, _> = [(backend.clone(), row())].into();
    let change = MarkChange::Pin(backend.clone());
    vec![
        Order::Move(Move {
            key: key.clone(),
            seen: None,
            to: Target::Backend(backend),
            force: false,
            hook: false,
            timeout: 1,
            pace: None,
        }),
        Order::Settle(Settle { key: key.clone(), incarnation: incarnation.clone(), hook: None }),
        Order::Mark(Mark { key, change }),
        Order::Table { based_on: 0, rows: rows.clone() },
        Order::Copy(Table { version: 1, rows }),
        Order::Lift { seen: 1, to: 2 },
        Order::Ask(Ask { text: "t".to_owned(), ttl: 1 }),
        Order::Answer { errand: 1, incarnation, text: "t".to_owned() },
        Order::Answers { errand: 1 },
    ]
}

fn encoded(request: Request) -> (&'static Source, Vec<&'static str>) {
    let call = Call { incarnation: Incarnation::new("i"), run: String::new(), seq: 1, request };
    let (source, arguments) = script_and_arguments(&call, &Rules::default(), None);
    (source, arguments.names)
}

#[test]
fn every_script_names_its_arguments_as_the_caller_sends_them() {
    let mut seen = BTreeSet::new();
    let orders = one_of_each_order().into_iter().map(|order| {
        let (source, arguments) = super::orders::script_and_arguments(&order, &Rules::default(), None);
        (source, arguments.names)
    });
    let (name, trace) = (notes::Name([0; 16]), notes::Trace([0; 16]));
    let notes = [
        (&scripts::TRACE, super::notes::left(&name, &trace, 1, 1).names),
        (&scripts::TALLY, super::notes::tallied(&name, 1).names),
        (&scripts::OCCUPY, super::notes::occupied(&name, &Incarnation::new("i"), [1, 1], 1).names),
    ];
    for (source, names) in one_of_each().into_iter().map(encoded).chain(orders).chain(notes) {
        assert_eq!(named_in_header(source.body, "ARGV"), names, "{}", source.name);
        seen.insert(source.name);
    }
    assert_eq!(seen.len(), ALL.len());
}

#[test]
fn every_script_is_named_as_its_file_and_answers_a_status_word() {
    for source in ALL {
        assert!(source.body.starts_with(&format!("-- {}: ", source.name)), "{}", source.name);
        assert!(source.body.contains("-- Returns {\""), "{}", source.name);
    }
}

#[test]
fn scripts_name_the_keys_as_we_do_and_all_share_one_slot() {
    let files = includes::FILES.iter().filter(|(file, _)| ["keys", "rare_keys"].contains(file));
    let said: String = files.map(|(_, text)| *text).collect();
    let (keys, inc, key) = (Keys::of_shard("ns", 3), Incarnation::new("i"), Key::new("k"));
    let stem = keys.stem();
    assert_eq!(stem, "{ns:3}:");
    let ours = [
        keys.shard(),
        keys.asserting(),
        keys.leases(),
        keys.orphans(),
        keys.backends(),
        keys.load(),
        keys.users(),
        keys.moving(),
        keys.ranks(),
        keys.nudge(),
        keys.proxy(&inc).trim_end_matches('i').to_owned(),
        keys.past(&key).trim_end_matches('k').to_owned(),
        keys.binding(&key).trim_end_matches('k').to_owned(),
    ];
    for name in ours {
        let named = name.strip_prefix(&stem).map(|rest| format!("stem .. '{rest}'"));
        assert!(named.is_some_and(|named| said.contains(&named)), "{name}");
    }
}

#[tokio::test]
async fn neither_debug_nor_errors_show_the_password() {
    let login = |word: &[u8]| RedisLogin {
        username: Some("u".to_owned()),
        password: Some(Arc::new(Secret::new(word.to_vec()))),
    };
    let config = |word: &[u8]| RedisConfig {
        servers: RedisServers::One(StoreAddress::Tcp("127.0.0.1".to_owned(), 1)),
        database: 0,
        login: login(word),
        tls: None,
        namespace: "n".to_owned(),
        shards: 1,
        timeout: Duration::from_secs(1),
    };
    for word in ["hunter2".as_bytes(), b"hunter2\xff"] {
        let store = redis::Redis::new(config(word), Rules::default());
        let error = store.connect(0).await.err().expect("nobody is there");
        let said = format!("{store:?} {error} {error:?} {:?}", config(word));
        assert!(!said.contains("hunter2"), "{said}");
        assert_eq!(said.contains("UTF-8"), word.ends_with(b"\xff"), "{said}");
    }
}
