//! What only a real server can do: refuse us, be unfit, forget its scripts, listen on a Unix socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use homing::config::{Config, RedisConfig, RedisLogin, RedisServers, StoreAddress};
use homing::model::{Incarnation, Key, Secret};
use homing::store::redis::Redis;
use homing::store::*;

use crate::orders::moving;
use crate::server::Server;
use crate::stage::claim;

fn login(username: &str, password: &str) -> RedisLogin {
    let password = Some(Arc::new(Secret::new(password.as_bytes().to_vec())));
    RedisLogin { username: Some(username.to_owned()), password }
}

async fn refusal(settings: RedisConfig) -> StoreError {
    match Redis::new(settings, Rules::default()).connect(0).await {
        Err(error) => error,
        Ok(_) => panic!("connected"),
    }
}

fn greeting() -> Call {
    let hello = Hello { acked: 0, errand: 0, name: "n".to_owned(), version: "v".to_owned() };
    Call { incarnation: Incarnation::new("i"), run: String::new(), seq: 1, request: Request::Hello(hello) }
}

async fn config(server: &Server, name: &str, value: &str) {
    let mut set = ::redis::cmd("CONFIG");
    let answer: ::redis::RedisResult<String> =
        set.arg("SET").arg(name).arg(value).query_async(&mut server.connect().await).await;
    answer.expect("CONFIG SET");
}

#[tokio::test]
async fn a_server_that_evicts_is_refused_with_the_remedy() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let error = refusal(server.settings("n")).await;
    assert!(matches!(error, StoreError::Unfit { .. }), "{error}");
    assert!(error.to_string().contains("set noeviction"), "{error}");
    config(&server, "maxmemory-policy", "noeviction").await;
    assert!(Redis::new(server.settings("n"), Rules::default()).connect(0).await.is_ok());
}

#[tokio::test]
async fn a_replica_is_refused_with_the_remedy_even_if_it_can_be_written_to() {
    let master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    for read_only in ["yes", "no"] {
        config(&replica, "replica-read-only", read_only).await;
        let error = refusal(replica.settings("n")).await;
        assert!(matches!(error, StoreError::Unfit { .. }), "{error}");
        assert!(error.to_string().contains("master (127.0.0.1)"), "{error}");
    }
}

/// What the reference of settings advises.
const LEAST_RIGHTS: &str = "~{homing:* &{homing:* +@read +@write +@scripting +@pubsub +@transaction +@connection \
                            -@dangerous +info +time +wait +config|get +cluster|slots +cluster|keyslot";

#[tokio::test]
async fn the_least_rights_that_the_reference_names_are_enough() {
    let reference: Vec<String> = Config::default_file().split_whitespace().map(str::to_owned).collect();
    let words: Vec<&str> = LEAST_RIGHTS.split_whitespace().collect();
    let named = reference.iter().filter(|word| *word != "#").map(String::as_str).collect::<Vec<_>>().join(" ");
    assert!(named.contains(&words.join(" ")), "the reference names other rights");
    let mut user = vec!["--user", "proxy", "on", ">word", "resetchannels"];
    user.extend(&words);
    let server = Server::start(&user);
    let settings = RedisConfig { login: login("proxy", "word"), ..server.settings("homing") };
    let store = Redis::new(settings, Rules::default());
    let mut connection = store.connect(0).await.expect("connection");
    assert!(matches!(connection.exchange(&[greeting()]).await.expect("answer")[..], [Reply::Hello(_)]));
    assert_eq!(store.census(0).await.expect("census").proxies.len(), 1);
    let mut heard = store.nudges(0, &Incarnation::new("x")).await.expect("nudges");
    let mut side = server.connect().await;
    while tokio::time::timeout(Duration::from_millis(10), heard.next()).await.is_err() {
        let published: ::redis::RedisResult<u32> =
            ::redis::cmd("PUBLISH").arg("{homing:0}:nudge").arg("x").query_async(&mut side).await;
        published.expect("PUBLISH");
    }
}

#[tokio::test]
async fn a_user_without_the_rights_is_told_which_and_how_to_grant_them() {
    let cases: [(&[&str], &[&str]); 5] = [
        (
            &["~{n:*", "&{n:*", "+@all", "-hget", "-wait"],
            &["\"proxy\" may not use HGET, WAIT;", "SETUSER proxy +hget +wait"],
        ),
        (&["~{n:*", "&{n:*", "+@all", "-script|load", "-info"], &["INFO, SCRIPT LOAD", "+info +script|load"]),
        (&["~other:*", "&{n:*", "+@all"], &["may not use keys {n:*;", "SETUSER proxy ~{n:*"]),
        (&["~{n:*", "resetchannels", "+@all"], &["may not use channels {n:*;", "SETUSER proxy &{n:*"]),
        (&["~{n:*", "&{n:*", "+@all", "-multi"], &["MULTI", "+@transaction"]),
    ];
    for (rights, parts) in cases {
        let mut user = vec!["--user", "proxy", "on", ">word"];
        user.extend(rights);
        let server = Server::start(&user);
        let error = refusal(RedisConfig { login: login("proxy", "word"), ..server.settings("n") }).await;
        assert!(matches!(error, StoreError::Unfit { .. }), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} is not in {error}");
        }
        let mut side = server.connect().await;
        let keys: ::redis::RedisResult<u64> = ::redis::cmd("DBSIZE").query_async(&mut side).await;
        assert_eq!(keys.expect("DBSIZE"), 0, "a refused user has written");
    }
}

#[tokio::test]
async fn a_proxy_with_another_number_of_shards_is_refused() {
    let server = Server::start(&[]);
    let with = |shards| RedisConfig { shards, ..server.settings("n") };
    Redis::new(with(4), Rules::default()).connect(0).await.map(drop).expect("the first decides");
    Redis::new(with(4), Rules::default()).connect(0).await.map(drop).expect("the second agrees");
    let error = refusal(with(3)).await;
    assert!(matches!(error, StoreError::Unfit { .. }), "{error}");
    assert!(error.to_string().contains("in 4 shards, but store.shards is 3"), "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_read_the_configuration_can_still_connect() {
    let server =
        Server::start(&["--requirepass", "word", "--user", "proxy", "on", ">word", "~*", "&*", "+@all", "-config"]);
    let settings =
        |username: &str, password: &str| RedisConfig { login: login(username, password), ..server.settings("n") };
    let store = Redis::new(settings("proxy", "word"), Rules::default());
    let mut connection = store.connect(0).await.expect("connection");
    assert!(matches!(connection.exchange(&[greeting()]).await.expect("answer")[..], [Reply::Hello(_)]));

    let error = refusal(settings("proxy", "s3cr3t")).await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let said = format!("{error} {error:?} {:?}", settings("proxy", "s3cr3t"));
    assert!(said.contains("authentication failed") && !said.contains("s3cr3t"), "{said}");
    assert!(matches!(
        refusal(server.settings("n")).await,
        StoreError::NoAnswer { .. } | StoreError::Unreachable { .. }
    ));
}

#[tokio::test]
async fn a_unix_socket_is_an_address_like_any_other() {
    let server = Server::start(&[]);
    let settings =
        RedisConfig { servers: RedisServers::One(StoreAddress::Unix(server.socket.clone())), ..server.settings("n") };
    let store = Redis::new(settings, Rules::default());
    let mut connection = store.connect(0).await.expect("connection");
    assert!(matches!(connection.exchange(&[greeting()]).await.expect("answer")[..], [Reply::Hello(_)]));
    assert_eq!(store.census(0).await.expect("census").proxies.len(), 1);
}

#[tokio::test]
async fn the_run_and_the_clock_are_the_servers_own() {
    let server = Server::start(&[]);
    let store = Redis::new(server.settings("n"), Rules::default());
    let mut connection = store.connect(0).await.expect("connection");
    let replies = connection.exchange(&[greeting()]).await.expect("answer");
    let [Reply::Hello(welcome)] = &replies[..] else { panic!("{replies:?}") };
    let info: String = ::redis::cmd("INFO").arg("server").query_async(&mut server.connect().await).await.expect("INFO");
    assert!(info.contains(&format!("run_id:{}", welcome.run)), "{welcome:?}");
    assert!(store.census(0).await.expect("census").recovering_ms.is_some_and(|ms| ms <= 4000));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let gone = Server::start(&[]).settings("n");
    let error = refusal(RedisConfig { timeout: Duration::from_secs(2), ..gone }).await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn any_error_of_the_server_spoils_the_whole_exchange() {
    let server = Server::start(&[]);
    let store = Redis::new(server.settings("n"), Rules::default());
    let mut connection = store.connect(0).await.expect("connection");
    let run = match &connection.exchange(&[greeting()]).await.expect("answer")[..] {
        [Reply::Hello(welcome)] => welcome.run.clone(),
        other => panic!("{other:?}"),
    };
    let next = |seq| Call { run: run.clone(), seq, request: Request::Claim(claim("anna")), ..greeting() };
    let mut side = server.connect().await;
    let flushed: ::redis::RedisResult<String> = ::redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut side).await;
    flushed.expect("SCRIPT FLUSH");
    let error = connection.exchange(&[next(2), next(3)]).await.expect_err("no scripts");
    assert!(error.to_string().contains("claim: NoScript"), "{error}");

    let mut connection = store.connect(0).await.expect("connection");
    config(&server, "maxmemory", "1mb").await;
    let error = connection.exchange(&[next(2)]).await.expect_err("out of memory");
    assert!(error.to_string().contains("OOM"), "{error}");
    config(&server, "maxmemory", "0").await;
    assert!(
        matches!(connection.exchange(&[next(2)]).await.expect("answer")[..], [Reply::Claim(_)]),
        "nothing was written"
    );

    drop(server);
    assert!(matches!(connection.exchange(&[next(3)]).await, Err(StoreError::NoAnswer { .. })));
}

#[tokio::test]
async fn two_namespaces_and_two_shards_know_nothing_of_each_other() {
    let server = Server::start(&[]);
    let (one, other) = (server.settings("one"), server.settings("other"));
    let store = Redis::new(one, Rules::default());
    let mut connection = store.connect(0).await.expect("connection");
    connection.exchange(&[greeting()]).await.expect("answer");
    assert_eq!(store.census(0).await.expect("census").proxies.len(), 1);
    assert_eq!(store.census(1).await.expect("census"), Census::default());
    assert_eq!(Redis::new(other, Rules::default()).census(0).await.expect("census"), Census::default());
}

fn hold() -> Order {
    Order::Mark(Mark { key: Key::new("anna"), change: MarkChange::Hold(0) })
}

/// A store with a memory.
async fn awake(server: &Server) -> Redis {
    let store = Redis::new(server.settings("n"), Rules::default());
    let mut connection = store.connect(0).await.expect("connection");
    connection.exchange(&[greeting()]).await.expect("answer");
    store
}

#[tokio::test]
async fn an_order_says_how_many_replicas_have_it() {
    let master = Server::start(&[]);
    let store = awake(&master).await;
    assert_eq!(store.order(0, &hold()).await.expect("answer").replicas, None, "there are none");
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let deadline = Instant::now() + Duration::from_secs(20);
    // A replica is connected before it has caught up; then it confirms.
    while store.order(0, &hold()).await.expect("answer").replicas != Some((1, 1)) {
        assert!(Instant::now() < deadline, "no replica confirms");
    }
    let nothing = Order::Move(moving("bob", Target::Elsewhere));
    assert_eq!(store.order(0, &nothing).await.expect("answer").replicas, None, "nothing was written");
    replica.pause();
    let ordered = store.order(0, &hold()).await.expect("answer");
    assert_eq!(ordered.replicas, Some((0, 1)), "what was ordered stands, and whoever ordered it is told");
    replica.resume();
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_scripts_is_taught_them_by_an_order() {
    let server = Server::start(&[]);
    let store = awake(&server).await;
    let mut side = server.connect().await;
    let flushed: ::redis::RedisResult<String> = ::redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut side).await;
    flushed.expect("SCRIPT FLUSH");
    assert_eq!(store.order(0, &hold()).await.expect("answer").outcome, Outcome::Mark(Marked::default()));
    config(&server, "maxmemory", "1kb").await;
    let errand = Order::Ask(Ask { text: "x".to_owned(), ttl: 1000 });
    let error = store.order(0, &errand).await.expect_err("out of memory");
    assert!(error.to_string().contains("ask: ") && error.to_string().contains("OOM"), "{error}");
}
